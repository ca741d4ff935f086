"""The demo: sample files in, through the same `pending()` as the sensor, and the proof that a rerun changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date

from etl_project import partitions
from etl_project.demo import sample
from etl_project.drain import Deployment, OnRun, drain, execute
from etl_project.incoming import quarantine
from etl_project.pending import Due
from etl_project.situation import Project, look
from etl_project.storage.heads import Head

Say = Callable[[str], None]
Commits = Mapping[tuple[str, date], Head]


@dataclass(frozen=True)
class Outcome:
    """What the demo shows at its end; row counts are over the demo's days."""

    days: int
    rows_stored: int
    rows_rejected: int
    quarantined: int
    changed_by_correction: tuple[tuple[str, date], ...]
    rebuilt: int
    identical: int

    @property
    def proven(self) -> bool:
        """The second run left every fingerprint as it was."""
        return self.rebuilt > 0 and self.identical == self.rebuilt


def demo(deployment: Deployment, say: Say, on_run: OnRun) -> Outcome:
    """Drop the sample, drain, correct one day, drain, rebuild everything, compare. Can be repeated at any point."""
    project = deployment.project
    folder = project.settings.incoming / "orders"
    files = sample.first_delivery()
    say(f"{len(files)} sample files arrive in {folder}")
    sample.drop(files, folder)
    drain(deployment, on_run)
    before = _commits(project)
    say(f"A corrected file for {sample.CORRECTED} arrives under its old name")
    sample.drop(sample.correction(), folder)
    drain(deployment, on_run)
    corrected = _commits(project)
    say("The proof: every day of every asset is built a second time")
    _rebuild(deployment, corrected, on_run)
    again = _commits(project)
    return Outcome(
        days=len({day for _, day in again}),
        rows_stored=sum(commit.rows for (asset, _), commit in again.items() if asset == "orders"),
        rows_rejected=sum(commit.rows for (asset, _), commit in again.items() if asset == "orders_rejects"),
        quarantined=len(quarantine.listing(project.settings.quarantine, "orders")),
        changed_by_correction=_differences(before, corrected),
        rebuilt=len(again),
        identical=len(again) - len(_differences(corrected, again)),
    )


def _commits(project: Project) -> Commits:
    """The last commits of the demo's own days."""
    found = look(project, partitions.now()).commits
    return {key: commit for key, commit in found.items() if sample.FIRST <= key[1] <= sample.LAST}


def _differences(one: Commits, other: Commits) -> tuple[tuple[str, date], ...]:
    return tuple(sorted(key for key in {*one, *other} if _fingerprint(one, key) != _fingerprint(other, key)))


def _fingerprint(commits: Commits, key: tuple[str, date]) -> str | None:
    return commits[key].fingerprint if key in commits else None


def _rebuild(deployment: Deployment, commits: Commits, on_run: OnRun) -> None:
    """Build every committed day of every asset again, whether anything is due or not."""
    assets = tuple(node.asset for node in deployment.project.nodes)
    for first, last in partitions.neighbours(day for _, day in commits):
        again = Due(first, last, assets, "demo-rebuild")
        on_run(again, None)
        on_run(again, execute(deployment, again))
