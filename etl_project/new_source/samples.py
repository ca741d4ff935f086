"""Samples: several files of one source side by side, and what they have in common.

Belongs here: which files are meant, and putting together their headers, encodings and names. Does not belong here: what
one file says about itself (`sample`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from etl_project.new_source.containers import CannotUse
from etl_project.new_source.sample import Sample, look
from etl_project.sources import FileRefused

_STRICTEST_FIRST = ("utf-8", "utf-16", "utf-16-le", "utf-16-be")


@dataclass(frozen=True)
class Samples:
    """Files of one source. `optional`: names of columns that some of them lack."""

    each: tuple[Sample, ...]
    header: tuple[str, ...]
    optional: tuple[str, ...]
    encodings: tuple[str, ...]
    types: dict[str, pa.DataType]
    words: dict[str, Any]

    @property
    def undated(self) -> bool:
        """Whether no name says a day."""
        return self.each[0].day is None

    @property
    def json(self) -> frozenset[str]:
        """The columns that hold JSON in some of them."""
        return frozenset[str]().union(*(one.json for one in self.each))

    @property
    def format(self) -> str:
        """The one format of all."""
        return self.each[0].format

    @property
    def delimiter(self) -> str:
        """The one delimiter of all."""
        return self.each[0].delimiter

    @property
    def patterns(self) -> tuple[str, ...]:
        """The different patterns of their names."""
        return tuple(dict.fromkeys(one.pattern for one in self.each))

    @property
    def ends(self) -> bool:
        """Whether their last lines have their ends, as a rule: a single one among many was cut."""
        return 2 * sum(one.ends for one in self.each) >= len(self.each)

    @property
    def notes(self) -> tuple[str, ...]:
        """What to review of the files themselves, each once."""
        return tuple(dict.fromkeys(note for one in self.each for note in one.notes))


def samples_of(paths: Sequence[Path]) -> Samples:
    """The samples in these files and folders. Raises CannotUse naming the file and what is in the way."""
    files = [file for path in paths for file in _files(path)]
    if not files:
        raise CannotUse("No source can be made from nothing: name a sample file, or a folder that holds some.")
    each = []
    for file in files:
        try:
            each.append(look(file))
        except (CannotUse, FileRefused) as error:
            raise CannotUse(f"No source can be made from {file}: {error}. Nothing was written.") from None
    first = each[0]
    for other in each[1:]:
        for what, own, its in (
            ("format", first.format, other.format),
            ("delimiter", first.delimiter, other.delimiter),
            ("layout", _but_packing(first), _but_packing(other)),
            ("day", _has_day(first), _has_day(other)),
        ):
            if own != its:
                raise CannotUse(
                    f"No source can be made from {first.path} and {other.path} together: their {what} is {own!r} and "
                    f"{its!r}. Make a source of each kind. Nothing was written."
                )
    return _together(tuple(each))


def _files(path: Path) -> list[Path]:
    """The file itself; of a folder, the files in it and below that are not hidden, by name."""
    if not path.is_dir():
        return [path]
    inside = (one for one in path.rglob("*") if one.is_file())
    return sorted(one for one in inside if not any(part.startswith(".") for part in one.relative_to(path).parts))


def _but_packing(sample: Sample) -> dict[str, Any]:
    return {word: value for word, value in sample.words.items() if word != "compression"}


def _has_day(sample: Sample) -> str:
    return "none" if sample.day is None else "in the name"


def _together(each: tuple[Sample, ...]) -> Samples:
    header = tuple(dict.fromkeys(name for one in each for name in one.header))
    found = {one.encoding for one in each}
    encodings = [*(one for one in _STRICTEST_FIRST if one in found), *sorted(found.difference(_STRICTEST_FIRST))]
    types: dict[str, pa.DataType] = {}
    for name in header:
        declared = {one.types[name] for one in each if name in one.types}
        if len(declared) == 1:
            types[name] = declared.pop()
    optional = tuple(name for name in header if any(name not in one.header for one in each))
    words = {word: value for one in each for word, value in one.words.items()}
    return Samples(each, header, optional, tuple(encodings), types, words)
