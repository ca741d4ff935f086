"""JSON Lines: blocks of lines into chunks of records, one object a line.

Belongs here: lines of JSON. Does not belong here: what an object gives (`json_values`), files in which an object spans
lines (`json_records`).

An empty line is no record; a line that is no object costs itself alone. There is no header: a file in which no record
has a certain column has the wrong columns.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from etl_project.sources.reading import header, stream
from etl_project.sources.reading.chunk import Chunk, Load
from etl_project.sources.reading.csv.grammar import bare, lines_of
from etl_project.sources.reading.file_format import FileFormat, SourceFile
from etl_project.sources.reading.file_refused import FileRefused
from etl_project.sources.reading.json_values import Records

if TYPE_CHECKING:
    from etl_project.sources.spec import SourceSpec


def chunks(file: SourceFile, spec: SourceSpec) -> Iterator[Load]:
    """The records of the file. Raises FileRefused, at its end, when a column of the source occurs in none of them."""
    records = Records(spec)
    line = 1
    for block in stream.text_blocks(file, spec):
        lines = lines_of(block.decode("utf-8"))
        if line == 1:
            _refuse_document(lines)
        chunk = _chunk(lines, line, records)
        line += len(lines)
        yield lambda chunk=chunk: chunk  # type: ignore[misc]
    refuse_missing(records, file, spec)


def count(file: SourceFile, spec: SourceSpec) -> int:
    """The number of records: a line that is not empty is one, whatever it says."""
    found = 0
    for block in stream.text_blocks(file, spec):
        lines = block.count(b"\n") + (not block.endswith(b"\n"))
        may_be_empty = block.startswith((b"\n", b"\r\n")) or b"\n\n" in block or b"\n\r" in block or block == b"\r"
        found += sum(bool(bare(one)) for one in lines_of(block.decode("utf-8"))) if may_be_empty else lines
    return found


def count_plain(content: bytes, spec: SourceSpec) -> int | None:
    """As `count`, of a whole small file of nothing but ASCII in plain lines; None for any other, or one to be refused.

    Asking a hundred thousand small files one by one what is special about them takes longer than reading them.
    """
    is_plain = (
        content.startswith(b"{")
        and content.isascii()
        and len(content) <= min(spec.max_line_bytes, spec.max_expanded_bytes)
        and not any(special in content for special in (b"\0", b"\r", b"\n\n"))
        and spec.layout.line_ends == "lf"
        and len(spec.encodings) == 1
        and codecs.lookup(spec.encoding).name in ("utf-8", "utf-8-sig")
    )
    return content.count(b"\n") + (not content.endswith(b"\n")) if is_plain else None


def refuse_missing(records: Records, file: SourceFile, spec: SourceSpec) -> None:
    """Raise FileRefused where a column that the file may not lack is in none of its records, or all of them are."""
    names = spec.derived(header.Names)
    missing = names.missing(records.seen, file) if records.count else []
    if missing:
        expected = "; ".join([", ".join(spec.columns), *header.hints(spec, missing, ())])
        raise FileRefused("wrong columns", f"missing {', '.join(map(names.given, missing))}", expected)
    if records.count and not records.seen and not file.accepted:
        raise header.none_of_the_source(sorted(records.others), spec)


def _refuse_document(lines: Sequence[str]) -> None:
    first = next((bare(one).strip() for one in lines if one.strip()), "")
    if first.startswith("[") and (len(lines) == 1 or first == "[" or first.startswith("[{")):
        raise FileRefused(
            "no JSON Lines", "one JSON array", "one object a line; `format: json` reads an array of objects"
        )
    if first == "{":
        raise FileRefused(
            "no JSON Lines", "an object over several lines", "one object a line; `format: json` reads these"
        )


def _chunk(lines: Sequence[str], first_line: int, records: Records) -> Chunk:
    stretch = records.start()
    for line, text in enumerate(lines, first_line):
        raw = bare(text)
        if not raw:
            continue
        try:
            value = records.decoder.decode(text)
        except ValueError as error:
            stretch.add_broken(line, raw, f"no JSON: {error}")
        except RecursionError:
            stretch.add_broken(line, raw, "no JSON that can be read: nested too deeply")
        else:
            stretch.add(line, raw, value)
    return stretch.chunk()


JSONL = FileFormat(chunks, empty_is_null=False, count=count, count_plain=count_plain)
