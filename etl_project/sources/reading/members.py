"""Members: the records of a file, which may be a ZIP archive of several files of the same format.

Belongs here: which members are read, in which order, and lines that are counted on from one to the next, so that a line
names a record of the archive. Does not belong here: unpacking (`compression`), the formats.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from fnmatch import fnmatchcase
from functools import partial
from typing import TYPE_CHECKING

import pyarrow.compute as pc

from etl_project.sources.reading import chosen_encoding, compression, encodings
from etl_project.sources.reading.chunk import Chunk, Load
from etl_project.sources.reading.file_format import Passed, SourceFile
from etl_project.sources.reading.file_refused import FileRefused
from etl_project.sources.reading.formats import FORMATS

if TYPE_CHECKING:
    from etl_project.sources.spec import SourceSpec

MOST_MEMBERS = 10_000
_NOT_SENT = ("__MACOSX/", ".DS_Store", "Thumbs.db")
"""What operating systems add to an archive by themselves."""


def chunks(file: SourceFile, spec: SourceSpec) -> Iterator[Load]:
    """The records of the file; of a ZIP archive, those of its members in the order of their names."""
    found = FORMATS[spec.format]
    members = parts(file, spec)
    if members == [file]:
        yield from found.chunks(file, encodings.settled(file, spec))
        return
    passed = Passed()
    hint = "; `zip_members: '*.csv'` picks those that are meant" if len(members) > 1 else ""
    for one in members:
        member = one._replace(passed=passed)
        before = passed.lines
        try:
            for load in found.chunks(member, encodings.settled(member, spec)):
                yield partial(_moved, load, before) if before else load
        except FileRefused as refused:
            raise FileRefused(
                refused.reason, f"{refused.found}, in {one.member}", f"{refused.expected}{hint}"
            ) from None


def parts(file: SourceFile, spec: SourceSpec) -> list[SourceFile]:
    """The members of a ZIP archive that are read, in the order of their names; any other file alone."""
    if not FORMATS[spec.format].is_packed or compression.kind_of(file, spec) != "zip":
        return [file]
    return [file._replace(member=name) for name in _names(file, spec)]


def encoding_record(file: SourceFile, spec: SourceSpec) -> str | None:
    """What is to be on record of the encoding of a file that can be used; None where there was nothing to choose."""
    if len(spec.encodings) == 1:
        return None
    chosen = {part.member: encodings.settled(part, spec).encoding for part in parts(file, spec)}
    return chosen_encoding.record(chosen, spec)


def count(file: SourceFile, spec: SourceSpec) -> int | None:
    """The number of records of the file, where that can be told without reading them; the same as of `chunks`."""
    if FORMATS[spec.format].is_packed and compression.kind_of(file, spec) == "zip":
        return None
    return FORMATS[spec.format].count(file, encodings.settled(file, spec))


def _moved(load: Load, lines: int) -> Chunk:
    """The chunk of a member that so many lines lie before."""
    chunk = load()
    broken = [one._replace(line=one.line + lines) for one in chunk.broken]
    return chunk._replace(lines=pc.add(chunk.lines, lines), broken=broken)


def _names(file: SourceFile, spec: SourceSpec) -> list[str]:
    """The members that are read. Raises FileRefused for an archive that cannot be used, before anything is unpacked."""
    try:
        with zipfile.ZipFile(file.path) as archive:
            infos = [info for info in archive.infolist() if _is_wanted(info, spec)]
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        raise FileRefused("broken compressed file", str(error), "a complete zip file") from None
    names = [info.filename for info in infos]
    locked = [info.filename for info in infos if info.flag_bits & 1]
    if not names:
        raise FileRefused("no member", f"an archive without {spec.layout.zip_members}", "at least one (zip_members)")
    if len(names) > MOST_MEMBERS:
        raise FileRefused("too many members", str(len(names)), f"at most {MOST_MEMBERS}")
    if locked:
        raise FileRefused("locked archive", f"{locked[0]} with a password", "members that anybody can read")
    if len(set(names)) < len(names):
        raise FileRefused("repeated member", f"{max(names, key=names.count)} twice", "one member of a name")
    if len(names) > 1 and spec.rows.footer_lines:
        raise FileRefused("several members", ", ".join(names)[:200], "one: footer_lines counts from the end of a file")
    compression.refuse_large(sum(info.file_size for info in infos), file.path.stat().st_size, file, spec)
    return sorted(names, key=str.encode)


def _is_wanted(info: zipfile.ZipInfo, spec: SourceSpec) -> bool:
    name = info.filename
    if info.is_dir() or name.startswith(_NOT_SENT[0]) or name.rpartition("/")[2] in _NOT_SENT:
        return False
    return fnmatchcase(name, spec.layout.zip_members)
