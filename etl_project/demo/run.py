"""The demo: sample files in, through the same `pending()` as the sensor, and the proof that a rerun changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Protocol

from etl_project import utc
from etl_project.demo import landed, payments, sample
from etl_project.due import Deployment, Due, OnRun, Project, execute, look
from etl_project.due import drain as drain_module
from etl_project.settings import Settings
from etl_project.sources import quarantine
from etl_project.storage import Head

Say = Callable[[str], None]
Commits = Mapping[tuple[str, date], Head]


@dataclass(frozen=True)
class DemoResult:
    """What the demo shows at its end; row counts are over the demo's days."""

    days: int
    rows_stored: int
    rows_rejected: int
    payments: int
    quarantined: int
    changed_later: tuple[tuple[str, date], ...]
    rebuilt: int
    identical: int

    @property
    def proven(self) -> bool:
        """The second run left every fingerprint as it was."""
        return self.rebuilt > 0 and self.identical == self.rebuilt


class Payments(Protocol):
    """How the sample payments get into their drop folder. Each call can be repeated, and says what it did."""

    def first(self) -> str:
        """All payments but the late one."""
        ...

    def later(self) -> str:
        """What comes after everything was built once."""
        ...


class AsFiles:
    """The payments as the files that a landing from Kafka leaves; needs no broker."""

    def __init__(self, folder: Path, moved: timedelta = sample.NOT_MOVED) -> None:
        self.folder = folder
        self.moved = moved

    def first(self) -> str:
        """A file a day and partition."""
        files = landed.first_landing(self.moved)
        sample.drop(files, self.folder)
        return f"{len(files)} landed files with payments arrive in {self.folder}"

    def later(self) -> str:
        """A late message, and messages landed a second time."""
        sample.drop(landed.second_landing(self.moved), self.folder)
        return f"A payment of {payments.LATE + self.moved} comes late, and half a batch of that day is landed twice"


def first_day(settings: Settings, today: date) -> date:
    """The sample's first day in this data folder: that of an earlier demo there, else so that today is its last."""
    dropped = [path.name for path in (settings.incoming / "orders").glob("orders-????-??-??*")]
    archived = [path.parent.name for path in (settings.archive / "orders").glob("????-??-??/orders-*")]
    days = [*(name.removeprefix("orders-")[:10] for name in dropped), *archived]
    return utc.day_of(min(days)) if days else today - (sample.LAST - sample.FIRST)


def demo(
    deployment: Deployment, delivery: Payments, say: Say, on_run: OnRun, moved: timedelta = sample.NOT_MOVED
) -> DemoResult:
    """Drop the sample, drain, correct one day, drain, rebuild everything, compare. Can be repeated at any point.

    `moved`: how much later than the sample's own days everything is.
    """
    project = deployment.project
    folder = project.settings.incoming / "orders"
    files = sample.first_delivery(moved)
    say(f"{len(files)} sample files arrive in {folder}")
    sample.drop(files, folder)
    say(delivery.first())
    drain_module.drain(deployment, on_run)
    before = _commits(project, moved)
    say(f"A corrected file for {sample.CORRECTED + moved} arrives under its old name")
    sample.drop(sample.correction(moved), folder)
    say(delivery.later())
    drain_module.drain(deployment, on_run)
    corrected = _commits(project, moved)
    say("The proof: every day of every asset is built a second time")
    _rebuild(deployment, corrected, on_run)
    again = _commits(project, moved)
    return DemoResult(
        days=len({day for _, day in again}),
        rows_stored=_rows(again, "orders"),
        rows_rejected=_rows(again, "orders_rejects"),
        payments=_rows(again, "payments"),
        quarantined=len(quarantine.listing(project.settings.quarantine)),
        changed_later=_differences(before, corrected),
        rebuilt=len(again),
        identical=len(again) - len(_differences(corrected, again)),
    )


def _rows(commits: Commits, asset: str) -> int:
    return sum(commit.rows for (name, _), commit in commits.items() if name == asset)


def _commits(project: Project, moved: timedelta) -> Commits:
    """The last commits of the demo's own days."""
    found = look(project, utc.now()).commits
    return {
        (asset, day): commit
        for (asset, day), commit in found.items()
        if isinstance(day, date) and sample.FIRST <= day - moved <= sample.LAST
    }


def _differences(one: Commits, other: Commits) -> tuple[tuple[str, date], ...]:
    return tuple(sorted(key for key in {*one, *other} if _fingerprint(one, key) != _fingerprint(other, key)))


def _fingerprint(commits: Commits, key: tuple[str, date]) -> str | None:
    return commits[key].fingerprint if key in commits else None


def _rebuild(deployment: Deployment, commits: Commits, on_run: OnRun) -> None:
    """Build every committed day of every asset again, whether anything is due or not."""
    by_day: dict[date, set[str]] = {}
    for asset, day in commits:
        by_day.setdefault(day, set()).add(asset)
    alike: dict[frozenset[str], list[date]] = {}
    for day, assets in by_day.items():
        alike.setdefault(frozenset(assets), []).append(day)
    for group, days in alike.items():
        for first, last in utc.neighbours(days):
            again = Due(first, last, tuple(sorted(group)), "demo-rebuild")
            on_run(again, None)
            on_run(again, execute(deployment, again))
