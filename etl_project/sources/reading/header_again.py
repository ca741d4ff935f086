"""Header again: the header of a file among its rows, as in files that were put together from others.

Belongs here: finding such a line where every column takes any text, so that nothing else would. Does not belong here:
lines that are left out by declaration (`rows.skipping`; they are gone by now), values that their columns do not take.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from etl_project.sources.reading.file_refused import FileRefused

if TYPE_CHECKING:
    from etl_project.sources.reading.chunk import Chunk
    from etl_project.sources.reading.file_format import SourceFile
    from etl_project.sources.spec import SourceSpec

_BOM = "\ufeff"
"""What a file that begins with a byte order mark has in its middle, once others were put before it."""
_WITH_HEADERS = ("csv", "tsv", "xlsx")


def refuse(chunk: Chunk, spec: SourceSpec, file: SourceFile) -> None:
    """Raise FileRefused where a record has in two or more columns, and in all that are filled, the column's name.

    A file of the archive may have been accepted before anybody looked: its rows stay what they were.
    """
    names = () if file.accepted else spec.derived(_names)
    found, compared = None, 0
    for text, of_column in zip(chunk.texts, names, strict=False):  # The last text may be that of unknown columns.
        if text.null_count == len(text):
            continue
        same = pc.is_in(_key(text, spec), of_column)
        found, compared = same if found is None else pc.and_(found, same), compared + 1
        if not pc.any(found).as_py():
            return
    if found is not None and compared > 1:
        at = pc.index(found, True).as_py()
        line = chunk.lines[at].as_py()
        marked = any(_BOM in (text[at].as_py() or "") for text in chunk.texts)
        two = " and ".join(
            f"{column} like '%{name}%'" if marked else f"{column} = '{name}'"
            for name, column in list(spec.columns.items())[:2]
        )
        raise FileRefused(
            "the header again",
            f"the names of the columns in line {line}, where a row should be",
            f"rows; `skip_rows_where: {two}` leaves such lines out",
        )


def _names(spec: SourceSpec) -> tuple[pa.Array, ...]:
    """By target the names that a header has for it; nothing where such a line is noticed anyway, or cannot be."""
    targets = spec.targets[: len(set(spec.columns.values()))]
    if spec.format not in _WITH_HEADERS or not all(pa.types.is_string(target.arrow) for target in targets):
        return ()
    by_target = [[name for name, column in spec.columns.items() if column == target.name] for target in targets]
    written = [[form for name in each for form in (name, f"{_BOM}{name}", f'{_BOM}"{name}"')] for each in by_target]
    return tuple(_key(pa.array(each, pa.string()), spec) for each in written)


def _key(text: pa.Array, spec: SourceSpec) -> pa.Array:
    """What is compared: the text, or as good as that what a relaxed comparison leaves of it."""
    relaxed = spec.layout.header_matching == "relaxed"
    return pc.utf8_lower(pc.utf8_trim_whitespace(text)) if relaxed else text
