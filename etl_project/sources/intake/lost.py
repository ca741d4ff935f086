"""Lost: archived versions that are not there any more although rows were built from them.

Belongs here: telling so from what the commits say, without a list of its own. Does not belong here: what is asked for
or refused because of it (`snapshot`, `assets`).

A version is never removed and sequences have no gaps. So the input of a commit is the day as it was after one of its
sequences; where no such state of the archive has the hash that the commit recorded, something it read is gone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import date
from itertools import islice

from etl_project.sources import names
from etl_project.sources.asset_names import Names
from etl_project.sources.intake import archive
from etl_project.sources.intake.archive import Accepted
from etl_project.sources.spec import FilesPerDay, SourceSpec
from etl_project.storage import UNKNOWN, built_from, input_hash

_UNPINNED = "unpinned"
"""What `etl unpin` once wrote for an input hash: it says nothing of what the rows were built from."""
ALL_GONE = (
    "no file is left in the archive of what the rows were built from. They stay as they are. Put the archive back, or "
    "send the files again"
)
_NEWEST = 3
_MOST_WORK = 500_000
"""So many names are hashed for a day at the most; a day that takes more to look through is taken to be whole."""


def why(spec: SourceSpec, archived: Iterable[Accepted], day: date, recorded: str) -> str | None:
    """Why this day must not be built again from what is in the archive; None where nothing it was built from is gone.

    `archived` are all its versions, `recorded` is the input hash of the last commit of its raw rows.
    """
    versions, recorded = sorted(archived, key=lambda version: version.sequence), built_from(recorded)
    if recorded in {UNKNOWN, _UNPINNED} or not versions or _is_known(spec, versions, day, recorded):
        return None
    gaps = missing_sequences(versions)
    which = f"the version with number {gaps[0]} is" if len(gaps) == 1 else "versions are"
    there = ", ".join(sorted({names.shown(version.name) for version in versions})[:3])
    return (
        f"{which} gone from the archive that its rows were built from (there are versions of {there}). They stay as "
        "they are. Put the archive back, or send the files again; to build the day from what is left, "
        f"`etl rebuild {Names.of(spec.name).raw} --from {day} --to {day} --allow-shrink`"
    )


def all_of_it(spec: SourceSpec, day: date, recorded: str, nothing: str) -> bool:
    """Whether files are gone that this day, of which the archive has none, was built from.

    `recorded` as in `why`; `nothing` is the fingerprint of an archive without files.
    """
    built = built_from(recorded)
    return built != UNKNOWN and built != input_hash([(Names.of(spec.name).files, day.isoformat(), nothing)])


def missing_sequences(versions: Sequence[Accepted]) -> list[int]:
    """Numbers below the highest one that no version has."""
    there = {version.sequence for version in versions}
    return [number for number in range(1, max(there, default=0)) if number not in there]


def _is_known(spec: SourceSpec, versions: Sequence[Accepted], day: date, recorded: str) -> bool:
    """Whether the commit read a state of these versions: all up to a number, or all of now but some in a row, where
    what was gone has come again after others."""
    settings = list(_as_it_may_have_been(spec))

    def fits(some: Sequence[Accepted]) -> bool:
        hashes = (archive.fingerprint(archive.counting(some, one)) for one in settings)
        return any(input_hash([(Names.of(spec.name).files, day.isoformat(), found)]) == recorded for found in hashes)

    work, many = 0, len(versions)
    # Most often a few have come since: these states are asked about before all others are worked through.
    for count in dict.fromkeys((*range(many - 1, max(many - _NEWEST, 0), -1), *range(many, -1, -1))):
        work += count
        if work > _MOST_WORK:
            return True
        if fits(versions[:count]):
            return True
    gaps = ((first, last) for last in range(many - 1, 0, -1) for first in range(last - 1, -1, -1))
    affordable = islice(gaps, _MOST_WORK // max(many, 1))
    return any(fits([*versions[:first], *versions[last:]]) for first, last in affordable)


def _as_it_may_have_been(spec: SourceSpec) -> Iterator[SourceSpec]:
    """The source under each setting that says which versions count: they may have been others then."""
    yield spec
    untimed = tuple(pattern.replace("{time}", "*") for pattern in spec.patterns)
    other: FilesPerDay = "many" if spec.files_per_day == "latest" else "latest"  # `every` counts as `many` does.
    yield replace(spec, files_per_day=other)
    if untimed != spec.patterns:
        yield replace(spec, patterns=untimed)
        yield replace(spec, patterns=untimed, files_per_day=other)
