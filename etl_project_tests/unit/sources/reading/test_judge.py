"""A delimited file against its contract: rows, rejects with line and reason, or refused as a whole."""

from __future__ import annotations

import csv
import gzip
import io
import tracemalloc
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from etl_project.sources.intake.archive import Accepted
from etl_project.sources.reading import header, judge
from etl_project.sources.reading.csv import records
from etl_project.sources.reading.csv.dialect import Dialect
from etl_project.sources.reading.csv.start import Start
from etl_project.sources.reading.file_format import SourceFile
from etl_project.sources.reading.judge import FileRefused
from etl_project.sources.spec import SourceColumn, SourceSpec
from etl_project_tests.unit.sources.world import DAY, HEADER, SPEC, all_rejects, all_rows, lines, read, rows, spec

LENIENT = spec(max_rejected_ratio=1.0)
REAL = Path(__file__).parents[5] / "shared/data/online_retail/by-day"


def refusal(content: bytes, folder: Path, source: SourceSpec = SPEC, name: str = "a-2024-03-05.csv") -> FileRefused:
    with pytest.raises(FileRefused) as caught:
        read(content, folder, source, name)
    assert not caught.value.retryable
    return caught.value


def test_a_row_is_typed_and_knows_where_it_came_from(tmp_path: Path) -> None:
    assert all_rows(read(lines('7,1.5,2024-07-01 10:00:00,"a, ""b"""'), tmp_path)) == [
        {
            "id": 7,
            "amount": Decimal("1.50"),
            "sold_at": datetime(2024, 7, 1, 9, tzinfo=UTC),
            "note": 'a, "b"',
            "batch_date": DAY,
            "source_file": "a-2024-03-05.csv",
            "source_line": 2,
        }
    ]


def test_reading_twice_gives_the_same(tmp_path: Path) -> None:
    content = lines("1,1,,", "x,1,,")
    first, second = (read(content, tmp_path, LENIENT) for _ in range(2))
    assert [tuple(map(pa.Table.to_pylist, batch)) for batch in first] == [
        tuple(map(pa.Table.to_pylist, batch)) for batch in second
    ]


def test_a_header_without_rows_is_a_file_with_no_rows(tmp_path: Path) -> None:
    for content in (HEADER, HEADER.strip()):
        (batch,) = read(content, tmp_path)
        assert batch.rows.schema == judge.rows_schema(SPEC)
        assert batch.rejects.schema == judge.REJECTS_SCHEMA
        assert (batch.rows.num_rows, batch.rejects.num_rows) == (0, 0)


def test_columns_are_taken_by_name_wherever_they_are(tmp_path: Path) -> None:
    (row,) = all_rows(read(b"note,at,amount,id\nn,2024-01-01 00:00,2,1\n", tmp_path))
    assert (row["id"], row["amount"], row["note"]) == (1, Decimal("2.00"), "n")


def test_a_byte_order_mark_crlf_and_a_missing_last_line_end_are_no_data(tmp_path: Path) -> None:
    content = b"\xef\xbb\xbf" + lines("1,1,,a", "2,2,,b").replace(b"\n", b"\r\n")
    for variant in (content, content.removesuffix(b"\r\n"), content.removesuffix(b"\n")[:-1]):
        assert [(row["id"], row["note"]) for row in all_rows(read(variant, tmp_path))] == [(1, "a"), (2, "b")]


def test_a_quoted_line_end_is_data_and_lines_are_counted_as_they_stand(tmp_path: Path) -> None:
    content = lines('1,1,,"two\nlines"', "", '2,1,,"x\r\n\ny"', "3,1,,z")
    found = all_rows(read(content, tmp_path))
    assert [(row["source_line"], row["note"]) for row in found] == [(2, "two\nlines"), (5, "x\r\n\ny"), (8, "z")]


def test_a_quote_inside_an_unquoted_field_is_a_character(tmp_path: Path) -> None:
    assert [row["note"] for row in all_rows(read(lines('1,1,,5" plate'), tmp_path))] == ['5" plate']


