"""Which records are rows: totals and trailers are counted, never stored; one bad row never costs a day."""

from __future__ import annotations

import re
import time
from datetime import UTC, date, datetime
from decimal import Decimal
from itertools import repeat
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from etl_project.sources.component import FileSource
from etl_project.sources.intake import quarantine
from etl_project.sources.intake.archive import Accepted
from etl_project.sources.reading import judge, members
from etl_project.sources.reading.file_format import FileFormat, SourceFile
from etl_project.sources.reading.formats import FORMATS
from etl_project.sources.reading.judge import FileRefused
from etl_project.sources.reading.rows import twins
from etl_project.sources.reading.rows.row_settings import Computed, RowSettings
from etl_project.sources.reading.values.value_settings import ValueSettings
from etl_project.sources.spec import SourceColumn, SourceSpec, SpecError
from etl_project_tests.projects import source_project
from etl_project_tests.unit.sources.world import DAY, all_rejects, all_rows, lines, read, spec

SALES = (
    "CREATE TABLE sales (batch_date DATE NOT NULL, shop VARCHAR NOT NULL, article VARCHAR, "
    "amount DECIMAL(12, 2) NOT NULL);"
)
SALES_DEFS = {
    "name": "sales",
    "patterns": ["sales_{date}*.csv"],
    "columns": {"shop": "shop", "article": "article", "amount": "amount"},
}
TOTAL_LINE = "shop,article,amount\nNorth,A1,10.00\nSouth,B2,5.50\nGrand Total,,15.50\n"
CHECK = "rows_in_equal_rows_stored_and_rejected"


def skipped(batches: list[judge.Batch]) -> list[int]:
    return [line for batch in batches for line in batch.skipped["source_line"].to_pylist()]


@pytest.mark.parametrize(
    "words", [{"skip_rows_where": "shop = 'Grand Total'"}, pytest.param({"footer_lines": 1}, marks=pytest.mark.long)]
)
def test_a_total_line_is_counted_and_not_stored_and_a_rerun_gives_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: dict[str, Any]
) -> None:
    expect = {"rows": "2", "sum(amount)": "amount"}
    with source_project(tmp_path, {**SALES_DEFS, **words, "expect": expect}, SALES, monkeypatch) as project:
        for _ in range(2):
            project.drop("sales_2025-03-21.csv", TOTAL_LINE)
            assert not project.drain().failed
            assert project.query("select count(*), sum(amount) from sales") == [(2, Decimal("15.50"))]
            assert project.query("select count(*) from sales_rejects") == [(0,)]
        day = date(2025, 3, 21)
        assert project.checks(day, day, CHECK) == {CHECK: True}


def test_a_trailer_of_another_width_is_known_by_its_text(tmp_path: Path) -> None:
    content = lines("1,1,,x", "2,2,,y") + b"EOF 0000002\n"
    for rows in (RowSettings(skip_rows_where="raw_text like 'EOF %'"), RowSettings(footer_lines=1)):
        batches = read(content, tmp_path, spec(rows=rows))
        assert (len(all_rows(batches)), all_rejects(batches), skipped(batches)) == (2, [], [4])
    # The columns of a record without columns are not NULL to the expression: they are not there.
    lenient = spec(rows=RowSettings(skip_rows_where="note is null"), max_rejected_ratio=1.0)
    assert [row["source_line"] for row in all_rejects(read(content, tmp_path, lenient))] == [4]


