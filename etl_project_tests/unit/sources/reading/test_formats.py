"""Tab-separated, JSON Lines and Parquet files: the same rows and the same rules as CSV."""

from __future__ import annotations

import gzip
import io
import json
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from etl_project.sources.reading.formats import FORMATS
from etl_project.sources.reading.judge import FileRefused
from etl_project.sources.reading.layout import Layout
from etl_project.sources.spec import SpecError
from etl_project_tests.unit.sources.world import all_rejects, all_rows, read, spec

TSV = spec(format="tsv", max_rejected_ratio=1.0)
JSONL = spec(format="jsonl", max_rejected_ratio=1.0)
PARQUET = spec(format="parquet", max_rejected_ratio=1.0)
naive = datetime.fromisoformat
FULL = {"id": 1, "amount": 1.5, "at": "2024-07-01 10:00:00", "note": "ä"}


def jsonl(*records: Any) -> bytes:
    return "".join((one if isinstance(one, str) else json.dumps(one)) + "\n" for one in records).encode()


def parquet(**columns: pa.Array) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue()


def test_a_tab_separated_file_may_hold_commas(tmp_path: Path) -> None:
    (row,) = all_rows(read(b'id\tamount\tat\tnote\n1\t1.5\t\t"a,\tb"\n', tmp_path, TSV))
    assert (row["id"], row["note"]) == (1, "a,\tb")


def test_json_lines_give_the_rows_that_csv_gives(tmp_path: Path) -> None:
    content = jsonl(FULL, "", {"note": None, "id": "17850.0"}, '{"id": 3, "amount": 2.50, "note": ""}')
    expected = [
        (1, Decimal("1.50"), datetime(2024, 7, 1, 9, tzinfo=UTC), "ä", 1),
        (17850, None, None, None, 3),
        (3, Decimal("2.50"), None, "", 4),
    ]
    for name, file in (("a.jsonl", content), ("a.jsonl.gz", gzip.compress(content))):
        found = all_rows(read(file, tmp_path, JSONL, name))
        assert [(r["id"], r["amount"], r["sold_at"], r["note"], r["source_line"]) for r in found] == expected


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("not json", "no JSON: Expecting value"),
        ("[1]", "JSON, but no object"),
        ('{"id": 1, "id": 2}', "the key 'id' is repeated"),
        ('{"id": 1, "more": 2}', "the key 'more' is not expected"),
        ('{"id": {"a": 1}}', "the value of 'id' is nested"),
        ('{"id": [1]}', "the value of 'id' is nested"),
        ('{"id": 1, "note": "\\ud800"}', "no valid Unicode"),
        ('{"id": NaN}', "id: 'NaN' is no INTEGER"),
        ('{"id": 1.5}', "id: '1.5' is no INTEGER"),
        ('{"id": true}', "id: 'true' is no INTEGER"),
        ('{"id": ""}', "id: '' is no INTEGER"),
        ('{"id": null}', "id: empty"),
        ("{}", "id: empty"),
        ("[" * 100_000, "nested too deeply"),
        ('{"id": 1', "no JSON"),
    ],
)
def test_a_line_of_json_that_is_no_row_is_a_reject(tmp_path: Path, line: str, reason: str) -> None:
    batches = read(jsonl(FULL, line, {**FULL, "id": 3}), tmp_path, JSONL)
    assert [row["id"] for row in all_rows(batches)] == [1, 3]
    (reject,) = all_rejects(batches)
    assert reason in reject["reason"]
    assert (reject["source_line"], reject["raw_text"]) == (2, line)


def test_a_column_that_no_line_of_json_has_refuses_the_file(tmp_path: Path) -> None:
    with pytest.raises(FileRefused, match=r"wrong columns: found missing 'amount', 'at'"):
        read(jsonl({"id": 1, "note": "a"}, {"id": 2}), tmp_path, JSONL)


