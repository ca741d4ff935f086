"""A deployment of several workers for tests: a broker and `etl worker` processes, on the servers for tests.

Belongs here: starting, killing, stopping and restarting each of them, as real processes with a folder of their own, and
handing a run to the broker as Dagster's daemon does. Nothing is mocked.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any, Protocol

import dagster as dg
import psycopg
import pytest
from dagster._core.code_pointer import ModuleCodePointer
from dagster._core.launcher import LaunchRunContext
from dagster._core.origin import JobPythonOrigin, RepositoryPythonOrigin

from etl_project import utc
from etl_project_tests.deployments import ROOT, Place

redis = pytest.importorskip("redis", reason="needs the extra `celery`")
amqp = pytest.importorskip("amqp", reason="needs the extra `celery`")
REDIS = shutil.which("redis-server")
RABBITMQ = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")  # What is in the path only starts it as its own user.
needed = pytest.mark.skipif(REDIS is None, reason="needs redis-server (Debian's package; deploy/redis/start.sh)")
START_POSTGRES = ROOT / "deploy" / "postgres" / "start.sh"
PASSWORD = "sec-ret-of-the-broker"
ETL = (sys.executable, "-W", "ignore", "-c", "from etl_project.cli.entry import main; main()")
PATIENCE_SECONDS = 240.0
"""Much more than anything takes, on a machine that is busy with everything else."""


def eventually(met: Callable[[], Any], what: str, seconds: float = PATIENCE_SECONDS, pause: float = 0.1) -> Any:
    """What `met` gives as soon as it is true. Fails after a time that only a fault takes."""
    until = time.monotonic() + seconds
    while not (found := met()):
        if time.monotonic() > until:
            pytest.fail(f"not within {seconds:g} s: {what}")
        time.sleep(pause)
    return found


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


class Broker(Protocol):
    """What runs are sent over: a server of a test's own, which keeps what it has on disk."""

    folder: Path

    @property
    def url(self) -> str: ...

    def start(self) -> None: ...

    def kill(self) -> None: ...

    def queued(self) -> int:
        """How many tasks wait there."""

    def deliver_twice(self) -> None:
        """Put the one task that waits there once more."""

    def kept(self) -> list[bytes]:
        """The content of what it has on disk."""


@dataclass
class Redis:
    """A broker of its own in a folder, which keeps what it has on disk; at a socket, which is nobody else's."""

    folder: Path
    _process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis+socket://:{PASSWORD}@{self.folder}/s?virtual_host=0"

    def start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        lines = f"port 0\nunixsocket {self.folder}/s\ndir {self.folder}\nappendonly yes\nappendfsync always\nsave ''\n"
        (self.folder / "redis.conf").write_text(f"{lines}requirepass {PASSWORD}\n")
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen([str(REDIS), str(self.folder / "redis.conf")], stdout=log, stderr=log)
        eventually(self._answers, "Redis answers")

    def client(self) -> Any:
        return redis.Redis(unix_socket_path=f"{self.folder}/s", password=PASSWORD)

    def _answers(self) -> bool:
        try:
            return bool(self.client().ping())
        except redis.RedisError:
            return False

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def queued(self) -> int:
        return int(self.client().llen("dagster"))

    def deliver_twice(self) -> None:
        [message] = self.client().lrange("dagster", 0, -1)
        self.client().lpush("dagster", message)

    def kept(self) -> list[bytes]:
        return [path.read_bytes() for path in self.folder.rglob("a*") if path.is_file()]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Rabbit:
    """As `Redis`; at ports of its own, with a port mapper (epmd) of its own, which Erlang needs."""

    folder: Path
    _port: int = field(default_factory=_free_port)
    _processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"amqp://etl:{PASSWORD}@127.0.0.1:{self._port}//"

    def start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        settings = {
            "listeners.tcp.1": f"127.0.0.1:{self._port}",
            "default_user": "etl",
            "default_pass": PASSWORD,
            "disk_free_limit.absolute": "1MB",
            "log.console": "true",
            "log.file": "false",
        }
        (self.folder / "rabbitmq.conf").write_text("".join(f"{name} = {value}\n" for name, value in settings.items()))
        mapper = str(_free_port())
        environment = {
            **os.environ,
            "HOME": str(self.folder),  # For the cookie.
            "ERL_EPMD_PORT": mapper,
            "RABBITMQ_NODENAME": "etl@localhost",
            "RABBITMQ_DIST_PORT": str(_free_port()),
            "RABBITMQ_CONFIG_FILE": str(self.folder / "rabbitmq.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "plugins"),
            "RABBITMQ_MNESIA_BASE": str(self.folder / "data"),
            "RABBITMQ_LOG_BASE": str(self.folder / "logs"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1} +S 1:1",
        }
        with (self.folder / "log").open("ab") as log:
            for command in (["epmd", "-port", mapper, "-address", "127.0.0.1"], [str(RABBITMQ)]):
                self._processes.append(
                    subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
                )
        eventually(self._answers, "RabbitMQ answers")

    def _answers(self) -> bool:
        with suppress(OSError, amqp.AMQPError), self._channel():
            return True
        return False

    @contextmanager
    def _channel(self) -> Iterator[Any]:
        with amqp.Connection(f"127.0.0.1:{self._port}", "etl", PASSWORD, connect_timeout=5) as connection:
            yield connection.channel()

    def kill(self) -> None:
        for process in self._processes:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self._processes.clear()

    def queued(self) -> int:
        with self._channel() as channel:
            try:
                return int(channel.queue_declare("dagster", passive=True).message_count)
            except amqp.NotFound:
                return 0

    def deliver_twice(self) -> None:
        with self._channel() as channel:
            message = channel.basic_get("dagster", no_ack=True)
            for _ in range(2):
                channel.basic_publish(amqp.Message(message.body, **message.properties), routing_key="dagster")

    def kept(self) -> list[bytes]:
        return [path.read_bytes() for path in (self.folder / "data").rglob("*") if path.is_file()]


BROKERS = [
    "redis",
    pytest.param(
        "rabbitmq",
        marks=pytest.mark.skipif(not RABBITMQ.exists(), reason="needs RabbitMQ (Debian's package rabbitmq-server)"),
    ),
]


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
