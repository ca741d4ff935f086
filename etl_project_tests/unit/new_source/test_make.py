"""A source from a sample file: what is guessed, that its own sample is accepted, and what cannot be used."""

from __future__ import annotations

import gzip
import json
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from etl_project.declare import contracts
from etl_project.new_source import CannotUse, Made, make
from etl_project.sources import row_checks
from etl_project.sources.component import FileSource
from etl_project_tests import steady

CSV = "sales_2025-03-03.csv"
HEADER_ALONE = "id,amount\n"


def written(folder: Path, content: str | bytes, name: str = CSV) -> Path:
    """A sample file."""
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def made(folder: Path, content: str | bytes, name: str = CSV) -> Made:
    """The source made from a sample with this content."""
    return make("sales", written(folder, content, name), folder / "pipelines")


def types(source: Made) -> dict[str, str]:
    """The columns of the written contract, with NOT NULL where it is said; batch_date left out."""
    columns = contracts.read(source.folder / "contract.sql")[source.folder.name].columns
    return {c.name: c.type + ("" if c.nullable else " NOT NULL") for c in columns if c.name != "batch_date"}


def attributes(source: Made) -> dict[str, object]:
    """What the written defs.yaml says."""
    found: dict[str, object] = yaml.safe_load((source.folder / "defs.yaml").read_text())["attributes"]
    return found


def column(folder: Path, *values: str) -> str:
    """The type guessed for a column of these values, in a CSV file that has another column too."""
    lines = ["other,value", *(f'x,"{value}"' for value in values)]
    return types(made(folder, "\n".join(lines) + "\n"))["value"]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (("1", "-20", "3000000000"), "BIGINT NOT NULL"),
        (("17850.0", "13047.0"), "BIGINT NOT NULL"),
        (("1", ""), "BIGINT"),
        (("9223372036854775808",), "DECIMAL(38,0) NOT NULL"),
        (("12.50", "0.005", "7"), "DECIMAL(18,4) NOT NULL"),
        (("5.00", "7.00"), "DECIMAL(18,4) NOT NULL"),
        (("0.5", "-1234567890.12345678"), "DECIMAL(38,9) NOT NULL"),
        (("123456789012345678901234567890.12345678",), "DECIMAL(38,8) NOT NULL"),
        (("0.000000000000000001", "12.123456789012345678"), "DECIMAL(38,19) NOT NULL"),
        (("0.1234567890123456", "2.718281828459045"), "DOUBLE NOT NULL"),
        (("1e3", "2.5E-7"), "DOUBLE NOT NULL"),
        (("007", "123"), "VARCHAR NOT NULL"),
        (("+49123456", "+33123456"), "VARCHAR NOT NULL"),
        (("00.50", "1.50"), "VARCHAR NOT NULL"),
        (("true", "False"), "BOOLEAN NOT NULL"),
        (("0", "1"), "BIGINT NOT NULL"),
        (("F", "T"), "VARCHAR NOT NULL"),
        (("2025-03-03", "1999-12-31"), "DATE NOT NULL"),
        (("2025-03-03", "2025-02-30"), "VARCHAR NOT NULL"),
        (("2025-03-03 10:00:00", "2025-03-03T11:30"), "TIMESTAMP WITH TIME ZONE NOT NULL"),
        (("2025-03-03T10:00:00Z", "2025-03-03 10:00:00.5+01:00"), "TIMESTAMP WITH TIME ZONE NOT NULL"),
        (("03.03.2025", "04.03.2025"), "DATE NOT NULL"),
        (("1,5", "2,5"), "DECIMAL(18,4) NOT NULL"),
        (("NaN", "1.5"), "DECIMAL(18,4)"),
        (("1e999", "1"), "VARCHAR NOT NULL"),
        (("", ""), "VARCHAR"),
    ],
)
def test_a_type_is_guessed_only_where_every_value_of_the_sample_has_it(
    tmp_path: Path, values: tuple[str, ...], expected: str
) -> None:
    assert column(tmp_path, *values) == expected


def test_what_a_person_should_look_at_is_said(tmp_path: Path) -> None:
    rows = "".join(f"{n},{n}.5,2025-03-03 10:00:{n:02},,{n}.0, {n}\n" for n in range(30))
    source = made(tmp_path, "id,price,at,gone,customer,spaced\n" + rows.replace("\n17,17.5", "\n17,a dozen"))
    review = "\n".join(source.review)
    for said in (
        "types and NOT NULL: guessed from 30 rows only",
        "price: text, because of 'a dozen'; all other values are DECIMAL",
        "at: local times are read as UTC",
        "gone: always empty",
        "customer: whole numbers written with .0",
        "spaced: trim true",
        "primary key: id",
        "empty_days, deadline",
    ):
        assert said in review, review
    assert types(source)["price"] == "VARCHAR NOT NULL"


