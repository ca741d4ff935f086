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


_PACKING = frozenset({"compression", "zip_members"})


@dataclass
class Passed:
    """The lines of the members of an archive that were read to their end."""

    lines: int = 0


class SourceFile(NamedTuple):
    """A file to be read: `path` is where its bytes are now, `name` what its sender called it (it says how the file is
    compressed), `day` its batch date where that matters. `accepted`: it lies in the archive, so it fitted once.
    `member`: the part of a ZIP archive that is meant; `passed` counts the lines of the members that were read.
    `span`: the first and the last day that its rows may be of, where they say their day themselves.
    `content`: its bytes, where they were read already."""

    path: Path
    name: str
    day: date | None = None
    accepted: bool = False
    member: str = ""
    passed: Passed | None = None
    span: tuple[date, date] | None = None
    content: bytes | None = None


@dataclass(frozen=True)
class FileFormat:
    """One format. `chunks` gives the records of a file as text, one array for each of `SourceSpec.targets`.

    It raises Refused (retrying does not help) for a file that cannot be used, and never needs more memory than a few
    blocks. `separator` is the delimiter of a format that has one of its own. `empty_is_null`: an empty text is
    no value. `count`: the number of a file's records, where that can be told without reading them (else None);
    `count_plain`: the same from all bytes of a small file that is not packed, where there is nothing special about it.
    `settings`: the words that not every format knows (`layout.OF_SOME_FORMATS`). `is_packed`: files come
    compressed from outside too. `library`: what it needs that is not always there, in which `extra` of this package.
    """

    chunks: Callable[[SourceFile, SourceSpec], Iterator[Load]]
    separator: str = ","
    empty_is_null: bool = True
    count: Callable[[SourceFile, SourceSpec], int | None] = lambda _file, _spec: None
    count_plain: Callable[[bytes, SourceSpec], int | None] = lambda _content, _spec: None
    settings: frozenset[str] = frozenset()
    is_packed: bool = True
    library: str = ""
    extra: str = ""

    @property
    def words(self) -> frozenset[str]:
        """All words that it knows of those that not every format does."""
        return self.settings | _PACKING if self.is_packed else self.settings
