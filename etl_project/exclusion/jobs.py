"""Jobs: what is locked, what every lock promises, and what it says while it is held by somebody else.

Belongs here: the words that all locks share, and the bounded wait. Does not belong here: where rows of a lock lie
(`locks` keeps them in the state file of one machine, `postgres` on a server for several).
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol, Self, TypeVar

from etl_project.exclusion.processes import Owner
from etl_project.failures import Busy, EtlError, Transient

Job = tuple[str, str | None]
"""An asset and the key of its partition; None is the whole of an unpartitioned asset."""

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.02, 1.0

Say = Callable[[str], None]
"""Told once for whom a run waits."""
RunHasEnded = Callable[[str], bool]
"""Whether somebody knows for sure that a run has ended."""

log = logging.getLogger(__name__)


class LockBusy(Busy):
    """Another run holds a job, or the lock itself is busy. Nothing was changed; retrying helps."""


class LockLost(Transient):
    """The run no longer holds a job as it took it: it must not commit. Taking the job again helps."""


class Lease(Protocol):
    """One process's share in the jobs of its run; leaving its `with` block releases it."""

    run_id: str

    def __enter__(self) -> Self:
        """The lease itself."""

    def __exit__(self, *_: object) -> None:
        """Release it."""

    def check(self, jobs: Iterable[Job] | None = None) -> None:
        """Return only if the run still holds these jobs (all of the lease) as it took them. Raises LockLost."""

    def release(self) -> None:
        """Leave; the run's last process to leave frees its jobs. A second call, or a forked child's, does nothing."""


_Result = TypeVar("_Result")


class Locks(Protocol):
    """Where locks are kept, whoever keeps them. Costs nothing until `take`; threads and forks may share it."""

    def take(self, run_id: str, jobs: Iterable[Job], wait_seconds: float, say: Say = log.info) -> Lease:
        """Take all jobs for the run, or none; what the run holds already is taken again at once.

        Waits up to `wait_seconds` with growing pauses, and `say`s for whom. A kill leaves all jobs taken or none; they
        are free again once it is known that the process is dead. Raises LockBusy (retrying helps).
        """

    @property
    def shown(self) -> str:
        """Where the locks are, without any password."""

    def announced(self, run_id: str, wait_seconds: float) -> AbstractContextManager[None]:
        """Whoever asks for it knows that the run is at work, for as long as the block lasts.

        To be entered before the run's record names its processes. A server is waited for as in `take`.
        """

    def may_be_at_work(self, run_id: str, owners: Sequence[Owner]) -> bool:
        """Whether some of the processes that the run's record names may be alive. In doubt True: to wait is safe."""

    def deployment_id(self, own: str) -> str:
        """The id of all machines that have these locks; `own` is that of the data folder. Raises as `examined`."""

    def examined(self) -> str:
        """What is held there, in words, after trying what a run needs. Raises as `take`, but for LockBusy."""


@dataclass(frozen=True)
class Holder:
    """A process of another run that stands in the way: its token, and how many of the jobs we want its run holds."""

    token: str
    run_id: str
    acquired_at: str
    owner: Owner
    example: str | None
    jobs: int
    where: str = ""
    """The machine it is on, where that is not said by where the lock is."""

    def __str__(self) -> str:
        more = "" if self.jobs == 1 else f" and {self.jobs - 1} more"
        process = f"process {self.owner.pid}{self.where}, since {self.acquired_at}"
        return f"{self.example}{more} held by run {self.run_id} ({process})"


def nobody_says_so(run_id: str) -> bool:
    """No run is known to have ended."""
    return False


def job_id(job: Job) -> str:
    """The job as one text that no other job has, whatever the names contain: JSON, which escapes to ASCII."""
    asset, partition = job
    return json.dumps([asset, partition])


def listed(holders: list[Holder]) -> str:
    """Who is in the way, in words; a process that took the same jobs for several IO managers is one of them."""
    each = list({(one.run_id, one.owner, one.where): one for one in reversed(holders)}.values())[::-1]
    more = f"; and {len(each) - 3} more processes" if len(each) > 3 else ""
    return "; ".join(map(str, each[:3])) + more


def tell_dead(holders: Iterable[Holder]) -> None:
    """Log whose jobs fall. A process takes its jobs once for every IO manager: it is one dead process all the same."""
    for run_id, pid in dict.fromkeys((holder.run_id, holder.owner.pid) for holder in holders):
        log.warning("Run %s is dead: its process %d is gone, or it has ended.", run_id, pid)


def waiting(
    run_id: str, attempt: Callable[[], _Result], wait_seconds: float, say: Say, worth_a_wait: tuple[type[EtlError], ...]
) -> _Result:
    """What the attempt gives, tried again for up to `wait_seconds` while it raises what is worth a wait.

    Then that is raised, as LockBusy where somebody else holds something.
    """
    began, pause, said = time.monotonic(), FIRST_PAUSE_SECONDS, ""
    while True:
        try:
            return attempt()
        except worth_a_wait as refusal:
            left = began + wait_seconds - time.monotonic()
            if left <= 0:
                final = LockBusy if isinstance(refusal, Busy) else type(refusal)
                raise final(f"Run {run_id} waited {wait_seconds:g} s. {refusal}") from None
            if str(refusal) != said:
                said = str(refusal)
                say(f"Run {run_id} waits up to {wait_seconds:g} s. {said}")
        time.sleep(min(pause, left))
        pause = min(pause * 1.5, LONGEST_PAUSE_SECONDS)


def claimed(
    claim: Callable[[], list[Holder]], run_has_ended: RunHasEnded, bury: Callable[[list[Holder]], None]
) -> None:
    """Claim; while only ended runs stand in the way, bury them and claim again. Raises LockBusy, naming the others."""
    while holders := claim():
        # Asked outside any transaction, as the answer may be slow. Burying by token keeps it true: a process that joins
        # such a run meanwhile has another one.
        ended = [holder for holder in holders if run_has_ended(holder.run_id)]
        if not ended:
            raise LockBusy(f"{listed(holders)}. Nothing was changed; retrying helps.")
        bury(ended)


def lost(run_id: str, gone: list[str], asked: int, takers: str) -> LockLost:
    """The run does not hold these of the jobs it was asked for."""
    return LockLost(
        f"Run {run_id} no longer holds {', '.join(gone[:3])} ({len(gone)} of {asked} jobs) "
        f"as it took them: {takers or 'no other run does'}. Nothing was committed; retrying helps."
    )