def test_times_that_carry_their_offset_need_no_zone_to_be_reviewed(tmp_path: Path) -> None:
    source = made(tmp_path, "at,x\n2025-03-03T10:00:00Z,a\n2025-03-03T10:00:00+02:00,b\n")
    assert "local times" not in "\n".join(source.review)


@pytest.mark.parametrize(
    ("rows", "key"),
    [
        ("sale_id,note\n1,a\n2,a\n", "sale_id"),
        ("note,invoice_no\na,1\nb,2\n", "invoice_no"),
        ("sale_id,note\n1,a\n1,b\n", None),
        ("sale_id,note\n1,a\n,b\n", None),
        ("sale_id,note\n1,a\n", None),
        ("note,amount\na,1\nb,2\n", None),
    ],
)
def test_a_primary_key_is_written_only_where_one_is_evident(tmp_path: Path, rows: str, key: str | None) -> None:
    contract = (made(tmp_path, rows).folder / "contract.sql").read_text()
    assert (f"PRIMARY KEY (batch_date, {key})\n" in contract) == (key is not None)
    assert ("-- No primary key:" in contract) == (key is None)


def test_names_become_plain_unique_columns_and_reserved_words_are_quoted(tmp_path: Path) -> None:
    header = 'InvoiceNo,Unit Price (£),customerID,unit-price,batch_date,order,2nd,Größe,価格,,"it\'s, ok",2024 net'
    source = made(tmp_path, header + "\n" + ",".join("x" * 12) + "\n")
    assert list(types(source)) == [
        *("invoice_no", "unit_price", "customer_id", "unit_price_2", "batch_date_2", "order", "column_2nd"),
        *("grosse", "価格", "column_10", "it_s_ok", "column_2024_net"),
    ]
    assert '"order"' in (source.folder / "contract.sql").read_text()
    assert source.accepted == 1


def jsonl(*records: object) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


ROWS = [{"id": n, "price": f"{n}.25", "note": "café; ok" if n % 2 else None} for n in range(1, 9)]
TEXT = "id,price,note\n" + "".join(f"{r['id']},{r['price']},{r['note'] or ''}\n" for r in ROWS)
EXPECTED = {"id": "BIGINT NOT NULL", "price": "DECIMAL(18,4) NOT NULL", "note": "VARCHAR"}


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("sales_2025-03-03.csv", TEXT.encode(), {"format": "csv", "delimiter": ",", "encoding": "utf-8"}),
        ("sales_2025-03-03.csv", TEXT.encode("utf-8-sig"), {"encoding": "utf-8"}),
        ("sales_2025-03-03.csv", TEXT.encode("cp1252"), {"encoding": "cp1252"}),
        ("sales_2025-03-03.csv", TEXT.encode("utf-16"), {"encoding": "utf-16"}),
        ("sales_2025-03-03.csv", TEXT.encode("utf-16-le"), {"encoding": "utf-16-le"}),
        ("sales_2025-03-03.csv", TEXT.encode("utf-16-be"), {"encoding": "utf-16-be"}),
        ("2025-03-03.txt", TEXT.replace(",", "|").encode(), {"format": "csv", "delimiter": "|"}),
        ("sales.2025-03-03", TEXT.replace("; ok", "").replace(",", ";").encode(), {"delimiter": ";"}),
        ("sales_2025-03-03.tsv", TEXT.replace(",", "\t").encode(), {"format": "tsv"}),
        ("sales_2025-03-03.csv", TEXT.replace("\n", "\r\n").encode(), {"format": "csv"}),
        ("sales_2025-03-03.jsonl", jsonl(*ROWS).encode(), {"format": "jsonl"}),
        ("sales_2025-03-03.csv.gz", gzip.compress(TEXT.encode(), mtime=0), {"format": "csv"}),
        ("sales_2025-03-03.jsonl.gz", gzip.compress(jsonl(*ROWS).encode(), mtime=0), {"format": "jsonl"}),
        ("sales_2025-03-03.csv.zst", pa.compress(TEXT.encode(), "zstd", asbytes=True), {"format": "csv"}),
    ],
)
def test_format_delimiter_encoding_and_compression_are_found_out(
    tmp_path: Path, name: str, content: bytes, says: dict[str, str]
) -> None:
    source = made(tmp_path, content, name)
    assert (source.accepted, source.rejected) == (8, 0)
    assert types(source) == EXPECTED
    found = attributes(source)
    assert {key: found[key] for key in says} == says
    assert found["patterns"] == [name.replace("2025-03-03", "{date}")]


