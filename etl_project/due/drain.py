"""Drain: run what is pending in this process until nothing is.

For cron jobs, tests and the demo. The runs are real Dagster runs, recorded in the instance, and exactly those that the
sensor would ask for. A kill anywhere leaves what was committed; the next drain goes on from there. Making one run, and
what came of it, is `execution`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from etl_project import utc
from etl_project.due import attempts, check_verdicts, failure_words, words
from etl_project.due.check_verdicts import RedCheck
from etl_project.due.execution import Deployment, Ended, execute, refuse_undated, take_in_many_days
from etl_project.due.graph import Key
from etl_project.due.pending import Due, Outlook
from etl_project.due.snapshot import Snapshot, look, outlook, selected, tidy
from etl_project.exclusion import run_lock
from etl_project.storage import ALLOW_CHANGE_TAG, ALLOW_SHRINK_TAG

__all__ = ["Deployment", "Drained", "Ended", "OnRun", "Wish", "ahead", "drain", "execute"]

MOST_FAILURES_IN_A_ROW = 20
"""More than it takes to find the bad day of years: such a row is an outage, and every further run would only fail."""


@dataclass(frozen=True)
class Wish:
    """What a drain is asked for beside what is pending.

    `allow_shrink` lets days lose more rows than `max_removed_ratio` allows, `allow_change` change by more than
    `max_changed_ratio` and `max_sum_change` do. `for_good_too` tries again what failed for good. `select` limits it to
    some assets and what they are built of. `through` are assets that read themselves and are rebuilt, in order, after a
    correction.
    """

    allow_shrink: bool = False
    for_good_too: bool = False
    select: tuple[str, ...] = ()
    through: tuple[str, ...] = ()
    allow_change: bool = False


@dataclass
class Drained:
    """What a drain did: runs that went well, runs that failed, and files it put into quarantine."""

    succeeded: list[Due] = field(default_factory=list)
    failed: list[Due] = field(default_factory=list)
    gave_up: list[Due] = field(default_factory=list)
    reasons: dict[str, str] = field(default_factory=dict)
    """What the last failure of the first of these said, by state, as the end of a sentence."""
    refused_undated: int = 0
    unreadable: Mapping[str, str] = field(default_factory=dict)
    """Sources whose drop folder could not be read, and why."""
    passed_over: list[str] = field(default_factory=list)
    """What is no file to take in or cannot be removed, and days whose archived files are gone, in words."""
    being_written: list[str] = field(default_factory=list)
    """Files that were not taken because a process has them open for writing, in words."""
    held: Sequence[str] = ()
    """What is left although something has changed, because it waits for something else; in words."""
    gone: Sequence[str] = ()
    """Tables that were gone when the drain began, in words; it has built again what has its inputs."""
    not_taken: Sequence[str] = ()
    """Why files whose rows say their day could not be taken in."""
    busy: str | None = None
    """Who holds what the drain could not get, in words; the drain has waited once, as long as ETL_WAIT_SECONDS says."""
    red: dict[tuple[str, str, str | None], RedCheck] = field(default_factory=dict)
    """The checks that failed in these runs, by asset, check and partition; one that passed later is not among them."""
    failures_in_a_row: int = 0
    unanswered: set[str] = field(default_factory=set)
    """Steps that would fail for any days until somebody outside answers: what consists of them alone waits."""

    @property
    def runs(self) -> int:
        """How many runs were made."""
        return len(self.succeeded) + len(self.failed)

    @property
    def all_well(self) -> bool:
        """Whether nothing is left that a person has to look at."""
        left = self.failed or self.gave_up or self.unreadable or self.passed_over or self.not_taken
        return not (left or self.busy or self.red)

    def note(self, one: Due, ended: Ended) -> None:
        """Count a run that ended."""
        (self.succeeded if ended.success else self.failed).append(one)
        self.unanswered |= ended.without_answer
        if not ended.without_answer:  # It says nothing about what else there is to build.
            self.failures_in_a_row = 0 if ended.success else self.failures_in_a_row + 1
        for key in ended.passed_checks:
            self.red.pop(key, None)
        self.red |= {check.key: check for check in ended.red_checks}
        if ended.held_by_others and self.busy is None:
            self.busy = "; ".join(ended.complaints)


OnRun = Callable[[Due, "Ended | None"], None]
"""Told of each run before it starts (None) and after it ended."""


def drain(
    deployment: Deployment,
    on_run: OnRun = lambda _due, _ended: None,
    wish: Wish = Wish(),
    *,
    allow_shrink: bool = False,
) -> Drained:
    """Bring every commit in line with its inputs. A state that failed before is tried once, a permanent failure not.

    Of a range that fails the halves are tried at once, and so on: in the end only the days at fault are left. Nothing
    is tried any more once MOST_FAILURES_IN_A_ROW runs have failed: then it is not the days that are at fault. Where
    another run holds what is wanted, the drain waits once, names it, and goes on with everything else. What needs an
    answer from somebody who answers nobody fails once, and all of it waits for the next drain.

    Raises StoreBusy (retrying helps) when another process holds the warehouse for longer than the wait setting.
    """
    if allow_shrink:
        wish = replace(wish, allow_shrink=True, for_good_too=True)
    attempts.bury_the_dead(deployment.instance)
    done = Drained()
    tried: set[str] = set()
    while True:
        snapshot = _settled(deployment)
        if snapshot.many_days and not done.not_taken:
            done.not_taken = take_in_many_days(deployment)
            snapshot = look(deployment.project, utc.now(), deployment.instance)
        done.unreadable = snapshot.unreadable
        done.passed_over = [*snapshot.lost, *snapshot.passed_over, *tidy(deployment.project, snapshot)]
        done.being_written = snapshot.being_written
        if snapshot.undated:
            done.refused_undated += refuse_undated(deployment, sum(map(len, snapshot.undated.values())))
        done.gone = done.gone or snapshot.gone_in_words
        found = ahead(deployment, snapshot, wish)
        done.held = [*words.of_held(found), *snapshot.stray]
        asks = list(_to_try(deployment, found, tried, done, wish))
        if not asks:
            return done
        for one in asks:
            if done.failures_in_a_row == MOST_FAILURES_IN_A_ROW:
                return done
            tried.add(one.state)
            on_run(one, None)
            ended = execute(deployment, one, _tags(wish, done))
            done.note(one, ended)
            on_run(one, ended)
            if ended.store_is_busy:
                return done


def ahead(
    deployment: Deployment,
    snapshot: Snapshot,
    wish: Wish,
    *,
    eventually: bool = False,
    given_up: Iterable[tuple[str, Key]] = (),
) -> Outlook:
    """What is due in this snapshot, within what is wished for; `eventually` as in `pending.Settings`."""
    project = selected(deployment.project, wish.select)
    red = check_verdicts.red(project.nodes, snapshot.commits, deployment.instance)
    return outlook(project, snapshot, red=red, through=wish.through, eventually=eventually, given_up=given_up)


def _to_try(deployment: Deployment, found: Outlook, tried: set[str], done: Drained, wish: Wish) -> Iterator[Due]:
    """What to run of what is due: everything that was not tried in this drain, and did not fail for good before."""
    for part in attempts.in_parts(deployment.instance, found.due, patience=1):
        if part.due.state in tried or _waits_for_an_answer(part.due, done):
            continue
        if part.until == attempts.NEVER and not wish.for_good_too:
            tried.add(part.due.state)
            done.gave_up.append(part.due)
            if len(done.gave_up) <= failure_words.MOST_REASONS:
                done.reasons[part.due.state] = failure_words.told_again(deployment.instance, part)
        else:
            yield part.due


def _waits_for_an_answer(due: Due, done: Drained) -> bool:
    return {asset.replace("/", "__") for asset in due.assets} <= done.unanswered


def _tags(wish: Wish, done: Drained) -> dict[str, str]:
    meant = ((ALLOW_SHRINK_TAG, wish.allow_shrink), (ALLOW_CHANGE_TAG, wish.allow_change))
    allowed = {tag: "true" for tag, said in meant if said}
    return {**allowed, **({run_lock.WAIT_TAG: "0"} if done.busy is not None else {})}


def _settled(deployment: Deployment) -> Snapshot:
    """One look, after giving files that are still too young the time to settle once."""
    snapshot = look(deployment.project, utc.now(), deployment.instance)
    if snapshot.unsettled:
        time.sleep(deployment.project.settings.settle_seconds)
        snapshot = look(deployment.project, utc.now(), deployment.instance)
    return snapshot