def test_parquet_gives_the_rows_that_csv_gives(tmp_path: Path) -> None:
    content = parquet(
        note=pa.array(["a", None, ""]),
        id=pa.array([1, 2, 3], pa.int64()),
        at=pa.array([naive("2024-07-01 10:00"), naive("2024-03-31 01:30"), None], pa.timestamp("ns")),
        amount=pa.array([0.1, 1e-5, 100000.0]),
    )
    batches = read(content, tmp_path, PARQUET, "a.parquet")
    found = [(r["id"], r["amount"], r["sold_at"], r["note"], r["source_line"]) for r in all_rows(batches)]
    assert found == [
        (1, Decimal("0.10"), datetime(2024, 7, 1, 9, tzinfo=UTC), "a", 1),
        (3, Decimal("100000.00"), None, "", 3),
    ]
    (reject,) = all_rejects(batches)
    assert reject["source_line"] == 2
    assert reject["reason"] == (
        "amount: '0.00001' has more digits than DECIMAL(8,2) holds; "
        "sold_at: '2024-03-31 01:30:00.000000000' does not exist in Europe/London"
    )
    assert json.loads(reject["raw_text"])["amount"] == 1e-05


def test_parquet_types_are_held_to_the_same_rules(tmp_path: Path) -> None:
    content = parquet(
        id=pa.array([1.0, 2.5, float("nan")]),
        amount=pa.array([Decimal("0.0000001"), Decimal("1"), Decimal("1")], pa.decimal128(20, 10)),
        at=pa.array([datetime(2024, 7, 1, 10, tzinfo=UTC)] * 3, pa.timestamp("us", "Asia/Tokyo")),
        note=pa.array([date(2024, 1, 1)] * 3),
    )
    batches = read(content, tmp_path, PARQUET, "a.parquet")
    assert [row["reason"].partition(" ")[0] for row in all_rejects(batches)] == ["amount:", "id:", "id:"]
    (first, *_) = read(
        parquet(**{**columns(), "at": pa.array([datetime(2024, 7, 1, 10, tzinfo=UTC)])}), tmp_path, PARQUET
    )
    assert first.rows["sold_at"].to_pylist() == [datetime(2024, 7, 1, 10, tzinfo=UTC)]


def columns() -> dict[str, pa.Array]:
    return {name: pa.array([None], pa.string()) for name in ("amount", "at", "note")} | {"id": pa.array([1])}


def test_a_parquet_file_without_rows_is_a_file(tmp_path: Path) -> None:
    empty = {name: values[:0] for name, values in columns().items()}
    (batch,) = read(parquet(**empty), tmp_path, PARQUET, "a.parquet")
    assert (batch.rows.num_rows, batch.rejects.num_rows) == (0, 0)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty file"),
        (b"PAR1 no parquet PAR1", "unreadable file"),
        (parquet(**columns())[:-10], "unreadable file"),
        (parquet(id=pa.array([1])), "wrong columns"),
        (parquet(**columns(), more=pa.array([1])), "wrong columns"),
        (parquet(**{**columns(), "note": pa.array([[1]])}), "wrong columns"),
    ],
)
def test_a_parquet_file_that_cannot_be_used_is_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    with pytest.raises(FileRefused, match=reason):
        read(content, tmp_path, PARQUET, "a.parquet")


def test_a_parquet_file_that_expands_too_far_is_refused(tmp_path: Path) -> None:
    same = pa.array(["x" * 1000] * 100_000)
    content = parquet(id=pa.array(range(100_000)), amount=same, at=same, note=same)
    assert len(content) < 10_000_000
    with pytest.raises(FileRefused, match="too large once decompressed"):
        read(content, tmp_path, spec(format="parquet", max_expanded_bytes=50_000_000), "a.parquet")


def test_every_format_of_the_registry_is_accepted_documented_and_named_when_another_is_asked_for() -> None:
    words = (Path(__file__).parents[4] / "docs" / "sources.md").read_text()
    for name in FORMATS:
        places = Layout(positions={"id": "1-6", "amount": "7-9", "at": "10-29", "note": "30-40"})
        assert spec(format=name, layout=places if name == "fixed" else Layout()).format == name
        assert f"`{name}`" in words, f"docs/sources.md does not know the format {name}"
    with pytest.raises(SpecError, match=f"format is 'xml'; it can be {', '.join(FORMATS)}"):
        spec(format="xml")