def test_parquet_keeps_the_types_that_it_declares(tmp_path: Path) -> None:
    table = pa.table(
        {
            "id": pa.array([1, 2], pa.int32()),
            "code": pa.array(["7", "8"]),
            "price": pa.array([Decimal("1.25"), None], pa.decimal128(9, 2)),
            "weight": pa.array([0.5, 1e-9]),
            "day": pa.array([date(2025, 3, 3)] * 2),
            "at": pa.array([datetime(2025, 3, 3, 10, tzinfo=UTC)] * 2, pa.timestamp("us", "UTC")),
            "local": pa.array([datetime(2025, 3, 3, 10)] * 2, pa.timestamp("ms")),  # noqa: DTZ001 - local on purpose
            "open": pa.array([True, False]),
            "big": pa.array([2**64 - 1, 0], pa.uint64()),
        }
    )
    path = tmp_path / "sales_2025-03-03.parquet"
    pq.write_table(table, path)
    source = make("sales", path, tmp_path / "pipelines")
    assert types(source) == {
        "id": "BIGINT NOT NULL",
        "code": "VARCHAR NOT NULL",
        "price": "DECIMAL(18,2)",
        "weight": "DOUBLE NOT NULL",
        "day": "DATE NOT NULL",
        "at": "TIMESTAMP WITH TIME ZONE NOT NULL",
        "local": "TIMESTAMP WITH TIME ZONE NOT NULL",
        "open": "BOOLEAN NOT NULL",
        "big": "UBIGINT NOT NULL",
    }
    assert [point.partition(":")[0] for point in source.review if "local times" in point] == ["local"]
    assert source.accepted == 2


def test_keys_that_some_json_objects_lack_are_nullable_columns_and_broken_lines_are_counted(tmp_path: Path) -> None:
    text = jsonl({"id": 1}, *({"id": n, "amount": 1.5} for n in range(2, 200))) + "{no json\n"
    source = made(tmp_path, text, "sales_2025-03-03.jsonl")
    assert types(source) == {"id": "BIGINT NOT NULL", "amount": "DECIMAL(18,4)"}
    assert (source.accepted, source.rejected) == (199, 1)
    assert any("rejected rows: the first is line 200: no JSON" in point for point in source.review)


TWO = "id,name\n1,a\n2,b\n"


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        (CSV, b"", "it is empty"),
        (CSV, HEADER_ALONE.encode(), "no rows"),
        (CSV, b"\n1,2\n3,4\n", "it has no columns"),
        (CSV, b"id,name,id\n1,a,2\n", "'id' more than once"),
        (CSV, b'"id,name\n1,a\n', "no header"),
        (CSV, bytes(range(256)) * 20, "binary content"),
        (CSV, b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "binary content"),
        (CSV, b"id,name\n1,caf\x81\n", "unknown encoding"),
        (CSV + ".gz", gzip.compress(TWO.encode() * 100, mtime=0)[:-20], "broken compressed file"),
        (CSV + ".gz", b"id,name\n1,a\n", "broken compressed file"),
        (CSV, b"id,name\n" + b"1\n" * 100, "none of its rows can be read"),
        (CSV, TWO.encode() + b"3\n4,d,e\n", "too many rejected rows"),
        ("sales.csv", TWO.encode(), "nothing says of which day a row is"),
        ("sales_20251303.csv", TWO.encode(), "the date 20251303 in its name does not exist"),
        ("sales_2025-02-30.csv", TWO.encode(), "does not exist"),
        ("sales\n2025-03-03.csv", TWO.encode(), "characters that cannot be written down"),
        ("sales_{{ x }}_2025-03-03.csv", TWO.encode(), "means something else in YAML"),
        ("s_2025-03-03.json", b'[{"id": 1}, {"id": \n', "no JSON"),
        (CSV, b"id   name \n1    anna \n2    bert \n", "only its sender knows where fields begin".capitalize()),
        (CSV, b"\xd0\xcf\x11\xe0old", "an old .xls"),
        ("s_2025-03-03.zip", b"PK\x03\x04nothing", "a ZIP archive that cannot be read"),
        ("s_2025-03-03.zip", b"PK\x05\x06" + b"\0" * 18, "without a file in it"),
        ("s_2025-03-03.jsonl", b"{}\n{}\n", "no columns"),
        ("s_2025-03-03.parquet", b"PAR1 but not really", "no Parquet file"),
        ("s_2025-03-03.parquet.gz", gzip.compress(b"PAR1 something", mtime=0), "compressed Parquet"),
    ],
)
def test_a_sample_that_cannot_be_used_is_one_clear_line_and_nothing_is_written(
    tmp_path: Path, name: str, content: bytes, says: str
) -> None:
    path = written(tmp_path, content, name)
    with pytest.raises(CannotUse) as refused:
        make("sales", path, tmp_path / "pipelines")
    assert says in str(refused.value) and "Nothing was written" in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1 or "\n" in name
    assert not list((tmp_path / "pipelines").glob("*")) and not list((tmp_path / "pipelines").glob(".*"))


