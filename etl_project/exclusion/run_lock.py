"""The run's lock: no line of it in any asset.

Belongs here: the Dagster shell around the task locks, wherever they are kept, and who is said to be at work on a run.
When a process of a run sets its resources up, it takes every (asset, partition) of the run's plan, all or none; when
the run's last process leaves, they are free again. A process that is killed frees them by dying.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import dagster as dg
from pydantic import Field, PrivateAttr

from etl_project import settings, utc
from etl_project.exclusion import deployment, processes
from etl_project.exclusion.jobs import Job, Lease, Locks, log
from etl_project.exclusion.keeper import locks_at
from etl_project.settings import LEASE_SECONDS
from etl_project.storage import Deployment, PartitionLock, reported

WAIT_TAG = "etl/wait_seconds"
"""Run tag: how long this run waits for others at the most, in seconds; a drain waits once, not in each of its runs."""
OWNER_TAG = ".dagster/etl_owner"
"""Hidden from the UI's lists of runs, where days are of more use."""
FORMER_OWNER_TAG = "etl/owner"
"""Run tag: the processes that execute the run, so that a dead one can be told from a busy one."""


class RunLock(PartitionLock):
    """Keeps two runs from working on one partition of one asset at the same time."""

    state: str = Field(description="Path of the SQLite file that all processes of this host share.")
    locks: str | None = Field(
        default=None,
        description="The PostgreSQL database that all machines share, instead of that file: an address without its "
        'password, or dg.EnvVar("ETL_LOCKS").',
    )
    lease_seconds: float = Field(
        default=LEASE_SECONDS, description="How long a machine that gives no sign of life keeps its locks there."
    )
    wait_seconds: float = Field(
        default=60.0, description="How long to wait for other runs before failing as retryable."
    )
    _lease: Lease | None = PrivateAttr(default=None)
    _deployment: Deployment | None = PrivateAttr(default=None)

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:
        """Take the run's partitions. Raises LockBusy (retrying helps), naming the holder, after `wait_seconds`."""
        run, instance = context.dagster_run, context.instance
        if run is None or instance is None:
            return  # Nothing runs: the resource is looked at outside of a run.
        with reported(instance, run.run_id):
            say = context.log.info if context.log else log.info
            wait_seconds = min(self.wait_seconds, float(run.tags.get(WAIT_TAG, self.wait_seconds)))
            locks = self._locks(instance)
            with locks.announced(run.run_id, wait_seconds):
                _name_the_owner(instance, run)
                jobs = sorted(jobs_of(instance, run), key=repr)
                self._lease = locks.take(run.run_id, jobs, wait_seconds, say)

    @contextmanager
    def holding(
        self, instance: dg.DagsterInstance, run: dg.DagsterRun, partitions: Sequence[tuple[str, str | None]]
    ) -> Iterator[Callable[[], None]]:
        """Hold more partitions for as long as the block lasts: those of an op that learns from its config which.

        Gives what raises LockLost when the run has lost them. Raises LockBusy (retrying helps) after `wait_seconds`.
        """
        jobs = sorted({_job(asset, key) for asset, key in partitions}, key=repr)
        with self._locks(instance).take(run.run_id, jobs, self.wait_seconds) as lease:
            yield lambda: lease.check(jobs)

    def _locks(self, instance: dg.DagsterInstance) -> Locks:
        def has_ended(run_id: str) -> bool:
            other = instance.get_run_by_id(run_id)
            return other is not None and other.is_finished

        return locks_at(self.locks, Path(self.state), self.lease_seconds, has_ended)

    def teardown_after_execution(self, context: dg.InitResourceContext) -> None:
        """Leave; the last process of the run to leave frees its partitions."""
        if self._lease is not None:
            self._lease.release()
            self._lease = None

    def check(self, asset: str, keys: Sequence[str | None]) -> None:
        """Return only while the run holds these partitions. Raises LockLost: the run must not commit any more."""
        if self._lease is not None:
            self._lease.check(_job(asset, key) for key in keys)

    def deployment(self) -> Deployment:
        """The deployment of the data folder with the state. Asked once a process: a server tells no news of it.

        Raises IdBusy and LocksUnavailable (retrying helps), LocksUnusable (it does not).
        """
        if self._deployment is None:
            state = Path(self.state)
            self._deployment = deployment.this_one(state.parent, locks_at(self.locks, state))
        return self._deployment


def _job(asset: str, key: str | None) -> Job:
    """What is locked for a partition: a day for itself; of other partitions the whole asset."""
    return asset, key if key is None or utc.is_day(key) else None


def jobs_of(instance: dg.DagsterInstance, run: dg.DagsterRun) -> Iterator[Job]:
    """Every (asset, partition) that the run's plan may write.

    A day is a job of its own. Partitions that are no days, and assets without partitions, are locked as a whole asset.
    """
    days = utc.days_of_run(run.tags)
    keys = [None] if days is None else [day.isoformat() for day in utc.days_between(*days)]
    yield from ((asset, key) for asset in planned_assets(instance, run) for key in keys)


def planned_assets(instance: dg.DagsterInstance, run: dg.DagsterRun) -> frozenset[str]:
    """The assets that the run's plan may write; none for a job of ops."""
    snapshot = instance.get_execution_plan_snapshot(str(run.execution_plan_snapshot_id))
    return frozenset(
        output.properties.asset_key.to_user_string()
        for step in snapshot.steps
        for output in step.outputs
        if output.properties is not None and output.properties.asset_key is not None
    )


def owners_of(tags: Mapping[str, str]) -> list[processes.Owner]:
    """The processes that a run's tags name; none where nobody has noted any."""
    noted = tags.get(OWNER_TAG) or tags.get(FORMER_OWNER_TAG, "[]")
    return [processes.Owner.from_json(owner) for owner in json.loads(noted)]


def announced(run_id: str, wait_seconds: float) -> AbstractContextManager[None]:
    """Every machine that judges runs knows that this one is at work, for as long as the block lasts.

    For who makes a run that names its process (`owner_tag`): to be entered before. Raises LocksUnavailable (retrying
    helps) and LocksUnusable (it does not) where the locks are on a server.
    """
    return _of_settings().announced(run_id, wait_seconds)


def may_be_at_work(run: dg.DagsterRun) -> bool:
    """Whether processes may be at work on a run that has not ended, on whatever machine. In doubt it is so."""
    owners = owners_of(run.tags)
    return not owners or _of_settings().may_be_at_work(run.run_id, owners)


def _of_settings() -> Locks:
    return locks_at(settings.locks(), settings.state_file(), settings.lease_seconds())


def owner_tag(*owners: processes.Owner) -> dict[str, str]:
    """The tag that names the processes which execute a run."""
    return {OWNER_TAG: json.dumps([owner.to_json() for owner in owners])}


def _name_the_owner(instance: dg.DagsterInstance, run: dg.DagsterRun) -> None:
    """Note on the run which processes work on it, so that it can be told apart from one whose processes have died.

    The parent counts too: under the multiprocess executor this process ends with its step, and the parent is the run's.
    """
    if OWNER_TAG not in run.tags:
        parent = processes.parent_process()
        owners = [processes.this_process(), *([parent] if parent else [])]
        instance.add_run_tags(run.run_id, owner_tag(*owners))
