"""Worker: a process that waits at a broker for runs and executes them, one run a task of Celery.

Dagster's own launcher (`dagster_celery.launcher.CeleryRunLauncher`, named in `dagster.yaml`) sends the tasks, and its
own body executes them. Belongs here: what its tasks lack. A run is said to be at work from the moment a worker has it,
by a lease, so that one whose worker died is known to be dead (Dagster has it as started for ever,
https://github.com/dagster-io/dagster/pull/33493); and a task that is delivered twice is executed once.
Does not belong here: which runs there are (`due`), and ending those of the dead (`due.attempts`).
"""

from __future__ import annotations

import logging
import os
import socket
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import dagster as dg
from dagster._serdes import unpack_value

from etl_project import faults, settings
from etl_project.exclusion import LockBusy, locks_at, processes, run_lock
from etl_project.failures import Permanent, Transient
from etl_project.storage import ExtraMissing

try:
    import celery
    from amqp.exceptions import AMQPError
    from celery.app.backends import by_url
    from celery.exceptions import ImproperlyConfigured
    from dagster_celery.launcher import CeleryRunLauncher
    from dagster_celery.tags import DAGSTER_CELERY_TASK_ID_TAG
    from dagster_celery.tasks import create_execute_job_task, create_resume_job_task
    from kombu.exceptions import KombuError
    from kombu.utils.url import maybe_sanitize_url
    from redis.exceptions import RedisError
except ImportError as error:
    raise ExtraMissing(
        f"Runs on several machines need the extra `celery` ({error.name or error}): pip install 'etl-project[celery]'."
    ) from None

SIGNED_SECONDS = 10.0
"""So long a launcher may take to note on a run which task it is."""
PROBE_SECONDS, CONNECT_SECONDS = 1.0, 5.0

_CONFIG = {
    # The process of a run loads the code anew, as Dagster's own launcher does: it may have changed, and the days too.
    "worker_max_tasks_per_child": 1,
    # Nobody fetches a task that has to wait behind another one: it would be lost for an hour with this worker.
    "worker_prefetch_multiplier": 1,
    # A task is not sent again because its process died: what became of its run is asked for again by what is pending.
    "task_reject_on_worker_lost": False,
    "broker_connection_retry_on_startup": True,
    "broker_connection_max_retries": None,
    "worker_cancel_long_running_tasks_on_connection_loss": False,
    "worker_redirect_stdouts": False,
}

_OVER_REDIS = {"worker_disable_prefetch": True, "task_acks_late": False}
# Elsewhere Celery keeps a worker from fetching more than it has slots only by what it has not acknowledged yet. So it
# acknowledges what has ended; what was delivered again (its worker died, or took longer than RabbitMQ's
# `consumer_timeout`) is left alone by `at_work` and Dagster.
_ELSEWHERE = {"worker_disable_prefetch": False, "task_acks_late": True, "broker_channel_error_retry": True}

_log = logging.getLogger(__name__)


class WorkerUnusable(Permanent):
    """There is nothing here that a worker could work for. Retrying does not help: somebody has to change something."""


class BrokerUnavailable(Transient):
    """The broker does not answer. Nothing was changed; retrying helps once it does."""


def serve(instance: dg.DagsterInstance, slots: int, queue: str | None, wait_seconds: float) -> int:
    """Execute the runs that come over the broker, at most `slots` at once, until SIGTERM or Ctrl-C; the exit code.

    The first signal lets the runs at work end, the second one does not. A kill leaves what was committed; the runs are
    marked as failed once their lease has run out, and their days are asked for again. A broker that goes away later is
    waited for. Raises WorkerUnusable (retrying does not help), BrokerUnavailable (it does) after `wait_seconds`.
    """
    launcher = launcher_of(instance)
    app = app_of(launcher)
    reach(app, wait_seconds)
    worker = app.Worker(
        hostname=f"etl-{os.getpid()}@{socket.gethostname()}",
        pool="prefork",
        concurrency=slots,
        queues=[queue or launcher.default_queue],
        loglevel="INFO",
        optimization="fair",
    )
    worker.start()
    return int(worker.exitcode or 0)


def launcher_of(instance: dg.DagsterInstance) -> CeleryRunLauncher:
    """The launcher that `dagster.yaml` names. Raises WorkerUnusable where it is none that sends tasks to workers."""
    try:
        launcher = instance.run_launcher
    except (dg.DagsterInvalidConfigError, dg.DagsterInvariantViolationError) as error:
        raise WorkerUnusable(
            f"The run_launcher of dagster.yaml cannot be used: {' '.join(str(error).split())[:300]}"
        ) from None
    if not isinstance(launcher, CeleryRunLauncher):
        raise WorkerUnusable(
            f"dagster.yaml has {type(launcher).__name__} as run_launcher, which sends nothing to workers; write "
            "module: dagster_celery.launcher, class: CeleryRunLauncher, config: {broker: {env: ETL_BROKER}, "
            "backend: {env: ETL_BROKER}} (docs/which-deployment.md)."
        )
    for name, url in (("broker", launcher.broker), ("backend", launcher.backend)):
        keeps_none = ("rpc", "amqp", "pyamqp") if name == "backend" else ("rpc",)
        if not url or "://" not in url or url.startswith(keeps_none):
            raise WorkerUnusable(
                f"The run_launcher of dagster.yaml has no durable {name}: what is queued, or how a task ended, is lost "
                f"with it. Write {name}: {{env: ETL_BROKER}}, and set ETL_BROKER=redis://:PASSWORD@redis.example.com/0 "
                "(over RabbitMQ how tasks ended needs a place of its own: docs/which-deployment.md)."
            )
    try:
        by_url(launcher.backend, launcher.celery.loader)
    except (ImportError, ImproperlyConfigured):  # Of a name, or a driver, that is not there.
        raise WorkerUnusable(
            f"Celery knows no backend {str(launcher.backend).partition('://')[0]!r}. Retrying does not help. Write "
            "redis://... or db+postgresql+psycopg2://... (docs/which-deployment.md)."
        ) from None
    return launcher


