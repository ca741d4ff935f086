"""File format: what a module has to offer so that files of one more format can be read.

Belongs here: the shape of an entry in the registry (`formats`). Does not belong here: any format.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from etl_project.sources.reading.chunk import Load

if TYPE_CHECKING:
    from etl_project.sources.spec import SourceSpec


class SourceFile(NamedTuple):
    """A file to be read: `path` is where its bytes are now, `name` what its sender called it (it says how the file is
    compressed), `day` its batch date where that matters. `accepted`: it lies in the archive, so it fitted once."""

    path: Path
    name: str
    day: date | None = None
    accepted: bool = False


@dataclass(frozen=True)
class FileFormat:
    """One format. `chunks` gives the records of a file as text, one array for each of `SourceSpec.targets`.

    It raises Refused (retrying does not help) for a file that cannot be used, and never needs more memory than a few
    blocks. `separator` is the delimiter of a format that has one of its own. `empty_is_null`: an empty text is
    no value. `settings`: the words that not every format knows (`layout.OF_SOME_FORMATS`).
    """

    chunks: Callable[[SourceFile, SourceSpec], Iterator[Load]]
    separator: str = ","
    empty_is_null: bool = True
    settings: frozenset[str] = frozenset()