@pytest.mark.parametrize("count", [0, 1, 2, 3, 7])
def test_the_last_records_are_left_out_wherever_the_file_is_cut_into_chunks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    monkeypatch.setattr("etl_project.sources.reading.compression.PIECE_BYTES", 11)
    source = spec(rows=RowSettings(footer_lines=3), max_rejected_ratio=1.0)
    content = lines(*(f'{number},1,,"a\nb"' for number in range(count)), "", "broken", "8,1,,x", "9,9", "")
    batches = read(content, tmp_path, source)
    assert [row["id"] for row in all_rows(batches)] == list(range(count))
    assert (all_rejects(batches), len(skipped(batches))) == ([], 3)
    path = tmp_path / "content"
    assert judge.count_rows(source, Accepted("a.csv", 1, "", str(path))) == (count + 3, 3)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (lines("1,1,,x", "2,2,,y") + b"EOF 3\n", "rows is 2, the file says 3"),
        (lines("1,1,,x", "2,2,,y"), "the file does not say its rows"),
        (lines("1,1,,x") + b"EOF 1\nEOF 2\n", "the file says '1' and '2' for its rows"),
        (lines("1,1,,x") + b"EOF one\n", "the file does not say its rows"),
    ],
)
def test_a_file_that_does_not_hold_what_its_trailer_says_is_refused(tmp_path: Path, content: bytes, says: str) -> None:
    rows = RowSettings(skip_rows_where="raw_text like 'EOF%'", expect={"rows": r"regexp_extract(raw_text, '\d+')"})
    with pytest.raises(FileRefused) as refused:
        read(content, tmp_path, spec(rows=rows))
    assert refused.value.reason == "control totals differ" and says in refused.value.found


def test_totals_are_compared_exactly_in_the_way_the_sender_writes_numbers(tmp_path: Path) -> None:
    german = {"amount": ValueSettings(decimal_separator=",", thousands_separator=".")}
    expect = {"sum(amount)": "amount", "max(amount)": "'1.000,5'", "min(id)": "id", "count(note)": "note"}
    rows = RowSettings(footer_lines=1, expect=expect)
    good = lines('1,"1.000,50",,x', '2,"0,01",,', '1,"1.000,51",,1')
    assert len(all_rows(read(good, tmp_path, spec(rows=rows, column_values=german)))) == 2
    with pytest.raises(FileRefused, match=r"sum\(amount\) is 1000.51, the file says 1.000,52"):
        read(good.replace(b"000,51", b"000,52"), tmp_path, spec(rows=rows, column_values=german))


def test_a_sum_that_a_rejected_row_is_missing_from_does_not_pass(tmp_path: Path) -> None:
    rows = RowSettings(footer_lines=1, expect={"sum(amount)": "amount"})
    with pytest.raises(FileRefused, match="control totals differ"):
        read(lines("1,1,,", "x,1,,", "1,2,,"), tmp_path, spec(rows=rows, max_rejected_ratio=1.0))


BOOKINGS = (
    "CREATE TABLE bookings (batch_date DATE NOT NULL, booking_id BIGINT NOT NULL, booked_text VARCHAR, "
    "amount_text VARCHAR, booked_on DATE NOT NULL, amount DECIMAL(12, 2) NOT NULL CHECK (amount < 9000));"
)
BOOKINGS_DEFS = {
    "name": "bookings",
    "patterns": ["bookings_{date}.csv"],
    "delimiter": ";",
    "columns": {"Buchung": "booking_id", "Datum": "booked_text", "Betrag": "amount_text"},
    "computed": {
        "booked_on": "strptime(booked_text, '%d.%m.%Y')::date",
        "amount": "replace(replace(amount_text, '.', ''), ',', '.')",
    },
}


def bookings(*last: str) -> str:
    good = (f"{number};20.03.2025;1.234,{number % 100:02}" for number in range(1, 401))
    return "Buchung;Datum;Betrag\n" + "".join(f"{line}\n" for line in (*good, *last))


