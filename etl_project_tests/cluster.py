"""A deployment of several workers for tests: a broker and `etl worker` processes, on the servers for tests.

Belongs here: starting, killing, stopping and restarting each of them, as real processes with a folder of their own, and
handing a run to the broker as Dagster's daemon does. Nothing is mocked.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import dagster as dg
import psycopg
import pytest
from dagster._core.code_pointer import ModuleCodePointer
from dagster._core.launcher import LaunchRunContext
from dagster._core.origin import JobPythonOrigin, RepositoryPythonOrigin

from etl_project import utc
from etl_project_tests.brokers import PATIENCE_SECONDS, REDIS, Broker, Rabbit, Redis, eventually
from etl_project_tests.deployments import ROOT, Place

needed = pytest.mark.skipif(REDIS is None, reason="needs redis-server (Debian's package; deploy/redis/start.sh)")
START_POSTGRES = ROOT / "deploy" / "postgres" / "start.sh"
ETL = (sys.executable, "-W", "ignore", "-c", "from etl_project.cli.entry import main; main()")


def dagster_yaml(of_results: str = "ETL_BROKER") -> str:
    """The `dagster.yaml` of a server deployment, put together from what the documentation shows.

    `of_results`: the variable of the backend, where that is not the broker itself.
    """
    page = (ROOT / "docs" / "which-deployment.md").read_text()
    shown = [part.split("```", 1)[0] for part in page.split("```yaml\n")[1:]]
    text = "\n".join(shown) + "\ntelemetry:\n  enabled: false\n"
    if of_results != "ETL_BROKER":  # As the documentation says in words.
        confirmed = "      broker_transport_options: {confirm_publish: true}\n"
        text = text.replace("backend:\n      env: ETL_BROKER", f"backend:\n      env: {of_results}")
        text = text.replace("    config_source:\n", f"    config_source:\n{confirmed}")
        assert confirmed in text and f"env: {of_results}" in text
    return text


@dataclass
class Postgres:
    """A PostgreSQL server of its own, which can be killed and started again at the same port, with what it had."""

    folder: Path
    _process: subprocess.Popen[bytes] | None = None

    @classmethod
    def made(cls, folder: Path) -> Postgres:
        """A new one in a folder, which every user of the machine has to be able to enter."""
        one = cls(folder)
        one._run([str(ROOT / "deploy" / "on-free-port.sh"), str(START_POSTGRES), str(folder)])
        eventually((folder / "port").exists, "PostgreSQL has a port")
        eventually(one._answers, "PostgreSQL answers")
        return one

    @property
    def server(self) -> str:
        """How to reach it, as ETL_TEST_POSTGRES says it."""
        password = (self.folder / "server" / "password").read_text().strip()
        return f"host=localhost port={self._port} user=etl password={password}"

    def start(self) -> None:
        """Again, after `kill`. What is left of the killed one has to go first: it refuses to start until then."""

        def answers() -> bool:
            if self._process is None or self._process.poll() is not None:
                self._run([str(START_POSTGRES), self._port, str(self.folder / "server")])
            return self._answers()

        eventually(answers, "PostgreSQL answers again", pause=0.5)

    def kill(self) -> None:
        """The server with every connection, as when its machine loses power; twice is no error."""
        if self._process is None:
            return
        with suppress(FileNotFoundError, ProcessLookupError):
            first_line = (self.folder / "server" / "data" / "postmaster.pid").read_text().split()[0]
            os.kill(int(first_line), signal.SIGKILL)
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._process = None

    @property
    def _port(self) -> str:
        return (self.folder / "port").read_text().strip()

    def _run(self, command: Sequence[str]) -> None:
        with (self.folder / "told").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)

    def _answers(self) -> bool:
        with suppress(psycopg.OperationalError), psycopg.connect(self.server, dbname="postgres", connect_timeout=5):
            return True
        return False


@dataclass
class Worker:
    """An `etl worker`: a process group with temporary files and a log of its own."""

    process: subprocess.Popen[bytes]
    log: Path

    def signal_group(self, number: signal.Signals) -> None:
        """To everything that belongs to it, the processes of its runs too, as when a machine dies."""
        try:
            os.killpg(self.process.pid, number)
        except ProcessLookupError:
            return

    def kill(self) -> None:
        self.signal_group(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        """As a supervisor stops it; the runs at work end first."""
        self.process.terminate()
        self.process.wait(PATIENCE_SECONDS)


@dataclass
class Cluster:
    """One deployment: settings that all of its processes share."""

    place: Place
    home: Path
    settings: dict[str, str]
    broker: Broker
    workers: list[Worker] = field(default_factory=list)

    def worker(self, name: str, *, before: Sequence[str] = (), slots: int = 1, **more: str) -> Worker:
        """Start a worker. `before` are words of a command that starts it; `more` are settings of its own."""
        folder = self.home / name
        (folder / "tmp").mkdir(parents=True, exist_ok=True)
        environment = {**self.environment(), "TMPDIR": str(folder / "tmp"), "PYTHONFAULTHANDLER": "1", **more}
        log = folder / "log"
        with log.open("ab") as out:
            process = subprocess.Popen(
                [*before, *ETL, "worker", "--slots", str(slots)],
                env=environment,
                cwd=ROOT,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        made = Worker(process, log)
        self.workers.append(made)
        return made

    def environment(self) -> dict[str, str]:
        return self.place.environment(**self.settings)

    @contextmanager
    def instance(self) -> Iterator[dg.DagsterInstance]:
        """Dagster's instance of the deployment; its settings have to be in the environment (`entered`)."""
        with dg.DagsterInstance.from_config(str(self.home)) as opened:
            yield opened

    def launched(
        self, instance: dg.DagsterInstance, job: dg.JobDefinition, days: tuple[date, date], assets: Sequence[str]
    ) -> str:
        """A run of these assets over these days, sent to the broker as the daemon does it; its id."""
        code = RepositoryPythonOrigin(
            executable_path=sys.executable,
            code_pointer=ModuleCodePointer("etl_project.definitions", "defs", str(ROOT)),
            entry_point=["dagster"],
        )
        run = instance.create_run_for_job(
            job,
            tags=utc.run_tags(*days),
            status=dg.DagsterRunStatus.NOT_STARTED,
            asset_selection=frozenset(map(dg.AssetKey, assets)),
            job_code_origin=JobPythonOrigin(job_name=job.name, repository_origin=code),
        )
        starting = dg.DagsterEvent(dg.DagsterEventType.RUN_STARTING.value, job.name)
        instance.report_dagster_event(starting, run.run_id)
        instance.run_launcher.launch_run(LaunchRunContext(instance.get_run_by_id(run.run_id), workspace=None))
        return run.run_id

    def close(self) -> None:
        for worker in self.workers:
            worker.signal_group(signal.SIGCONT)
            worker.kill()
        self.broker.kill()