def test_an_empty_field_is_null_and_text_is_not_trimmed(tmp_path: Path) -> None:
    found = all_rows(read(lines('1,,,""', "2,,, x "), tmp_path))
    assert [(row["amount"], row["sold_at"], row["note"]) for row in found] == [(None, None, None), (None, None, " x ")]


def test_a_reject_says_file_line_column_every_reason_and_the_raw_text(tmp_path: Path) -> None:
    content = lines("1,1,,ok", 'x,"1,5",2024-02-30 00:00:00,"bad, row"', "3,1,,ok")
    batches = read(content, tmp_path, LENIENT)
    assert [row["source_line"] for row in all_rows(batches)] == [2, 4]
    assert all_rejects(batches) == [
        {
            "batch_date": DAY,
            "source_file": "a-2024-03-05.csv",
            "source_line": 3,
            "column_name": "id",
            "reason": "id: 'x' is no INTEGER; "
            "amount: '1,5' is no DECIMAL(8,2) (as a value it needs decimal_separator: ','); "
            "sold_at: '2024-02-30 00:00:00' does not exist",
            "raw_text": 'x,"1,5",2024-02-30 00:00:00,"bad, row"',
        }
    ]


def test_a_null_where_none_may_be_is_a_reject(tmp_path: Path) -> None:
    (reject,) = all_rejects(read(lines(",1,,a"), tmp_path, LENIENT))
    assert (reject["column_name"], reject["reason"]) == ("id", "id: empty")


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ("1,2,,", None),
        ("1,2,3", "3 fields instead of 4"),
        ("1,2,,x,5", "5 fields instead of 4"),
        (" ", "1 field instead of 4"),
        ('1,2,,"a"b', "text after the closing quote of field 4"),
        ("1,2\r,,a", "a carriage return that does not end the line"),
        ('1,2,,"open', "a quote that is never closed"),
    ],
)
def test_a_record_without_the_right_fields_is_a_reject(tmp_path: Path, record: str, reason: str | None) -> None:
    batches = read(lines("8,1,,before", record, "9,1,,after"), tmp_path, LENIENT)
    assert [row["id"] for row in all_rows(batches)] == ([8, 9] if reason else [8, 1, 9])
    assert [
        (row["source_line"], row["column_name"], row["reason"], row["raw_text"]) for row in all_rejects(batches)
    ] == ([(3, None, reason, record)] if reason else [])


def test_one_stray_quote_does_not_swallow_the_rows_after_it(tmp_path: Path) -> None:
    source = spec(max_line_bytes=200)
    content = lines("1,1,,a", '2,1,,"open', *(f"{number},1,,x" for number in range(3, 1000)))
    batches = read(content, tmp_path, source)
    assert len(all_rows(batches)) == 998
    assert [row["reason"] for row in all_rejects(batches)] == [
        "a quoted field over more than 200 bytes (max_line_bytes)"
    ]


def test_more_rejects_than_allowed_refuse_the_file(tmp_path: Path) -> None:
    good = [f"{number},1,,x" for number in range(198)]
    assert len(all_rejects(read(lines(*good, "x,1,,", "y,1,,"), tmp_path))) == 2
    error = refusal(lines(*good[:-1], "x,1,,", "y,1,,"), tmp_path)
    assert error.reason == "too many rejected rows"
    assert error.found.startswith("2 of 199 rows cannot be used; the first is line 199: id: 'x' is no INTEGER")
    assert error.expected == "at most 1.00% (max_rejected_ratio)"


def test_0_bytes_are_no_file(tmp_path: Path) -> None:
    for content in (b"", b"\xef\xbb\xbf"):
        assert refusal(content, tmp_path).reason == "empty file"
    assert refusal(gzip.compress(b""), tmp_path, name="a.csv.gz").reason == "empty file"


def test_all_differences_of_a_header_are_named_at_once(tmp_path: Path) -> None:
    error = refusal(b"id,id,note,Amount,x\n1,2,3,4,5\n", tmp_path)
    assert error.reason == "wrong columns"
    assert error.found == "missing 'amount', 'at'; not expected 'Amount', 'x'; repeated 'id'"
    assert error.expected == (
        "id, amount, at, note; 'Amount' is 'amount' with `header_matching: relaxed`; "
        "a file may lack amount, sold_at with `optional: [amount, sold_at]` or `since:` a day; "
        "columns that nobody needs are left out with `ignored_columns` or `unknown_columns: ignore`"
    )