def app_of(launcher: CeleryRunLauncher) -> celery.Celery:
    """Celery as the launcher has configured it, with the tasks that it sends."""
    app = launcher.celery
    is_redis = str(launcher.broker).startswith(("redis", "sentinel"))
    app.conf.update({**_CONFIG, **(_OVER_REDIS if is_redis else _ELSEWHERE)})
    options: dict[str, Any] = {"base": AtWork}
    create_execute_job_task(app, **options)
    create_resume_job_task(app, **options)
    return app


def answering(url: str) -> str:
    """The broker's address without its password, once it has answered. Raises as `reach` does, after one try."""
    reach(celery.Celery(broker=url, set_as_current=False), 0.0)
    return _shown(url)


def reach(app: celery.Celery, wait_seconds: float) -> None:
    """Return once the broker answers. Raises WorkerUnusable where it refuses us, BrokerUnavailable after the wait."""
    until = time.monotonic() + wait_seconds
    shown = _shown(app.conf.broker_url)
    while (problem := _refusal(app)) is not None:
        said = " ".join(str(problem).split()).rstrip(".")
        if _is_final(problem):
            raise WorkerUnusable(
                f"The broker ({shown}) refuses this worker: {said}. Retrying does not help. Correct the address, user "
                "or password in the variable that dagster.yaml names (ETL_BROKER)."
            ) from None
        if time.monotonic() >= until:
            raise BrokerUnavailable(
                f"The broker ({shown}) does not answer: {said}. Nothing was changed; retrying helps once it does."
            ) from None
        time.sleep(min(PROBE_SECONDS, wait_seconds))


def _shown(url: str) -> str:
    """The address, or several of them, without passwords. Raises WorkerUnusable for one that cannot be read."""
    try:
        return ";".join(str(maybe_sanitize_url(one)) for one in url.split(";"))
    except ValueError:  # Which has a part of the password in its words.
        raise WorkerUnusable(
            "The broker's address (ETL_BROKER) cannot be read. Retrying does not help. Write / # ? [ and ; in its user "
            "and password as %2F %23 %3F %5B %3B, and its port as a number."
        ) from None


def _refusal(app: celery.Celery) -> BaseException | None:
    """What keeps us from talking to the broker."""
    try:
        with app.connection_for_read(connect_timeout=CONNECT_SECONDS) as connection:
            connection.ensure_connection(max_retries=1, interval_start=0.1, timeout=CONNECT_SECONDS)
            if connection.transport.driver_type == "redis":  # Which says nothing before the first command.
                connection.default_channel.client.ping()
    except (OSError, ValueError, KeyError, KombuError, RedisError, AMQPError) as problem:
        return problem
    return None


def _is_final(problem: BaseException) -> bool:
    """Whether the broker, or its address, is at fault in a way that does not pass."""
    words = (
        "WRONGPASS",
        "NOAUTH",
        "NOPERM",
        "ACCESS_REFUSED",
        "NOT_ALLOWED",
        "invalid username",
        "Authentication required",
    )
    chain: list[BaseException] = []
    one: BaseException | None = problem
    while one is not None and one not in chain:
        chain.append(one)
        one = one.__cause__ or one.__context__
    return any(isinstance(each, ValueError | KeyError) or any(w in str(each) for w in words) for each in chain)


class AtWork(celery.Task):  # type: ignore[misc]  # Celery has no types.
    """A task that executes a run: no other machine takes the run for dead while it does, nor executes it as well."""

    abstract = True

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Execute the run, unless somebody else does. A run that has ended meanwhile is left alone by Dagster."""
        [packed] = [*args, *kwargs.values()]
        told: Any = unpack_value(packed)
        with dg.DagsterInstance.get() as instance, at_work(instance, told.run_id) as ours:
            return self.run(*args, **kwargs) if ours else 0


@contextmanager
def at_work(instance: dg.DagsterInstance, run_id: str) -> Iterator[bool]:
    """For as long as the block lasts this process is known to work on the run; False where another one does.

    Raises LocksUnavailable (retrying helps) and LocksUnusable (it does not) where the locks are on a server.
    """
    wait_seconds = settings.load().wait_seconds
    locks = locks_at(settings.locks(), settings.state_file(), settings.lease_seconds())
    with ExitStack() as held:
        try:
            # Under a name of its own: the run itself may take what it holds again, from any process.
            held.enter_context(locks.take(f"{run_id}/{uuid.uuid4().hex}", [(f"run {run_id}", None)], 0.0))
        except LockBusy as busy:
            _log.warning("Run %s came twice, and is left to whoever has it: %s", run_id, busy)
            yield False
            return
        held.enter_context(locks.announced(run_id, wait_seconds))
        run = _signed(instance, run_id)
        if run is not None and not run.is_finished:
            instance.add_run_tags(run_id, _owner_tag())
        faults.reach("worker.at_work")
        yield True


def _signed(instance: dg.DagsterInstance, run_id: str) -> dg.DagsterRun | None:
    """The run, once the launcher has noted its task on it: of two who add tags at once one is forgotten."""
    until = time.monotonic() + SIGNED_SECONDS
    while True:
        run = instance.get_run_by_id(run_id)
        if run is None or DAGSTER_CELERY_TASK_ID_TAG in run.tags or time.monotonic() > until:
            return run
        time.sleep(0.05)


def _owner_tag() -> Mapping[str, str]:
    return run_lock.owner_tag(processes.this_process())