def test_a_file_that_is_not_there_a_folder_and_one_that_may_not_be_read_are_said_to_be_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(CannotUse, match="there is no such file"):
        make("sales", tmp_path / CSV, tmp_path / "pipelines")
    (tmp_path / "folder_2025-03-03.csv").mkdir()
    with pytest.raises(CannotUse, match="name a sample file, or a folder"):
        make("sales", tmp_path / "folder_2025-03-03.csv", tmp_path / "pipelines")

    # Root may read everything: the refusal of the system is what is played here.
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    path = written(tmp_path, TWO)
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(CannotUse, match="it cannot be read: Permission denied"):
        make("sales", path, tmp_path / "pipelines")


@pytest.mark.parametrize(
    "name", ["", "Sales", "2sales", "sales-2", "../sales", "a/b", "class", "etl_x", "x" * 61, "sälés"]
)
def test_a_name_that_cannot_be_a_folder_a_table_and_an_asset_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(CannotUse, match="cannot name a source"):
        make(name, written(tmp_path, TWO), tmp_path / "pipelines")
    assert not (tmp_path / "pipelines").exists()


def test_an_existing_folder_is_never_touched_not_even_by_a_second_run(tmp_path: Path) -> None:
    source = made(tmp_path, TWO)
    before = {path.name: path.read_bytes() for path in source.folder.iterdir()}
    with pytest.raises(CannotUse, match="exists already, and is never overwritten"):
        made(tmp_path, "other,header\n1,2\n3,4\n")
    assert {path.name: path.read_bytes() for path in source.folder.iterdir()} == before
    (tmp_path / "pipelines" / "empty").mkdir()
    with pytest.raises(CannotUse, match="exists already"):
        make("empty", written(tmp_path, TWO), tmp_path / "pipelines")


@pytest.mark.parametrize("taken", ["sales", "sales_files", "raw_sales", "sales_rejects"])
def test_a_name_whose_assets_exist_already_is_refused(tmp_path: Path, taken: str) -> None:
    with pytest.raises(CannotUse, match=f"^{taken}: there are assets of that name already"):
        make("sales", written(tmp_path, TWO), tmp_path / "pipelines", taken=["orders", taken])
    assert not (tmp_path / "pipelines").exists()


def test_the_same_sample_gives_the_same_files(tmp_path: Path) -> None:
    path = written(tmp_path, TEXT)
    one, other = (make("sales", path, tmp_path / folder).folder for folder in ("one", "other"))
    assert {p.name: p.read_bytes() for p in one.iterdir()} == {p.name: p.read_bytes() for p in other.iterdir()}


def test_days_out_of_reach_and_names_with_more_than_a_date_are_to_be_reviewed(tmp_path: Path) -> None:
    ahead = steady.today() + timedelta(days=3)
    for name, says in (
        ("sales_2001-01-01.csv", "lies before ETL_START_DATE"),
        (f"sales_{ahead}.csv", "lies ahead"),
        ("sales_2025-03-03_am.csv", "have to end in '_am.csv'"),
        ("sales_2025-01-01_2025-03-03.csv", "2025-03-03 is taken for the day"),
    ):
        source = make("sales", written(tmp_path, TWO, name), tmp_path / f"for {name}")
        assert any(says in point for point in source.review), source.review


def test_the_checks_that_are_written_as_an_example_can_be_taken_as_they_are(tmp_path: Path) -> None:
    def uncommented(sample: str, name: str) -> list[tuple[str, list[str]]]:
        source = make(name, written(tmp_path, sample), tmp_path / "pipelines")
        path = source.folder / "defs.yaml"
        path.write_text(path.read_text().replace("  # checks:", "  checks:").replace("  #   - {check", "    - {check"))
        component = FileSource.resolve_from_dict(attributes(source))
        row_checks.checks(component.spec(source.folder), component.contract(source.folder), component.checks)
        return [(one.check, [*one.columns]) for one in component.checks]

    assert uncommented("shop,amount\nN1,1.50\nS2,2.50\n", "sales") == [
        ("row_count", []),
        ("not_null", ["shop"]),
        ("accepted_range", ["amount"]),
    ]
    assert uncommented("shop,town\nN1,Ulm\nS2,Bonn\n", "towns") == [("row_count", []), ("not_null", ["shop"])]
