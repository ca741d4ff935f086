"""Header: a file's columns against those of its source, all differences at once.

Belongs here: the one comparison that every format makes, what a column that is absent or not expected does, and the
columns of a chunk in the order of the source. Does not belong here: finding a file's column names.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from difflib import get_close_matches
from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa

from etl_project.sources.reading.file_refused import FileRefused

if TYPE_CHECKING:
    from etl_project.sources.reading.file_format import SourceFile
    from etl_project.sources.spec import SourceSpec

_INVISIBLE = dict.fromkeys(map(ord, "\u200b\u200c\u200d\u2060\ufeff\u00ad"))


def relaxed(name: str) -> str:
    """The name without what a relaxed comparison leaves out: case, blanks of all kinds, invisible characters."""
    return "".join(unicodedata.normalize("NFKC", name).translate(_INVISIBLE).split()).casefold()


class Names:
    """The names that a file may use for the columns of its source."""

    def __init__(self, spec: SourceSpec) -> None:
        self._spec = spec
        exact = spec.layout.header_matching != "relaxed"
        self._key: Callable[[str], str] = str if exact else relaxed
        order = {target: at for at, target in enumerate(dict.fromkeys(spec.columns.values()))}
        self._targets = {self._key(name): order[target] for name, target in spec.columns.items()}
        self._ignored = {self._key(name) for name in spec.layout.ignored_columns}
        self.wanted = tuple(order)
        self.target: Callable[[str], int | None] = self._targets.get if exact else self._target_of_relaxed
        """The number of the source's column that a name stands for; None for a name that it does not have."""
        self._above = {
            self._key(".".join(parts[:length]))
            for parts in (name.split(".") for name in spec.columns)
            for length in range(1, len(parts))
        }

    def _target_of_relaxed(self, name: str) -> int | None:
        return self._targets.get(relaxed(name))

    def plain(self, targets: AbstractSet[int]) -> dict[str, int]:
        """The names that stand for these columns of the source as they are; none where names are compared relaxed."""
        if self._spec.layout.header_matching == "relaxed":
            return {}
        return {name: at for name, at in self._targets.items() if at in targets}

    @property
    def has_paths(self) -> bool:
        """Whether some name may be a path."""
        return bool(self._above)

    def leads_on(self, name: str) -> bool:
        """Whether columns of the source are looked for below this name, as paths."""
        return bool(self._above) and self._key(name) in self._above

    def below(self, name: str) -> list[str]:
        """The paths that go through this name."""
        start = f"{self._key(name)}."
        return [path for path in self._spec.columns if self._key(path).startswith(start)]

    def is_refused(self, name: str) -> bool:
        """Whether this name, which stands for no column of the source, is not expected either."""
        return self._spec.layout.unknown_columns == "refuse" and self._key(name) not in self._ignored

    def is_kept(self, name: str) -> bool:
        """Whether the values under this name, which stands for no column of the source, are kept as JSON."""
        return self._spec.layout.unknown_columns == "keep" and self._key(name) not in self._ignored

    def missing(self, found: Iterable[int], file: SourceFile, unknown: Sequence[str] = ()) -> list[str]:
        """The columns of the table that a file lacks and may not lack; `found` are those that it has.

        A file of the archive was accepted under the contract of its time, so what it lacks came later: NULL. Only
        where it also has `unknown` columns may the one be the other under a new name, which nobody should guess.
        """
        there = set(found)
        lacking = [name for at, name in enumerate(self.wanted) if at not in there]
        lacking = [name for name in lacking if not self._spec.layout.may_lack(name, file.day)]
        if file.accepted and not unknown:
            return [name for name in lacking if not self._spec.column(name).nullable]
        return lacking

    def given(self, target: str) -> str:
        """The names of a column of the table in a file, for a person."""
        return " or ".join(repr(name) for name, column in self._spec.columns.items() if column == target)