def test_a_missing_header_is_a_wrong_header(tmp_path: Path) -> None:
    assert refusal(b"1,1.5,2024-03-05 10:00:00,a\n", tmp_path).reason == "wrong columns"


def test_line_ends_of_carriage_returns_alone_are_refused(tmp_path: Path) -> None:
    assert "a carriage return" in refusal(rows(3).replace(b"\n", b"\r"), tmp_path).found


def test_a_header_that_is_never_closed_is_refused(tmp_path: Path) -> None:
    assert refusal(b'id,"amount\n1,2,3,4\n', tmp_path).reason == "unreadable header"


def test_the_wrong_encoding_is_refused_with_its_place(tmp_path: Path) -> None:
    error = refusal(lines("1,1,,a") + b"2,1,,caf\xe9\n", tmp_path)
    assert (error.reason, error.found) == ("wrong encoding", "byte 0xE9 in line 3 (invalid continuation byte)")


def test_a_file_in_a_declared_encoding_is_read_in_it(tmp_path: Path) -> None:
    for encoding in ("latin-1", "utf-16", "cp1252"):
        content = lines("1,1,,café").decode().encode(encoding)
        assert [row["note"] for row in all_rows(read(content, tmp_path, spec(encoding=encoding)))] == ["café"]
    assert refusal(b"\xff\xfea", tmp_path, spec(encoding="utf-16")).reason == "wrong encoding"


def test_nul_bytes_refuse_the_file(tmp_path: Path) -> None:
    error = refusal(lines("1,1,,a") + b"2,1,,\0\n", tmp_path)
    assert (error.reason, error.found) == ("binary content", "a NUL byte in line 3")


