"""Containers: what a sample is packed in, and what has to be said so that every later file is opened the same way.

Belongs here: telling gzip, zstd, ZIP and workbooks by their first bytes, choosing the members and the sheet. Does not
belong here: what is inside (`sample`). Nobody is told to rename or to pack a file that is not theirs.
"""

from __future__ import annotations

import zipfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from etl_project.failures import Permanent
from etl_project.sources import SourceFile

_PACKED = ((b"\x1f\x8b", ".gz"), (b"\x28\xb5\x2f\xfd", ".zst"), (b"PK\x03\x04", ".zip"), (b"PK\x05\x06", ".zip"))
_WORKBOOK = "xl/workbook.xml"
_NOT_SENT = ("__MACOSX/", ".DS_Store", "Thumbs.db")
_OLD_WORKBOOK = b"\xd0\xcf\x11\xe0"


class CannotUse(Permanent):
    """No source can be made of this. Nothing was written; the message says what would do. Retrying does not help."""


@dataclass(frozen=True)
class Container:
    """How the file is opened: `file` for whoever reads its text, `words` for `defs.yaml`, and what to review."""

    file: SourceFile
    words: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    is_workbook: bool = False


def container_of(path: Path) -> Container:
    """What this file is packed in. Raises CannotUse naming the one thing that is in the way."""
    first = _first_bytes(path)
    if first.startswith(_OLD_WORKBOOK):
        raise CannotUse("it is a workbook with a password, or an old .xls; only open .xlsx workbooks can be read")
    suffix = next((suffix for magic, suffix in _PACKED if first.startswith(magic)), "")
    plain = SourceFile(path, path.name)
    by_bytes = {"compression": "auto"} if suffix and not path.name.endswith(suffix) else {}
    if suffix != ".zip":
        return Container(plain, by_bytes)
    try:
        with zipfile.ZipFile(path) as archive:
            names = [info.filename for info in archive.infolist() if not info.is_dir()]
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        raise CannotUse(f"it is a ZIP archive that cannot be read: {error}") from None
    if _WORKBOOK in names:
        return Container(plain, is_workbook=True)
    return _archive(plain, by_bytes, names)


def _archive(plain: SourceFile, by_bytes: Mapping[str, Any], names: list[str]) -> Container:
    """The members that hold the data: all, or those with the ending that most of them have."""
    sent = [name for name in names if not name.startswith(_NOT_SENT[0]) and name.rpartition("/")[2] not in _NOT_SENT]
    if not sent:
        raise CannotUse("it is a ZIP archive without a file in it")
    endings = Counter(Path(name).suffix for name in sent)
    ending = max(sorted(endings), key=lambda one: (one in (".csv", ".tsv", ".jsonl", ".json", ".txt"), endings[one]))
    chosen = sorted((name for name in sent if Path(name).suffix == ending), key=str.encode)
    words = dict(by_bytes)
    notes: tuple[str, ...] = ()
    if len(endings) > 1:
        words["zip_members"] = f"*{ending}"
        notes = (f"zip_members: only members like *{ending} are read; there are {len(sent) - len(chosen)} others",)
    return Container(plain._replace(member=chosen[0]), words, notes)


def first_row(path: Path) -> tuple[tuple[str, ...], dict[str, Any], tuple[str, ...]]:
    """The header of a workbook's first sheet, the words that say where it is, and what to review."""
    try:
        from openpyxl import load_workbook  # noqa: PLC0415 - an extra
    except ImportError:
        raise CannotUse("it is a workbook, which needs openpyxl: pip install 'etl-project[excel]'") from None
    try:
        book = load_workbook(path, read_only=True, data_only=True)
    except Exception as error:  # noqa: BLE001 - the library lets anything out; the file is named by the caller
        raise CannotUse(f"it is a workbook that cannot be read: {error}") from None
    try:
        sheet = book.worksheets[0]
        words: dict[str, Any] = {"sheet": sheet.title} if len(book.sheetnames) > 1 else {}
        notes = (f"sheet: {sheet.title}, of {len(book.sheetnames)}",) if words else ()
        for number, row in enumerate(sheet.iter_rows(values_only=True)):
            if any(cell is not None for cell in row):
                names = ["" if cell is None else str(cell) for cell in row]
                while names and not names[-1]:
                    names.pop()
                return tuple(names), words | ({"skip_lines": number} if number else {}), notes
    finally:
        book.close()
    raise CannotUse("its first sheet is empty")


def _first_bytes(path: Path) -> bytes:
    if not path.is_file():
        raise CannotUse("there is no such file" if not path.exists() else "it is no regular file")
    try:
        with path.open("rb") as file:
            first = file.read(8)
    except OSError as error:
        raise CannotUse(f"it cannot be read: {error.strerror}") from None
    if not first:
        raise CannotUse("it is empty; take a file with a header and rows")
    return first