class Match(NamedTuple):
    """Where the columns of a source are among those of a file. `positions` has one entry a column that the file can
    fill, None for one that it lacks; `kept` are the names and positions of those that are kept as JSON."""

    positions: tuple[int | None, ...]
    kept: tuple[tuple[str, int], ...]
    keeps: bool

    def texts(self, columns: Sequence[pa.Array] | Mapping[int, pa.Array], count: int) -> list[pa.Array]:
        """The columns of so many records, in the order of the source's targets."""
        absent = pa.nulls(count, pa.string())
        found = [absent if at is None else columns[at] for at in self.positions]
        if not self.keeps:
            return found
        if not self.kept:
            return [*found, absent]
        values = zip(*(columns[at].to_pylist() for _, at in self.kept), strict=True)
        names = [name for name, _ in self.kept]
        return [*found, pa.array([as_json(dict(zip(names, row, strict=True))) for row in values], pa.string())]


def as_json(values: dict[str, object]) -> str:
    """A JSON object with its keys in order, so that equal values are equal text."""
    return json.dumps(values, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def match(found: Sequence[str], spec: SourceSpec, file: SourceFile) -> Match:
    """Where each of the source's columns is among those found: by name, in any order.

    Raises FileRefused naming every column that is missing, not expected or repeated, and the setting that would help.
    """
    names = spec.derived(Names)
    places: dict[int, list[int]] = {}
    unknown: dict[str, int] = {}
    for at, name in enumerate(found):
        target = names.target(name)
        if target is not None:
            places.setdefault(target, []).append(at)
        else:
            unknown.setdefault(name, at)
    unexpected = [name for name in unknown if names.is_refused(name)]
    missing = names.missing(places, file, unexpected)
    if file.accepted and not missing:
        unexpected = []  # The contract had them when the file was accepted, and has dropped them since.
    repeated = [
        name
        for name in dict.fromkeys(found)
        if found.count(name) > 1 and (names.target(name) is not None or names.is_kept(name))
    ]
    twice = [
        " and ".join(repr(found[at]) for at in where)
        for where in places.values()
        if len({found[at] for at in where}) > 1
    ]
    differences = [
        f"{what} {', '.join(which)}"
        for what, which in (
            ("missing", [names.given(name) for name in missing]),
            ("not expected", [*map(repr, unexpected)]),
            ("repeated", [*map(repr, repeated)]),
            ("one column under two names", twice),
        )
        if which
    ]
    if differences:
        expected = "; ".join([", ".join(spec.columns), *hints(spec, missing, unexpected)])
        raise FileRefused("wrong columns", "; ".join(differences)[:2000], expected[:2000])
    if not places and not file.accepted:
        raise none_of_the_source(found, spec)
    keeps = spec.layout.unknown_columns == "keep"
    kept = tuple((name, at) for name, at in unknown.items() if names.is_kept(name))
    return Match(tuple(places[at][0] if at in places else None for at in range(len(names.wanted))), kept, keeps)


def none_of_the_source(found: Sequence[str], spec: SourceSpec) -> FileRefused:
    """Why a file is refused that has none of the source's columns, though each of them may be absent and others be
    there: its rows would have no values. It is parted by something else, or is another source's."""
    names = ", ".join(map(repr, found))[:200] or "nothing"
    return FileRefused("wrong columns", f"none of the source's, but {names}", ", ".join(spec.columns)[:2000])


def hints(spec: SourceSpec, missing: Sequence[str], unexpected: Sequence[str]) -> Iterator[str]:
    """What could be set so that a file with these differences is taken."""
    alike = {relaxed(name): name for name in unexpected}
    left = list(unexpected)
    for name, target in spec.columns.items():
        near = alike.get(relaxed(name))
        if target not in missing or not left:
            continue
        if near is not None:
            yield f"{near!r} is {name!r} with `header_matching: relaxed`"
            left = [one for one in left if one != near]
        elif close := get_close_matches(name, left, 1):
            yield f"{close[0]!r} is near {name!r}: give {target} both names under columns"
            left.remove(close[0])
    nullable = [name for name in missing if spec.column(name).nullable]
    if nullable:
        yield f"a file may lack {', '.join(nullable)} with `optional: [{', '.join(nullable)}]` or `since:` a day"
    if left:
        yield "columns that nobody needs are left out with `ignored_columns` or `unknown_columns: ignore`"