def test_a_value_that_cannot_be_computed_costs_its_row_and_never_the_day(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with source_project(tmp_path, BOOKINGS_DEFS, BOOKINGS, monkeypatch) as project:
        for _ in range(2):
            project.drop(
                "bookings_2025-03-20.csv", bookings("401;00.00.0000;1,00", "402;20.03.2025;-", "403;;9.001,00")
            )
            assert not project.drain().failed
            assert project.query("select count(*), sum(amount) from bookings") == [(400, Decimal("493798.00"))]
            rejects = project.query(
                "select source_line, column_name, reason, raw_text from bookings_rejects order by 1"
            )
        assert [row[:2] for row in rejects] == [(402, "booked_on"), (403, "amount"), (404, "booked_on")]
        assert "gives no DATE for booked_text = '00.00.0000'" in rejects[0][2]
        assert "gives no DECIMAL(12,2) for amount_text = '-'" in rejects[1][2]
        assert "gives NULL, and the column is NOT NULL for booked_text = NULL" in rejects[2][2]
        assert rejects[0][3] == "401;00.00.0000;1,00"
        day = date(2025, 3, 20)
        assert project.checks(day, day, CHECK) == {CHECK: True}


def test_a_row_that_breaks_a_check_of_the_contract_is_a_reject_up_to_the_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with source_project(tmp_path, BOOKINGS_DEFS, BOOKINGS, monkeypatch) as project:
        project.drop("bookings_2025-03-20.csv", bookings("401;20.03.2025;9.001,00"))
        assert not project.drain().failed
        assert project.query("select count(*) from bookings") == [(400,)]
        [(column, reason)] = project.query("select column_name, reason from bookings_rejects")
        assert column == "amount" and reason == "breaks CHECK ((amount < 9000)) for amount = 9001.00"
        project.drop("bookings_2025-03-21.csv", "Buchung;Datum;Betrag\n1;21.03.2025;9.001,00\n")
        project.drain()
        assert len(quarantine.listing(project.data / "quarantine")) == 1
        assert project.query("select count(*) from bookings") == [(400,)]


def test_rows_belong_to_the_day_of_a_computed_column_and_repeat_each_other_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = {"event_column": "booked_on", "lateness_days": 1, "deduplicate_on": ["booking_id", "amount"]}
    with source_project(
        tmp_path, {**BOOKINGS_DEFS, **late, "max_rejected_ratio": 0.5}, BOOKINGS, monkeypatch
    ) as project:
        text = "Buchung;Datum;Betrag\n1;20.03.2025;1,00\n1;20.03.2025;1,0\n2;19.03.2025;2,00\n3;18.03.2025;3,00\n"
        project.drop("bookings_2025-03-20.csv", text)
        assert not project.drain().failed
        stored = project.query("select batch_date, booking_id, booked_on, amount from bookings order by 1")
        assert stored == [
            (date(2025, 3, 19), 2, date(2025, 3, 19), Decimal("2.00")),
            (date(2025, 3, 20), 1, date(2025, 3, 20), Decimal("1.00")),
        ]
        [(column, reason)] = project.query("select column_name, reason from bookings_rejects")
        assert column == "booked_on" and "its day 2025-03-18 lies before 2025-03-19" in reason
        first, last = date(2025, 3, 19), date(2025, 3, 20)
        assert project.checks(first, last, CHECK) == {CHECK: True}


PRICES = (
    "CREATE TABLE prices (batch_date DATE NOT NULL, area VARCHAR NOT NULL, valid_from TIMESTAMPTZ NOT NULL, "
    "price DECIMAL(9, 2) NOT NULL, PRIMARY KEY (batch_date, area, valid_from));"
)
PRICES_DEFS = {
    "name": "prices",
    "patterns": ["prices_{date}*.csv"],
    "time_zone": "Europe/Brussels",
    "columns": {"area": "area", "from": "valid_from", "price": "price"},
    "max_rejected_ratio": 0.5,
}
OCTOBER = """area,from,price
BE,2025-10-26 01:00,49.10
BE,2025-10-26 02:00,85.10
NL,2025-10-26 02:00,1.00
BE,2025-10-26 02:00,14.10
BE,2025-10-26T01:00:00Z,99.00
NL,2025-10-26 02:00,2.00
BE,2025-10-26 03:00,17.10
"""


def at(hour: int) -> datetime:
    return datetime(2025, 10, 26, hour, tzinfo=UTC) if hour >= 0 else datetime(2025, 10, 25, 24 + hour, tzinfo=UTC)


def test_the_second_of_a_repeated_hour_in_file_order_is_the_later_one_in_each_series(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = {**PRICES_DEFS, "repeated_hour": "in_file_order"}
    content = OCTOBER.replace("BE,2025-10-26T01:00:00Z,99.00\n", "BE,2025-10-26T00:30:00Z,99.00\n")
    with source_project(tmp_path, words, PRICES, monkeypatch) as project:
        for _ in range(2):
            project.drop("prices_2025-10-26.csv", content)
            assert not project.drain().failed
            found = project.query("select area, valid_from, price from prices order by 1, 2")
            assert [(area, moment.astimezone(UTC), float(price)) for area, moment, price in found] == [
                ("BE", at(-1), 49.1),
                ("BE", at(0), 85.1),
                ("BE", datetime(2025, 10, 26, 0, 30, tzinfo=UTC), 99.0),
                ("BE", at(1), 14.1),
                ("BE", at(2), 17.1),
                ("NL", at(0), 1.0),
                ("NL", at(1), 2.0),
            ]


def test_a_third_time_of_a_repeated_hour_is_a_reject_wherever_the_chunks_are_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("etl_project.sources.reading.compression.PIECE_BYTES", 11)
    source = SourceSpec(
        "prices",
        ("{date}",),
        {"from": "valid_from"},
        (SourceColumn("valid_from", "TIMESTAMP WITH TIME ZONE", nullable=False),),
        date(2024, 1, 1),
        time_zone="Europe/Brussels",
        max_rejected_ratio=1.0,
        values=ValueSettings(repeated_hour="in_file_order"),
    )
    batches = read(b"from\n" + b"2025-10-26 02:00\n" * 3, tmp_path, source)
    assert [row["valid_from"].hour for row in all_rows(batches)] == [0, 1]
    (reject,) = all_rejects(batches)
    assert reject["source_line"] == 4 and "comes a third time in its series" in reject["reason"]


@pytest.mark.parametrize(
    ("which", "kept", "rejected"),
    [
        pytest.param("first", ["49.10", "85.10", "17.10"], [4], marks=pytest.mark.long),
        ("last", ["49.10", "14.10", "17.10"], [3]),
        ("reject", ["49.10", "17.10"], [3, 4]),
    ],
)
def test_rows_that_share_a_key_are_rejects_as_the_source_says_and_never_cost_the_day(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, which: str, kept: list[str], rejected: list[int]
) -> None:
    content = "".join(line for line in OCTOBER.splitlines(keepends=True) if "NL" not in line and "Z" not in line)
    with source_project(tmp_path, {**PRICES_DEFS, "on_duplicate_key": which}, PRICES, monkeypatch) as project:
        for _ in range(2):
            project.drop("prices_2025-10-26.csv", content)
            assert not project.drain().failed
            assert [str(price) for (price,) in project.query("select price from prices order by valid_from")] == kept
            found = project.query("select source_line, column_name, reason, raw_text from prices_rejects order by 1")
            assert [row[0] for row in found] == rejected
        other = 3 if rejected[0] == 4 else 4
        assert f"is that of line {other} of prices_2025-10-26.csv too" in found[0][2]
        assert "area = BE" in found[0][2] and f"(on_duplicate_key: {which})" in found[0][2]
        assert found[0][3] == content.splitlines()[rejected[0] - 1]
        day = date(2025, 10, 26)
        assert project.checks(day, day, CHECK) == {CHECK: True}


def test_without_the_setting_the_day_is_refused_and_the_error_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with source_project(tmp_path, PRICES_DEFS, PRICES, monkeypatch) as project:
        project.drop("prices_2025-10-26.csv", OCTOBER)
        assert project.drain().failed
        instance = project.deployment.instance
        failures = [
            str(event.dagster_event.step_failure_data.user_failure_data or event.dagster_event.step_failure_data.error)
            for run in instance.get_runs()
            for event in instance.all_logs(run.run_id, dg.DagsterEventType.STEP_FAILURE)
            if event.dagster_event is not None
        ]
        assert any("on_duplicate_key" in text and "repeated_hour" in text for text in failures), failures


def test_twins_in_two_files_of_a_day_are_found_too_and_the_day_says_which(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with source_project(tmp_path, {**PRICES_DEFS, "on_duplicate_key": "last"}, PRICES, monkeypatch) as project:
        header = "area,from,price\n"
        project.drop("prices_2025-03-20_a.csv", f"{header}BE,2025-03-20 02:00,1\nBE,2025-03-20 03:00,2\n")
        project.drop("prices_2025-03-20_b.csv", f"{header}BE,2025-03-20 02:00,3\nBE,2025-03-20 04:00,4\n")
        assert not project.drain().failed
        assert [int(price) for (price,) in project.query("select price from prices order by valid_from")] == [3, 2, 4]
        [(file, reason)] = project.query("select source_file, reason from prices_rejects")
        assert file == "prices_2025-03-20_a.csv" and "line 2 of prices_2025-03-20_b.csv too; the last is kept" in reason


def test_rows_that_lose_against_a_file_that_came_later_cost_an_accepted_file_nothing(tmp_path: Path) -> None:
    rows = RowSettings(
        keys=(("id",),), on_duplicate_key="last", skip_rows_where="note = 'total'", expect={"sum(amount)": "amount"}
    )
    source = spec(rows=rows, max_rejected_ratio=0.0)
    files = []
    for name in ("a", "b"):
        path = tmp_path / name
        path.write_bytes(lines("1,1.50,2024-03-05 10:00:00,x", "2,1.50,2024-03-05 10:00:00,y", ",3.00,,total"))
        assert not [one for one in judge.read(path, source, f"{name}-2024-03-05.csv", DAY) if one.rejects.num_rows]
        files.append(SourceFile(path, f"{name}-2024-03-05.csv", DAY, accepted=True))
    of_day = [list(judge.read_file(*one)) for one in zip(files, repeat(source), judge.twins_of(source, files))]
    counts = [[sum(getattr(one, kind).num_rows for one in each) for kind in ("rows", "rejects")] for each in of_day]
    assert counts == [[0, 2], [2, 0]]


def test_a_key_may_name_computed_columns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    contract = BOOKINGS.replace(");", ", PRIMARY KEY (batch_date, booked_on, booking_id));")
    words = {**BOOKINGS_DEFS, "on_duplicate_key": "first", "max_rejected_ratio": 0.5}
    with source_project(tmp_path, words, contract, monkeypatch) as project:
        text = "Buchung;Datum;Betrag\n1;20.03.2025;1,00\n1;20.3.2025;2,00\n1;19.03.2025;3,00\n"
        project.drop("bookings_2025-03-20.csv", text)
        assert not project.drain().failed
        assert [int(amount) for (amount,) in project.query("select amount from bookings order by 1")] == [1, 3]
        [(line, reason)] = project.query("select source_line, reason from bookings_rejects")
        assert line == 3 and "booked_on = 2025-03-20, booking_id = 1" in reason


def test_more_twins_than_allowed_refuse_the_file_and_the_old_rows_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = {**PRICES_DEFS, "on_duplicate_key": "reject", "max_rejected_ratio": 0.1}
    with source_project(tmp_path, words, PRICES, monkeypatch) as project:
        header = "area,from,price\n"
        project.drop("prices_2025-03-20.csv", f"{header}BE,2025-03-20 02:00,1\n")
        assert not project.drain().failed
        project.drop("prices_2025-03-20.csv", f"{header}BE,2025-03-20 02:00,1\nBE,2025-03-20 02:00,2\n")
        project.drain()
        assert len(quarantine.listing(project.data / "quarantine")) == 1
        assert project.query("select price from prices") == [(Decimal("1.00"),)]


def test_sql_that_cannot_be_run_is_one_line_with_its_key_when_the_source_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "contract.sql").write_text(SALES)
    for words, says in (
        ({"skip_rows_where": "shp = 'x'"}, "skip_rows_where: Binder Error"),
        ({"skip_rows_where": "shop ="}, "skip_rows_where: Parser Error"),
        ({"footer_lines": 1, "expect": {"rows": "nothing"}}, "expect.rows: Binder Error"),
        ({"footer_lines": 1, "expect": {"sum(price)": "1"}}, "expect names 'sum(price)'"),
        ({"expect": {"rows": "1"}}, "expect needs footer_lines or skip_rows_where"),
        ({"footer_lines": -1}, "footer_lines is -1"),
        ({"on_duplicate_key": "first"}, "needs a key in the contract, like PRIMARY KEY (batch_date, id)"),
        ({"repeated_hour_by": ["nothing"]}, "repeated_hour_by names 'nothing'"),
    ):
        with pytest.raises(SpecError) as refused:
            FileSource(**{**SALES_DEFS, **words}).spec(tmp_path)
        assert says in str(refused.value) and str(refused.value).startswith(str(tmp_path / "defs.yaml"))
        assert "\n" not in str(refused.value)
    with pytest.raises(SpecError, match=re.escape("computed.amount: Binder Error")):
        columns = {"shop": "shop", "article": "article"}
        FileSource(**{**SALES_DEFS, "columns": columns, "computed": {"amount": "prize * 2"}}).spec(tmp_path)


def test_a_column_computed_from_other_rows_is_none_of_a_single_rows_business(tmp_path: Path) -> None:
    (tmp_path / "contract.sql").write_text(
        SALES.replace("amount DECIMAL(12, 2)", "line_no BIGINT NOT NULL CHECK (line_no > 0), amount DECIMAL(12, 2)")
    )
    words = {**SALES_DEFS, "computed": {"line_no": "row_number() over (order by source_line)"}}
    source = FileSource(**words).spec(tmp_path)
    assert [one.of_one_row for one in source.rows.computed] == [False]
    assert source.rows.checks == ()
    with pytest.raises(SpecError, match="deduplicate_on names 'line_no'"):
        FileSource(**{**words, "deduplicate_on": ["line_no"]}).spec(tmp_path)


def test_the_day_of_a_row_cannot_be_computed_from_the_day_that_it_decides(tmp_path: Path) -> None:
    (tmp_path / "contract.sql").write_text(BOOKINGS)
    computed = {**BOOKINGS_DEFS["computed"], "booked_on": "batch_date - 1"}  # type: ignore[dict-item]
    with pytest.raises(SpecError, match="event_column booked_on is computed from batch_date"):
        FileSource(**{**BOOKINGS_DEFS, "computed": computed, "event_column": "booked_on"}).spec(tmp_path)


def test_times_are_utc_to_the_sql_of_a_source_whatever_the_machine_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "Asia/Shanghai")
    time.tzset()
    try:
        computed = (Computed("day", "VARCHAR", True, "strftime(sold_at, '%Y-%m-%d %H')"),)
        checks = ("(day = '2024-03-05 23')",)
        source = spec(rows=RowSettings(computed=computed, checks=checks), time_zone="UTC")
        assert len(all_rows(read(lines("1,1,2024-03-05 23:30:00,x"), tmp_path, source))) == 1
    finally:
        monkeypatch.undo()
        time.tzset()


def test_a_row_with_two_faults_is_one_reject_with_both_reasons(tmp_path: Path) -> None:
    computed = tuple(Computed(name, "INTEGER", True, "note::integer") for name in ("a", "b"))
    source = spec(rows=RowSettings(computed=computed), max_rejected_ratio=1.0)
    batches = read(lines("1,1,,7", "2,2,,x", "3,3,,"), tmp_path, source)
    assert [row["id"] for row in all_rows(batches)] == [1, 3]
    (reject,) = all_rejects(batches)
    assert (reject["column_name"], reject["reason"].count("gives no INTEGER for note = 'x'")) == ("a", 2)


def test_settings_that_are_not_used_cost_no_database_and_no_second_reading(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*_: Any) -> None:
        raise AssertionError("not needed")

    monkeypatch.setattr("etl_project.sources.reading.rows.row_sql.duckdb.connect", none)
    opened = []

    def chunks(*given: Any) -> Any:
        opened.append(1)
        return FORMATS["csv"].chunks(*given)

    monkeypatch.setattr(members, "FORMATS", {"csv": FileFormat(chunks)})
    assert len(all_rows(read(lines("1,1,,x"), tmp_path))) == 1
    assert len(opened) == 1


def test_keys_that_do_not_fit_into_memory_lie_under_the_data_folder_and_nothing_is_left_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ETL_DATA_DIR", str(tmp_path))
    with twins._database() as connection:
        [(spilled,)] = connection.execute("SELECT current_setting('temp_directory')").fetchall()
        assert Path(spilled).is_relative_to(tmp_path / ".etl-scratch")
    assert list(tmp_path.iterdir()) == []