@pytest.mark.parametrize("suffix", ["gz", "zst"])
def test_compressed_files_are_read_and_broken_ones_refused(tmp_path: Path, suffix: str) -> None:
    content = compressed(rows(5000), suffix)
    name = f"a-2024-03-05.csv.{suffix}"
    assert len(all_rows(read(content, tmp_path, name=name))) == 5000
    for broken in (
        content[:-9],
        content[: len(content) // 2],
        b"no archive at all",
        content[:10] + b"x" + content[11:],
    ):
        assert refusal(broken, tmp_path, name=name).reason in ("broken compressed file", "empty file")


def test_several_gzip_members_are_one_file(tmp_path: Path) -> None:
    content = gzip.compress(rows(2)) + gzip.compress(b"9,1,,x\n")
    assert len(all_rows(read(content, tmp_path, name="a.csv.gz"))) == 3


@pytest.mark.parametrize("suffix", ["gz", "zst"])
def test_a_bomb_is_stopped_at_the_limit(tmp_path: Path, suffix: str) -> None:
    """200 MB of rows in a few hundred KB: refused after the limit, and never in memory as a whole."""
    bomb = compressed(HEADER + b"1,1,,x\n" * 28_000_000, suffix)
    assert len(bomb) < 2_000_000
    tracemalloc.start()
    error = refusal(bomb, tmp_path, spec(max_expanded_bytes=20 * 2**20), f"a.csv.{suffix}")
    assert error.reason == "too large once decompressed"
    assert tracemalloc.get_traced_memory()[1] < 200 * 2**20
    tracemalloc.stop()


def test_an_endless_line_is_refused_before_it_is_in_memory(tmp_path: Path) -> None:
    """A sparse file stands in for the real thing: nothing but one line."""
    path = tmp_path / "line"
    path.write_bytes(HEADER + b"1,1,,")
    with path.open("r+b") as file:
        file.truncate(2**36)
    with pytest.raises(FileRefused, match=r"line too long: found line 2"):
        list(judge.read(path, SPEC, "a.csv", DAY))


def test_an_endless_compressed_line_is_refused_before_it_is_in_memory(tmp_path: Path) -> None:
    """10 GB of one line in a file of 45 MB: members of a gzip file add up."""
    path = tmp_path / "line"
    path.write_bytes(gzip.compress(HEADER + b"1,1,,") + gzip.compress(b"x" * 10**8, 1) * 100)
    tracemalloc.start()
    with pytest.raises(FileRefused, match=r"line too long: found line 2"):
        list(judge.read(path, SPEC, "a.csv.gz", DAY))
    assert tracemalloc.get_traced_memory()[1] < 50 * 2**20
    tracemalloc.stop()


def test_a_long_line_among_short_ones_is_refused(tmp_path: Path) -> None:
    error = refusal(lines("1,1,,a", f"2,1,,{'x' * 300}", "3,1,,b"), tmp_path, spec(max_line_bytes=100))
    assert error.found == "line 3 with at least 305 bytes"


def test_a_header_alone_can_be_too_long(tmp_path: Path) -> None:
    assert refusal(b"x" * 500, tmp_path, spec(max_line_bytes=100)).reason == "line too long"


def compressed(content: bytes, suffix: str) -> bytes:
    return gzip.compress(content, 1) if suffix == "gz" else pa.compress(content, "zstd", asbytes=True)


def test_counting_gives_rows_and_rejects_together(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(lines("1,1,,a", "x,1,,b", "2", "", '3,1,,"c\nd"'))
    assert judge.count_rows(LENIENT, Accepted("a.csv", 1, "0" * 64, str(path))) == (4, 0)


ONE_COLUMN = spec(columns={"note": "note"}, max_rejected_ratio=1.0)
_PIECES = st.sampled_from(["a", "1", ",", '"', '""', '",', ',"', "\n", "\r\n", "\r", "é", " ", "x,y", '"q"', "\n\n"])
_FIELD = st.text("ab1é \n,\"'", max_size=6)


def plain(source: SourceSpec) -> Start:
    """The source's own columns, in its own order."""
    match = header.match(list(source.columns), source, SourceFile(Path(), "a.csv"))
    return Start(match, len(source.columns), 2, Dialect(","))


def as_read(text: bytes, source: SourceSpec, fast: bool, block: int) -> tuple[list[object], list[object]]:
    """Records and broken records of the text, given in blocks of about that many bytes that end with a line."""
    reader = records.CsvReader(source, plain(source), fast)
    good: list[object] = []
    broken: list[object] = []
    rest = b""
    for piece, final in blocks(text, block):
        load, rest = reader.read(rest + piece, final)
        chunk = load()
        raws = chunk.raw(range(len(chunk.lines)))
        good += zip(chunk.lines.to_pylist(), raws, *(texts.to_pylist() for texts in chunk.texts), strict=True)
        broken += chunk.broken
    assert not rest
    return good, broken


def blocks(text: bytes, size: int) -> Iterator[tuple[bytes, bool]]:
    at = 0
    while at < len(text):
        end = text.find(b"\n", at + size) + 1 or len(text)
        yield text[at:end], end == len(text)
        at = end


@settings(max_examples=400)
@given(st.lists(_PIECES, max_size=40).map("".join), st.sampled_from([1, 7, 10_000]), st.booleans())
@example('a"\n",b\n', 10_000, True)
@example('a"b\nc"d,e\n', 10_000, True)
@example('"a"b,c\n"d\n",e\n', 10_000, True)
@example('1,"' + "long\n" * 20 + '"\n2,b\n', 10_000, True)
@example('1,"' + "long\n" * 20 + '"\n2,b\n', 7, True)
def test_the_fast_reader_equals_the_grammar_on_any_text(text: str, block: int, wide: bool) -> None:
    source = spec(columns={"id": "id", "note": "note"}, max_line_bytes=50) if wide else ONE_COLUMN
    assert as_read(text.encode(), source, True, block) == as_read(text.encode(), source, False, 10_000)


@given(st.lists(st.tuples(_FIELD, _FIELD), max_size=20), st.sampled_from(["\n", "\r\n"]), st.booleans())
def test_what_python_writes_is_read_back(records: list[tuple[str, str]], line_end: str, quoted: bool) -> None:
    source = spec(columns={"id": "id", "note": "note"})
    sink = io.StringIO()
    csv.writer(sink, lineterminator=line_end, quoting=csv.QUOTE_ALL if quoted else csv.QUOTE_MINIMAL).writerows(records)
    for fast in (True, False):
        good, broken = as_read(sink.getvalue().encode(), source, fast, 30)
        assert not broken
        assert [record[2:] for record in good] == [(a or None, b or None) for a, b in records]  # type: ignore[index]


def test_a_file_of_many_blocks_equals_its_rows(tmp_path: Path) -> None:
    """12 MB: three blocks, several threads, quoted line ends across the seams, a bad row in each block."""
    count = 150_000
    body = (f'{n},1.25,2024-03-05 10:00:00,"{"line" + chr(10) if n % 7 == 0 else ""}{n:040d}"' for n in range(count))
    records = [record if n % 50_000 != 49_999 else f"bad,{record}" for n, record in enumerate(body)]
    batches = read(lines(*records), tmp_path)
    assert len(batches) > 2
    found = all_rows(batches)
    assert [row["id"] for row in found] == [n for n in range(count) if n % 50_000 != 49_999]
    assert [row["raw_text"][:9] for row in all_rejects(batches)] == ["bad,49999", "bad,99999", "bad,14999"]
    line = 2
    for n in range(1000):
        assert found[n]["source_line"] == line
        line += 2 if n % 7 == 0 else 1


ONLINE_RETAIL = SourceSpec(
    name="orders",
    patterns=("*{date}*.csv",),
    columns={
        "InvoiceNo": "invoice_no",
        "StockCode": "stock_code",
        "Description": "description",
        "Quantity": "quantity",
        "InvoiceDate": "invoiced_at",
        "UnitPrice": "unit_price",
        "CustomerID": "customer_id",
        "Country": "country",
    },
    types=(
        SourceColumn("invoice_no", "VARCHAR", nullable=False),
        SourceColumn("stock_code", "VARCHAR", nullable=False),
        SourceColumn("description", "VARCHAR"),
        SourceColumn("quantity", "INTEGER", nullable=False),
        SourceColumn("invoiced_at", "TIMESTAMP WITH TIME ZONE", nullable=False),
        SourceColumn("unit_price", "DECIMAL(12,3)", nullable=False),
        SourceColumn("customer_id", "BIGINT"),
        SourceColumn("country", "VARCHAR", nullable=False),
    ),
    start_date=date(2010, 12, 1),
    time_zone="Europe/London",
)


@pytest.mark.skipif(not REAL.is_dir(), reason=f"the Online Retail files are not at {REAL}")
def test_the_real_files_are_read_to_the_last_penny() -> None:
    tables = [
        batch.rows
        for path in sorted(REAL.glob("*.csv"))
        for batch in judge.read(path, ONLINE_RETAIL, path.name, date.fromisoformat(path.stem))
    ]
    everything = pa.concat_tables(tables)
    revenue = pc.sum(pc.multiply(everything["quantity"].cast(pa.decimal128(12, 0)), everything["unit_price"]))
    assert (everything.num_rows, pc.sum(everything["quantity"]).as_py()) == (209_029, 1_950_544)
    assert revenue.as_py() == Decimal("3706827.641")
    assert pc.min(everything["invoiced_at"]).as_py() == datetime(2010, 12, 1, 8, 26, tzinfo=UTC)


def test_a_broken_record_costs_its_own_line_where_the_libraries_that_were_tried_lose_more(tmp_path: Path) -> None:
    """The file of docs/decisions/own-csv-reader.md."""
    content = b'id,name,amount\n1,a,1.50\n2,"never closed,2.50\n3,c,x\n4,d,4.50,extra\n5, e ,5.50\n'
    named = {"id": "id", "name": "note", "amount": "amount"}
    types = tuple(column for column in SPEC.types if column.name in named.values())
    batches = read(content, tmp_path, spec(columns=named, types=types, max_rejected_ratio=1.0))
    assert [(row["source_line"], row["id"], row["note"]) for row in all_rows(batches)] == [(2, 1, "a"), (6, 5, " e ")]
    rejects = [reject for batch in batches for reject in batch.rejects.to_pylist()]
    assert [(one["source_line"], one["reason"]) for one in rejects] == [
        (3, "a quote that is never closed"),
        (4, "amount: 'x' is no DECIMAL(8,2)"),
        (5, "4 fields instead of 3"),
    ]