@contextmanager
def running(cluster: Cluster, patch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """The cluster with its broker, and its settings in this process, too; all of its processes are ended."""
    with ExitStack() as undo:
        undo.callback(cluster.close)
        for name, value in {
            **cluster.settings,
            "ETL_DATA_DIR": str(cluster.place.data),
            "ETL_SETTLE_SECONDS": "0",
        }.items():
            patch.setenv(name, value)
        cluster.broker.start()
        yield cluster


def on_servers(folder: Path, url: str, *, instance: str | None = None, kind: str = "redis", **more: str) -> Cluster:
    """A cluster in a folder, whose locks and history are in the database at `url`. `instance`: its `dagster.yaml`."""
    home = folder / "home"
    broker: Broker = Rabbit(folder / "rabbit") if kind == "rabbitmq" else Redis(folder / "redis")
    of_results = "ETL_RESULTS" if kind == "rabbitmq" else "ETL_BROKER"
    home.mkdir(parents=True)
    (home / "dagster.yaml").write_text(instance or dagster_yaml(of_results))
    settings = {
        "DAGSTER_HOME": str(home),
        "DAGSTER_POSTGRES_URL": url,
        "ETL_LOCKS": url,
        "ETL_LOCKS_LEASE_SECONDS": "6",
        "ETL_RESULTS": url.replace("postgresql://", "db+postgresql+psycopg2://", 1),
        "ETL_BROKER": broker.url,
        "ETL_WAIT_SECONDS": "60",
        **more,
    }
    return Cluster(Place(folder / "data"), home, settings, broker)
