"""What senders write is found in samples and written down as settings; what no sample tells is asked, else text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from etl_project.declare import contracts
from etl_project.new_source import CannotUse, Made, make
from etl_project.new_source.column_types import Evidence, Guess, nobody


def guess(*values: str | None, column: str = "value", ask: Any = nobody) -> Guess:
    evidence = Evidence()
    evidence.see(pa.array(values, pa.string()))
    return evidence.guess_written(column, ask)


@pytest.mark.parametrize(
    ("values", "kind", "settings"),
    [
        (["1", "N/A", "2"], "BIGINT", {"null_values": ["N/A"]}),
        (["1.5", "-", "NULL"], "DECIMAL(18, 4)", {"null_values": ["-", "NULL"]}),
        ([" 12 ", "7"], "BIGINT", {"trim": True}),
        (["1.234,50", "12,5", "7"], "DECIMAL(18, 4)", {"decimal_separator": ",", "thousands_separator": "."}),
        (["12,5", "0,125"], "DECIMAL(18, 4)", {"decimal_separator": ","}),
        (["1,299,000", "12"], "BIGINT", {"thousands_separator": ","}),
        (["1 299.5", "12.0"], "DECIMAL(18, 4)", {"thousands_separator": " "}),
        (["1'299", "12"], "BIGINT", {"thousands_separator": "'"}),
        (["$1,299.00", "$5.00"], "DECIMAL(18, 4)", {"prefixes": ["$"], "thousands_separator": ","}),
        (["12.5 EUR", "7 EUR"], "DECIMAL(18, 4)", {"suffixes": ["EUR"]}),
        (["(12.50)", "7.00"], "DECIMAL(18, 4)", {"negatives": ["parentheses"]}),
        (["12.50-", "7.00"], "DECIMAL(18, 4)", {"negatives": ["trailing_minus"]}),
        (["50%", "12.5%"], "DECIMAL(18, 4)", {"percent": "fraction"}),
        (["Y", "N", "Y"], "BOOLEAN", {"true_values": ["Y"], "false_values": ["N"]}),
        (["Y", "N", "1", "TRUE"], "BOOLEAN", {"true_values": ["Y"], "false_values": ["N"]}),
        (["ja", "nein"], "BOOLEAN", {"true_values": ["ja"], "false_values": ["nein"]}),
        (["21.03.2025", "1.4.2025"], "DATE", {"date_format": ["%d.%m.%Y"]}),
        (["03.04.2025", "04.05.2025"], "DATE", {"date_format": ["%d.%m.%Y"]}),
        (["03/04/2025", "21/03/2025"], "DATE", {"date_format": ["%d/%m/%Y"]}),
        (["03/04/2025", "03/21/2025"], "DATE", {"date_format": ["%m/%d/%Y"]}),
        (["2025-03-20", "21/03/2025"], "DATE", {"date_format": ["iso", "%d/%m/%Y"]}),
        (["20-Mar-2025", "1-APR-2025"], "DATE", {"date_format": ["%d-%b-%Y"]}),
        (["21.03.2025 12:30", "1.4.2025 7:05"], "TIMESTAMP WITH TIME ZONE", {"timestamp_format": ["%d.%m.%Y %H:%M"]}),
        (["3/21/2025 1:05 PM"], "TIMESTAMP WITH TIME ZONE", {"timestamp_format": ["%m/%d/%Y %I:%M %p"]}),
        (["2025-03-20 23:00", "2025-03-20 24:00"], "TIMESTAMP WITH TIME ZONE", {"hour_24": True}),
        # Codes, versions, words and what contradicts itself stay text.
        (["A12", "B7"], "VARCHAR", {}),
        (["1.10.22", "2.0.1"], "VARCHAR", {}),
        (["N", "N"], "VARCHAR", {}),
        (["1,5", "1.5,0,0"], "VARCHAR", {}),
        (["21/03/2025", "03/21/2025"], "VARCHAR", {}),
        (["N/A", "-"], "VARCHAR", {}),
        (["North", "N/A"], "VARCHAR", {}),
    ],
)
def test_the_way_in_which_a_column_is_written_is_found(values: list[str], kind: str, settings: dict[str, Any]) -> None:
    found = guess(*values)
    assert (found.type, dict(found.settings)) == (kind, settings)
    assert found.nullable == ("null_values" in settings)


@pytest.mark.parametrize(
    ("column", "values", "kind", "settings"),
    [
        ("order_date", ["20250320", "20250321"], "DATE", {"date_format": "%Y%m%d"}),
        ("created_at", ["1710000000"], "TIMESTAMP WITH TIME ZONE", {"timestamp_format": "epoch_seconds"}),
        ("ts", ["1710000000123"], "TIMESTAMP WITH TIME ZONE", {"timestamp_format": "epoch_milliseconds"}),
        ("order_date", ["20167", "20168"], "DATE", {"date_format": "epoch_days"}),
        ("order_date", ["45736"], "BIGINT", {}),
        ("day_count", ["20167"], "BIGINT", {}),
        ("amount", ["20250320"], "BIGINT", {}),
        ("order_date", ["20251320"], "BIGINT", {}),
    ],
)
def test_numbers_are_times_only_where_size_and_name_agree(
    column: str, values: list[str], kind: str, settings: dict[str, Any]
) -> None:
    found = guess(*values, column=column)
    assert (found.type, dict(found.settings)) == (kind, settings)


def test_what_nothing_tells_is_asked_and_stays_text_without_an_answer() -> None:
    asked: list[str] = []

    def person(question: str, answers: Sequence[str]) -> str | None:
        asked.append(question)
        return answers[1]

    for values, settings in (
        (("03/04/2025", "05/06/2025"), {"date_format": ["%m/%d/%Y"]}),
        (("1,299", "2,500"), {"decimal_separator": ","}),
    ):
        assert guess(*values).type == "VARCHAR"
        assert dict(guess(*values, ask=person).settings) == settings
    assert "third of April" in asked[0] and "1,299" in asked[1]


def test_a_null_marker_among_words_is_left_and_said() -> None:
    found = guess("North", "N/A", "South")
    assert (found.type, dict(found.settings)) == ("VARCHAR", {})
    assert "'N/A' stays text; null_values would take it as missing" in found.notes
    assert guess("North", "South").notes == ()


GERMAN = "id;Datum;Betrag\n1;21.03.2025;1.234,50\n2;22.03.2025;-\n3;;12,50\n"


def written(made: Made) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((made.folder / "defs.yaml").read_text())["attributes"]
    return found


def types(made: Made) -> dict[str, str]:
    columns = contracts.read(made.folder / "contract.sql")[made.folder.name].columns
    return {column.name: column.type for column in columns}


def test_a_german_export_becomes_a_source_that_accepts_it(tmp_path: Path) -> None:
    path = tmp_path / "bookings_2025-03-21.csv"
    path.write_text(GERMAN)
    made = make("bookings", path, tmp_path / "pipelines")
    assert (made.accepted, made.rejected) == (3, 0)
    assert types(made)["datum"] == "DATE" and types(made)["betrag"].startswith("DECIMAL")
    assert written(made)["column_settings"] == {
        "datum": {"date_format": ["%d.%m.%Y"]},
        "betrag": {"null_values": ["-"], "decimal_separator": ",", "thousands_separator": "."},
    }
    assert any(point.startswith("betrag: null_values") for point in made.review)


def test_several_samples_or_a_folder_say_together_what_a_column_is(tmp_path: Path) -> None:
    folder = tmp_path / "year"
    folder.mkdir()
    (folder / "weather_2025-03-01.csv").write_text("hour,temp\n1,5\n2,6\n")
    (folder / "weather_2025-03-02.csv").write_text("hour,temp,wind\n1,5.5,3\n2,NA,4\n")
    (folder / ".hidden").write_text("nothing")
    with_accents = b"hour,temp,wind\n1,7.25,5\n" + b"2,,\xfc\n"
    (folder / "weather_2025-03-03_b.csv").write_bytes(with_accents)
    (folder / "weather_2025-03-04_b.csv").write_text("hour,temp,wind\n1,7.25,5\n2,é,3\n")
    for paths in (folder, sorted(folder.glob("*.csv"))):
        made = make("weather", paths, tmp_path / ("a" if paths == folder else "b"))
        found = written(made)
        assert made.samples == 4
        assert found["patterns"] == ["weather_{date}.csv", "weather_{date}_b.csv"]
        assert found["encoding"] == ["utf-8", "cp1252"]
        assert found["optional"] == ["wind"]
        assert (made.accepted, made.rejected) == (8, 0)


def test_null_markers_that_only_a_later_sample_has_are_written(tmp_path: Path) -> None:
    one, other = tmp_path / "w_2025-03-01.csv", tmp_path / "w_2025-03-02.csv"
    one.write_text("hour,temp\n1,5\n")
    other.write_text("hour,temp\n1,NA\n2,6.5\n")
    made = make("w", [one, other], tmp_path / "pipelines")
    assert types(made)["temp"].startswith("DECIMAL") and written(made)["column_settings"]["temp"] == {
        "null_values": ["NA"]
    }
    assert (made.accepted, made.rejected) == (3, 0)


def test_a_last_line_that_looks_like_a_total_is_to_be_reviewed(tmp_path: Path) -> None:
    path = tmp_path / "sales_2025-03-21.csv"
    rows = "shop,article,amount\nNorth,A1,10.00\nTotal Eclipse,A1,1.00\nSouth,B2,5.50\n"
    path.write_text(rows)
    assert not [point for point in make("a", path, tmp_path / "pipelines").review if "total" in point]
    path.write_text(rows + "Grand Total,,16.50\n")
    said = [point for point in make("b", path, tmp_path / "pipelines").review if "total" in point]
    assert len(said) == 1 and "'Grand Total,,16.50'" in said[0] and "skip_rows_where" in said[0]


def test_rejects_of_all_samples_are_shown(tmp_path: Path) -> None:
    for day in (1, 2, 3):
        broken = "1,2,3\n" if day > 1 else ""
        (tmp_path / f"w_2025-03-0{day}.csv").write_text("hour,temp\n" + "1,5\n" * 200 + broken)
    made = make("w", sorted(tmp_path.glob("*.csv")), tmp_path / "pipelines")
    assert (made.accepted, made.rejected) == (600, 2)
    said = [point for point in made.review if point.startswith("rejected rows")]
    assert "2 of 3 samples have some; the first is w_2025-03-02.csv: line 202" in said[0]
    assert "w_2025-03-03.csv" in said[1]


def test_samples_that_do_not_go_together_are_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "w_2025-03-01.csv").write_text("hour,temp\n1,5\n")
    (tmp_path / "w_2025-03-02.csv").write_text("hour;temp\n1;5\n")
    with pytest.raises(CannotUse, match="their delimiter is ',' and ';'"):
        make("w", tmp_path, tmp_path / "pipelines")
    (tmp_path / "none").mkdir()
    with pytest.raises(CannotUse, match="name a sample file, or a folder"):
        make("w", tmp_path / "none", tmp_path / "pipelines")


def test_missing_numbers_of_a_parquet_file_become_a_setting(tmp_path: Path) -> None:
    path = tmp_path / "w_2025-03-01.parquet"
    pq.write_table(pa.table({"share": [0.5, float("nan")], "big": pa.array([1, 2], pa.decimal256(50, 2))}), path)
    made = make("w", path, tmp_path / "pipelines")
    assert (made.accepted, made.rejected) == (2, 0)
    assert written(made)["column_settings"] == {"share": {"null_values": ["nan"]}}
    assert types(made)["big"] == "VARCHAR"
