"""Brokers for tests: Redis and RabbitMQ servers of a test's own, which can be killed and started again.

Belongs here: starting and killing them, and looking at what they have behind the back of the code. Nothing is mocked.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import pytest

redis = pytest.importorskip("redis", reason="needs the extra `celery`")
amqp = pytest.importorskip("amqp", reason="needs the extra `celery`")
REDIS = shutil.which("redis-server")
RABBITMQ = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")  # What is in the path only starts it as its own user.
PASSWORD = "sec-ret-of-the-broker"
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
        (self.folder / "rabbitmq.conf").write_text(
            f"listeners.tcp.1 = 127.0.0.1:{self._port}\ndefault_user = etl\ndefault_pass = {PASSWORD}\n"
            "disk_free_limit.absolute = 1MB\nlog.console = true\nlog.file = false\n"
        )
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
