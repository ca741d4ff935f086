"""A source from a sample in any container: what is written accepts the sample, and every later file like it."""

from __future__ import annotations

import gzip
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from etl_project.new_source import CannotUse, Made, make
from etl_project_tests.unit.new_source.test_make import attributes, types

CSV = b"id,name,sold_on\n1,anna,2025-03-01\n2,bert,2025-03-02\n"
TYPES = {"id": "BIGINT NOT NULL", "name": "VARCHAR NOT NULL", "sold_on": "DATE NOT NULL"}


def zipped(**members: bytes) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        for name, content in members.items():
            archive.writestr(name.replace("__", "."), content)
    return sink.getvalue()


def workbook(*sheets: str, above: int = 0) -> bytes:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    book.remove(book.active)
    for title in sheets:
        sheet = book.create_sheet(title)
        for row in [*([[None]] * above), ["id", "name", "amount"], [1, "anna", 1.5], [2, "bert", 2.25]]:
            sheet.append(row)
    sink = io.BytesIO()
    book.save(sink)
    return sink.getvalue()


def made(folder: Path, name: str, content: bytes) -> Made:
    path = folder / name
    path.write_bytes(content)
    source = make("sales", path, folder / "pipelines")
    assert (source.accepted, source.rejected) == (2, 0), "its own sample"
    return source


def said(source: Made, *words: str) -> dict[str, Any]:
    found = attributes(source)
    return {word: found[word] for word in words if word in found}


RECORDS = [{"id": 1, "name": "anna", "sold_on": "2025-03-01"}, {"id": 2, "name": "bert", "sold_on": "2025-03-02"}]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("s_2025-03-03.csv", gzip.compress(CSV), {"format": "csv", "compression": "auto"}),
        ("s_2025-03-03", pa.compress(CSV, "zstd", asbytes=True), {"format": "csv", "compression": "auto"}),
        ("s_2025-03-03.zip", zipped(inner__csv=CSV), {"format": "csv"}),
        ("s_2025-03-03.dat", zipped(inner__csv=CSV), {"format": "csv", "compression": "auto"}),
        ("s_2025-03-03.zip", zipped(a__csv=CSV, read__me=b"hello"), {"format": "csv", "zip_members": "*.csv"}),
        ("s_2025-03-03.json", json.dumps(RECORDS).encode(), {"format": "json"}),
        ("s_2025-03-03.json", json.dumps(RECORDS, indent=2).encode(), {"format": "json"}),
        ("s_2025-03-03.json", "\n".join(json.dumps(one, indent=1) for one in RECORDS).encode(), {"format": "json"}),
        ("s_2025-03-03.zip", zipped(a__json=json.dumps(RECORDS).encode()), {"format": "json"}),
    ],
    # Not the bytes: what is packed holds the time of day, and every worker has to name the tests alike.
    ids=["gzip", "zstd", "zip", "unnamed zip", "two members", "array", "pretty array", "objects", "zipped array"],
)
def test_every_container_is_told_by_its_bytes(tmp_path: Path, name: str, content: bytes, words: dict[str, Any]) -> None:
    source = made(tmp_path, name, content)
    assert types(source) == TYPES
    assert said(source, "format", "compression", "zip_members") == words


def test_members_of_one_archive_add_up(tmp_path: Path) -> None:
    path = tmp_path / "s_2025-03-03.zip"
    path.write_bytes(zipped(a__csv=CSV, b__csv=CSV.replace(b"1,", b"3,").replace(b"2,", b"4,")))
    assert make("sales", path, tmp_path / "pipelines").accepted == 4


def test_nested_objects_are_taken_apart_and_lists_stay_json(tmp_path: Path) -> None:
    records = [
        {"id": 1, "customer": {"name": "anna", "address": {"city": "Ulm"}}, "items": [1, 2], "extra": {"a": 1}},
        {"id": 2, "customer": {"name": "bert", "address": None}, "items": [], "extra": "none"},
    ]
    for form, text in (("jsonl", "\n".join(map(json.dumps, records)) + "\n"), ("json", json.dumps(records, indent=2))):
        (tmp_path / form).mkdir()
        source = made(tmp_path / form, f"s_2025-03-03.{form}", text.encode())
        assert types(source) == {
            "id": "BIGINT NOT NULL",
            "customer_name": "VARCHAR NOT NULL",
            "customer_address_city": "VARCHAR",
            "items": "JSON NOT NULL",
            "extra": "JSON NOT NULL",
        }
        assert list(attributes(source)["columns"])[1:3] == ["customer.name", "customer.address.city"]  # type: ignore[call-overload]


def test_a_file_without_a_header_gets_names_to_be_reviewed(tmp_path: Path) -> None:
    source = made(tmp_path, "s_2025-03-03.csv", b"17850,2.55,a\n17851,3.55,b\n")
    names = ["column_1", "column_2", "column_3"]
    assert said(source, "header", "field_names") == {"header": False, "field_names": names}
    assert any("the first line holds the value '17850'" in point for point in source.review)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (("Orders",), {}),
        (("Orders", "Notes"), {"sheet": "Orders"}),
    ],
)
def test_a_workbook_is_read_by_its_first_sheet(tmp_path: Path, content: tuple[str, ...], words: dict[str, Any]) -> None:
    source = made(tmp_path, "s_2025-03-03.xlsx", workbook(*content))
    assert types(source) == {"id": "BIGINT NOT NULL", "name": "VARCHAR NOT NULL", "amount": "DECIMAL(18,4) NOT NULL"}
    assert said(source, "format", "sheet") == {"format": "xlsx", **words}


def test_a_workbook_may_have_empty_rows_above_its_header(tmp_path: Path) -> None:
    made(tmp_path, "s_2025-03-03.xlsx", workbook("Orders", above=2))


def test_a_name_without_a_day_asks_the_rows_for_it(tmp_path: Path) -> None:
    source = made(tmp_path, "export_17.csv", CSV.replace(b"id,name", b"id,name") + b"")
    assert said(source, "patterns", "day_from") == {"patterns": ["export_*.csv"], "day_from": "sold_on"}
    assert any("day_from: no name says a day, so a row is of the day in sold_on" in point for point in source.review)
    assert "the day of sold_on" in (source.folder / "contract.sql").read_text()


def test_of_several_columns_one_that_is_always_there_says_the_day(tmp_path: Path) -> None:
    content = b"id,paid,changed,sold_on\n1,,2025-03-01 10:00,2025-03-01\n2,2025-03-02,2025-03-02 10:00,2025-03-02\n"
    source = made(tmp_path, "export.csv", content)
    assert attributes(source)["day_from"] == "sold_on"
    assert any("it could be paid, changed as well" in point for point in source.review)


def test_samples_with_and_without_a_day_are_no_one_source(tmp_path: Path) -> None:
    for name in ("a.csv", "b_2025-03-03.csv"):
        (tmp_path / name).write_bytes(CSV)
    with pytest.raises(CannotUse, match="their day is 'none' and 'in the name'"):
        make("sales", [tmp_path / "a.csv", tmp_path / "b_2025-03-03.csv"], tmp_path / "pipelines")


def test_nobody_is_told_to_rename_or_to_rewrite_a_file() -> None:
    package = Path(make.__code__.co_filename).parent
    texts = "\n".join(path.read_text() for path in package.glob("*.py"))
    assert "rename it" not in texts and "add a line with" not in texts and "write one object a line" not in texts
