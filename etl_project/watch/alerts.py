"""Alerts: what a person is told without asking: refused files, files that did not come, runs that failed.

Belongs here: turning one look into alerts, each with a subject that names its state, so that the same state is the same
alert for ever. Does not belong here: sending them (`alerts_sensor`), or anything that remembers what was sent.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from etl_project.due import Project, RedCheck, Snapshot
from etl_project.sources import completeness, quarantine, shown

REACHES_BACK = timedelta(days=7)
"""What is older was told, or is no news: a sensor that is switched on late does not tell a year at once."""

TOLD_OTHERWISE = ("no_refused_files", completeness.CHECK, "no_day_left_failed")
"""Checks of files and runs that have alerts of their own."""


@dataclass(frozen=True)
class Alert:
    """One thing to tell. `subject` names it and its state, `day` is the day it is about, `content` is what is sent."""

    subject: str
    day: date
    content: Mapping[str, Any]

    @property
    def line(self) -> str:
        """The alert for a log: one line, whatever it holds."""
        return " ".join(", ".join(f"{name}: {value}" for name, value in self.content.items()).split())


def alerts(project: Project, snapshot: Snapshot, red: Iterable[RedCheck] = ()) -> list[Alert]:
    """Files refused and files overdue within the last seven days, and checks that are red now, oldest first."""
    found = [*_refused(project, snapshot), *_overdue(project, snapshot), *_red(red, snapshot.at.date())]
    return sorted(found, key=lambda alert: (alert.day, alert.subject))


def _red(checks: Iterable[RedCheck], today: date) -> Iterator[Alert]:
    """One alert a day for each check that is red and says the same; those that are alerts already are left out."""
    for check in checks:
        if check.name not in TOLD_OTHERWISE:
            content = {
                "alert": "check failed",
                "asset": check.asset,
                "check": check.name,
                "day": check.partition,
                "said": check.said,
            }
            state = hashlib.sha256(repr(check).encode()).hexdigest()[:16]
            yield Alert(f"check/{check.asset}/{check.name}/{state}/{today}", today, content)


def _refused(project: Project, snapshot: Snapshot) -> Iterator[Alert]:
    """A file is told again when it is refused again: its state is when that was."""
    for file in quarantine.listing(project.settings.quarantine, since=snapshot.at - REACHES_BACK):
        why = file.reason
        if why.settled or snapshot.at - why.refused_at > REACHES_BACK:
            continue
        content = {
            "alert": "file refused",
            "source": why.source,
            "day": None if why.day is None else why.day.isoformat(),
            "file": shown(why.name),
            "reason": why.reason,
            "found": why.found,
            "expected": why.expected,
            "key": why.key,
            "refused_at": why.refused_at.isoformat(timespec="seconds"),
        }
        yield Alert(f"refused/{why.key}/{why.refused_at:%Y%m%dT%H%M%S}", why.day or why.refused_at.date(), content)


def _overdue(project: Project, snapshot: Snapshot) -> Iterator[Alert]:
    """One alert for each day whose file did not come by its deadline."""
    for spec in project.sources:
        for day in snapshot.overdue(spec):
            if day >= snapshot.at.date() - REACHES_BACK:
                content = {"alert": "file overdue", "source": spec.name, "day": day.isoformat()}
                yield Alert(f"overdue/{spec.name}/{day}", day, {**content, "deadline": f"{spec.deadline} UTC"})
