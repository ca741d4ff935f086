"""Excel workbooks: the rows that a person sees, by the rules of every other format, or a refusal that says why."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import openpyxl
import pytest

from etl_project.sources.intake.archive import Accepted
from etl_project.sources.reading import judge, layout
from etl_project.sources.reading.file_refused import FileRefused
from etl_project.sources.reading.layout import Layout
from etl_project.sources.reading.values.value_settings import ValueSettings
from etl_project.sources.spec import SourceColumn, SourceSpec, SpecError
from etl_project_tests.unit.sources.world import all_rejects, all_rows, read, spec

COLUMNS = {"Id": "id", "Amount": "amount", "Day": "day", "Note": "note"}
TYPES = (
    SourceColumn("id", "INTEGER", nullable=False),
    SourceColumn("amount", "DECIMAL(12,4)"),
    SourceColumn("day", "DATE"),
    SourceColumn("note", "VARCHAR"),
)
HEADER = ("Id", "Amount", "Day", "Note")
moment = datetime.fromisoformat


def source(columns: dict[str, str] = COLUMNS, types: Sequence[SourceColumn] = TYPES, **words: Any) -> SourceSpec:
    return spec(columns=columns, types=tuple(types), format="xlsx", max_rejected_ratio=1.0, layout=Layout(**words))


def workbook(*rows: Sequence[Any], sheets: dict[str, list[Sequence[Any]]] | None = None) -> bytes:
    book = openpyxl.Workbook()
    assert book.active is not None
    book.active.title = "Orders"
    for row in rows:
        book.active.append(row)
    for name, more in (sheets or {}).items():
        sheet = book.create_sheet(name)
        for row in more:
            sheet.append(row)
    sink = io.BytesIO()
    book.save(sink)
    return sink.getvalue()


def changed(content: bytes, part: str, pattern: str, new: str) -> bytes:
    """The workbook with a part of it changed."""

    def replaced(text: bytes) -> bytes:
        assert re.search(pattern.encode(), text), text
        return re.sub(pattern.encode(), new.encode(), text)

    return rewritten(content, part, replaced)


def rewritten(content: bytes, part: str, how: Callable[[bytes], bytes]) -> bytes:
    """The workbook with a part of it written in another way."""
    sink = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(sink, "w") as written:
        for name in old.namelist():
            text = old.read(name)
            written.writestr(name, how(text) if name == part else text)
    return sink.getvalue()


def test_cells_are_what_they_show_and_rows_are_counted_as_they_stand(tmp_path: Path) -> None:
    content = workbook(
        HEADER,
        (1, 1.5, date(2024, 3, 5), "ä"),
        (None, None, None, None),
        (2, Decimal("0.0001"), date(2024, 3, 6), True),
        (3, 12345678, None, None),
    )
    rows = all_rows(read(content, tmp_path, source()))
    assert [(row["id"], row["amount"], row["day"], row["note"], row["source_line"]) for row in rows] == [
        (1, Decimal("1.5000"), date(2024, 3, 5), "ä", 2),
        (2, Decimal("0.0001"), date(2024, 3, 6), "true", 4),
        (3, Decimal("12345678.0000"), None, None, 5),
    ]


def test_times_keep_their_time_of_day_and_text_numbers_their_text(tmp_path: Path) -> None:
    types = (SourceColumn("at", "TIMESTAMP WITH TIME ZONE"), SourceColumn("code", "VARCHAR"))
    content = workbook(("At", "Code"), (moment("2024-07-01 10:30:15"), "007"), (moment("2024-07-01"), 7))
    rows = all_rows(read(content, tmp_path, source({"At": "at", "Code": "code"}, types)))
    assert [row["at"] for row in rows] == [
        datetime(2024, 7, 1, 9, 30, 15, tzinfo=UTC),
        datetime(2024, 6, 30, 23, tzinfo=UTC),
    ]
    assert [row["code"] for row in rows] == ["007", "7"]


def test_lines_before_the_header_and_files_without_one(tmp_path: Path) -> None:
    titled = workbook(("Report",), (), HEADER, (1, 2, None, "x"))
    assert [row["source_line"] for row in all_rows(read(titled, tmp_path, source(skip_lines=2)))] == [4]
    with pytest.raises(FileRefused, match="wrong columns"):
        read(titled, tmp_path, source())
    bare = workbook((1, 2, None, "x"), (2, 3, None, "y"))
    assert [row["note"] for row in all_rows(read(bare, tmp_path, source(header=False)))] == ["x", "y"]
    with pytest.raises(FileRefused, match="a header"):
        read(workbook(HEADER, (1, 2, None, "x")), tmp_path, source(header=False))
    with pytest.raises(FileRefused, match="no header"):
        read(workbook(), tmp_path, source())


def test_one_sheet_is_read_and_several_have_to_be_told_apart(tmp_path: Path) -> None:
    content = workbook(("other",), sheets={"Data": [HEADER, (1, 2, None, "x")]})
    with pytest.raises(FileRefused, match=r"several sheets: found 'Orders', 'Data'.*like sheet: Orders"):
        read(content, tmp_path, source())
    assert len(all_rows(read(content, tmp_path, source(sheet="Data")))) == 1
    with pytest.raises(FileRefused, match=r"no such sheet.*'Summary'"):
        read(content, tmp_path, source(sheet="Summary"))


def test_a_workbook_is_read_a_second_time_only_where_it_may_have_formulas(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[bool] = []
    load = openpyxl.load_workbook

    def counted(*args: Any, **options: Any) -> Any:
        opened.append(options["data_only"])
        return load(*args, **options)

    monkeypatch.setattr(openpyxl, "load_workbook", counted)
    plain, calculated = workbook(HEADER, (1, 2, None, "f")), workbook(HEADER, (1, "=1+1", None, "f"))
    sheet = "xl/worksheets/sheet1.xml"
    prefixed = changed(calculated, sheet, r"<(/?)f>", r"<\1x:f>")
    two_byte_letters = rewritten(calculated, sheet, lambda text: text.decode().encode("utf-16"))
    elsewhere = renamed(calculated, "worksheets/sheet1.xml", "worksheets/SHEET1.XML")
    for content, times in ((plain, 1), (calculated, 2), (prefixed, 2), (two_byte_letters, 2), (elsewhere, 2)):
        opened.clear()
        try:
            read(content, tmp_path, source(), "a-2024-03-05.xlsx")
        except FileRefused:
            assert content is prefixed, "a prefix that stands for nothing"
        assert len(opened) == times


def renamed(content: bytes, part: str, name: str) -> bytes:
    """The workbook with another name for one of its parts."""
    sink = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(sink, "w") as new:
        for each in old.namelist():
            new.writestr(each.replace(part, name), old.read(each).replace(part.encode(), name.encode()))
    return sink.getvalue()


def test_errors_and_formulas_that_nobody_calculated_are_rejects(tmp_path: Path) -> None:
    content = workbook(HEADER, (1, "=1+1", None, "x"), (2, 2, None, "#N/A"), (3, 3, None, "fine"))
    batches = read(content, tmp_path, source())
    assert [row["id"] for row in all_rows(batches)] == [3]
    assert [row["reason"] for row in all_rejects(batches)] == [
        "the cell B2 holds a formula that was never calculated",
        "the cell D3 holds the error #N/A",
    ]
    calculated = changed(content, "xl/worksheets/sheet1.xml", r"<f>1\+1</f><v ?/?>(</v>)?", "<f>1+1</f><v>2</v>")
    assert all_rows(read(calculated, tmp_path, source()))[0]["amount"] == Decimal("2.0000")
    lenient = spec(
        columns=COLUMNS, types=TYPES, format="xlsx", max_rejected_ratio=1.0, values=ValueSettings(null_values=("#N/A",))
    )
    assert [row["note"] for row in all_rows(read(content, tmp_path, lenient))] == [None, "fine"]


def test_a_row_with_more_cells_than_the_header_is_a_reject(tmp_path: Path) -> None:
    content = workbook(HEADER, (1, 2, None, "x", None, "lost"), (2,))
    batches = read(content, tmp_path, source())
    assert [row["id"] for row in all_rows(batches)] == [2]
    assert [row["reason"] for row in all_rejects(batches)] == ["6 cells instead of 4"]


def test_a_workbook_that_is_wrong_about_its_own_size_loses_nothing(tmp_path: Path) -> None:
    content = workbook(HEADER, *((n, n, None, "x") for n in range(1, 12_001)))
    wrong = changed(content, "xl/worksheets/sheet1.xml", r'<dimension ref="[^"]*"', '<dimension ref="A1:B2"')
    assert [row["id"] for row in all_rows(read(wrong, tmp_path, source()))] == list(range(1, 12_001))
    path = tmp_path / "counted"
    path.write_bytes(wrong)
    assert judge.count_rows(source(), Accepted("a.xlsx", 1, "0" * 64, str(path))).records == 12_000


def test_what_is_no_open_workbook_is_refused(tmp_path: Path) -> None:
    good = workbook(HEADER, (1, 2, None, "x"))
    for content in (
        b"",
        b"id,amount\n",
        good[:-40],
        changed(good, "xl/workbook.xml", "<sheets>.*</sheets>", "<sheets>"),
    ):
        with pytest.raises(FileRefused, match="unreadable file"):
            read(content, tmp_path, source())
    with pytest.raises(FileRefused, match="a password, or an old"):
        read(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 600, tmp_path, source())


def test_a_workbook_that_unpacks_too_far_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/sharedStrings.xml", b" " * 300_000_000)
    with pytest.raises(FileRefused, match="too large for its size once decompressed"):
        read(sink.getvalue(), tmp_path, source())
    with pytest.raises(FileRefused, match="too much text"):
        read(sink.getvalue(), tmp_path, source(max_expanded_ratio=5000))


def test_a_missing_extra_is_one_line_that_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "find_spec", lambda _: None)
    with pytest.raises(SpecError, match=r"format xlsx needs openpyxl: pip install 'etl-project\[excel\]'"):
        source()
    assert spec().format == "csv"


def test_a_sheet_is_of_workbooks_alone() -> None:
    with pytest.raises(SpecError, match="sheet is no setting of the format csv; like sheet: Orders it is one of xlsx"):
        spec(layout=Layout(sheet="x"))
    with pytest.raises(SpecError, match="comment is no setting of the format xlsx"):
        source(comment="#")


def test_numbers_are_written_out_as_they_are_stored(tmp_path: Path) -> None:
    content = workbook(HEADER, (1, 1e-4, None, 1e20), (2, 0.12345, None, timedelta(hours=1)))
    batches = read(content, tmp_path, source())
    assert [(row["amount"], row["note"]) for row in all_rows(batches)] == [(Decimal("0.0001"), "100000000000000000000")]
    assert "has more digits" in all_rejects(batches)[0]["reason"]
