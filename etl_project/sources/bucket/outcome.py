"""Outcome: what became of a fetched file, as the archive and the quarantine say.

Belongs here: finding the accepted version or the refusal that has its bytes. Does not belong here: sending them back
(`fetch`). Nothing is remembered: a kill cannot make the answer wrong.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from etl_project.settings import Settings
from etl_project.sources.bucket.handed import Handed
from etl_project.sources.day_of_name import DaysOfNames
from etl_project.sources.intake import archive, quarantine
from etl_project.sources.intake.archive import Accepted
from etl_project.sources.intake.quarantine import Quarantined
from etl_project.sources.spec import SourceSpec

_COARSE = timedelta(seconds=2)
"""By so much the times of a file system may be behind the clock."""


class Kept(NamedTuple):
    """Where the bytes are here, and what they are called below `archive` or `quarantine`; a refusal has a reason."""

    path: Path
    name: str
    reason: tuple[Path, str] | None = None


class Outcomes:
    """The outcomes of the files of one source; what it has looked up serves one pass."""

    def __init__(self, spec: SourceSpec, settings: Settings, now: datetime, handed: Sequence[Handed]) -> None:
        """`handed`: all that will be asked about."""
        self._spec, self._settings = spec, settings
        self._since = min((one.handed_at for one in handed), default=now)
        dated = spec.day_from is None
        self._days = DaysOfNames(spec.patterns, spec.start_date, now.date()) if dated else None
        self._refusals: list[Quarantined] | None = None
        self._versions: dict[date | None, dict[str, list[Accepted]]] = {}

    def of(self, one: Handed) -> Kept | None:
        """What the file was found to be: refused since it was handed over, or what the archive has; None for neither.

        The second is the case, too, where its content was accepted before and counts no longer: it said nothing new,
        or somebody has removed it from the drop folder.
        """
        return next(self._refused(one), None) or next(self._accepted(one), None)

    def _accepted(self, one: Handed) -> Iterator[Kept]:
        day = None if self._days is None else self._days.place(one.name)
        if isinstance(day, str):
            return
        if day not in self._versions:
            by_content = self._versions[day] = {}
            for version in archive.versions(self._settings.archive, self._spec, day):
                by_content.setdefault(version.sha256, []).append(version)
        same = self._versions[day].get(one.sha256, [])
        for version in sorted(same, key=lambda it: (archive.sent_as(it.name, self._spec) != one.name, -it.sequence)):
            yield Kept(version.path, str(version.path.relative_to(self._settings.archive)))

    def _refused(self, one: Handed) -> Iterator[Kept]:
        root = self._settings.quarantine
        if self._refusals is None:
            self._refusals = quarantine.listing(root, self._spec.name, since=self._since - _COARSE)
        for found in self._refusals:
            if _is_refusal_of(found, one):
                within = found.path.relative_to(root)
                reason = f"{'/'.join(within.parts[:3])}.json"  # <source>/<day>/<key>/<name> has it beside the key.
                yield Kept(found.path, str(within), (root / reason, reason))


def _is_refusal_of(found: Quarantined, one: Handed) -> bool:
    reason = found.reason
    return reason.sha256 == one.sha256 and found.name == one.name and reason.refused_at >= one.handed_at
