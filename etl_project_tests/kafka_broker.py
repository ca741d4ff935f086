"""Help for tests that talk to a real Kafka broker.

Belongs here: finding or starting the broker, topics of a test's own, producing, a subscription without a pipeline, and
reading back what has landed. The broker of most tests is the one that ETL_TEST_KAFKA names (deploy/kafka/start.sh
starts one); tests that stop it, or log in, start their own.
"""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic

from etl_project import settings
from etl_project.cli import main
from etl_project.kafka import format as landed
from etl_project.kafka import offsets
from etl_project.kafka.broker import Unreachable
from etl_project.kafka.format import Span
from etl_project.kafka.landing import Watch, land
from etl_project.kafka.settings import Broker
from etl_project.kafka.subscription import Subscription
from etl_project.sources.spec import SourceColumn, SourceSpec
from etl_project_tests import steady
from etl_project_tests.deployments import ROOT
from etl_project_tests.forks import FORKS

START = ROOT / "deploy" / "kafka" / "start.sh"
BOOTSTRAP = os.environ.get("ETL_TEST_KAFKA", "")
FIRST_MS = 1_741_564_800_000
"""2025-03-10 00:00 UTC."""
DAY_MS = 86_400_000
CALM = {"session.timeout.ms": "30000", "heartbeat.interval.ms": "300"}
"""Nobody is taken for dead, however busy the machine is."""
QUICK = {"session.timeout.ms": "1500", "heartbeat.interval.ms": "300"}
"""A member that died is noticed soon."""

needs_broker = pytest.mark.skipif(
    not BOOTSTRAP, reason="no Kafka broker: run deploy/kafka/start.sh 19092 and set ETL_TEST_KAFKA=localhost:19092"
)
needs_own_broker = pytest.mark.skipif(
    not (START.parent / "target" / "libs" / ".complete").exists(),
    reason="the Kafka broker was never fetched: run deploy/kafka/start.sh once",
)


def subscription(topic: str, **changes: Any) -> Subscription:
    """A source with the fields `id` (needed) and `note` (may be missing), landed from this topic."""
    columns = [SourceColumn(name, "VARCHAR") for name in (landed.TOPIC, landed.KEY, landed.HEADERS, "note")]
    columns += [SourceColumn(landed.PARTITION, "INTEGER"), SourceColumn(landed.OFFSET, "BIGINT")]
    columns += [
        SourceColumn(landed.TIMESTAMP, "TIMESTAMP WITH TIME ZONE"),
        SourceColumn("id", "BIGINT", nullable=False),
    ]
    source = SourceSpec(
        name="things",
        patterns=landed.PATTERNS,
        columns={column.name: column.name for column in columns},
        types=tuple(columns),
        start_date=date(2025, 1, 1),
        format="jsonl",
        max_rejected_ratio=1.0,
        settle_seconds=0,
        deduplicate_on=landed.COORDINATES,
    )
    in_source = {name: changes.pop(name) for name in ("max_line_bytes", "time_zone") if name in changes}
    return Subscription(replace(source, **in_source), topic, **{"group": f"group-of-{topic}", **changes})


def configured(folder: Path, wait_seconds: float = 60) -> settings.Settings:
    """The settings of a deployment in this folder."""
    return settings.load({"ETL_DATA_DIR": str(folder), "ETL_WAIT_SECONDS": str(wait_seconds)})


@dataclass(frozen=True)
class Topic:
    """A topic of a test's own."""

    bootstrap: str
    name: str

    @property
    def admin(self) -> Any:
        return AdminClient({"bootstrap.servers": self.bootstrap})

    @property
    def broker(self) -> Broker:
        return Broker(self.bootstrap, CALM)

    def send(
        self,
        values: Iterable[bytes | None],
        partition: int = 0,
        timestamps: Sequence[int] | None = None,
        key: bytes | None = None,
        headers: list[tuple[str, bytes | None]] | None = None,
    ) -> None:
        """Produce the values to one partition, a millisecond apart or at the given times, and wait for the broker."""
        producer = Producer({"bootstrap.servers": self.bootstrap, "linger.ms": 20, "message.max.bytes": 9_000_000})
        problems: list[Any] = []
        for number, value in enumerate(values):
            at = FIRST_MS + number if timestamps is None else timestamps[number]
            while True:
                try:
                    producer.produce(
                        self.name,
                        value,
                        key=key,
                        headers=headers,
                        partition=partition,
                        timestamp=at,
                        on_delivery=lambda error, _: problems.append(error) if error else None,
                    )
                    break
                except BufferError:
                    producer.poll(0.1)
        assert producer.flush(steady.PATIENCE_SECONDS) == 0
        assert not problems

    def delete_before(self, partition: int, offset: int) -> None:
        """Take records away from the front, as retention does."""
        asked = TopicPartition(self.name, partition, offset)
        admin = self.admin  # Answers come only for as long as somebody holds the client.
        for answer in admin.delete_records([asked]).values():
            answer.result(steady.PATIENCE_SECONDS)

    def partitions(self, count: int) -> None:
        """Add partitions until there are `count`."""
        admin = self.admin
        for answer in admin.create_partitions([NewPartitions(self.name, count)]).values():
            answer.result(steady.PATIENCE_SECONDS)

    def delete(self) -> None:
        """Remove the topic, and wait until it is gone."""
        admin = self.admin
        for answer in admin.delete_topics([self.name], operation_timeout=steady.PATIENCE_SECONDS).values():
            answer.result(steady.PATIENCE_SECONDS)
        deadline = time.monotonic() + steady.PATIENCE_SECONDS
        while self.name in admin.list_topics(timeout=steady.PATIENCE_SECONDS).topics:
            assert time.monotonic() < deadline
            time.sleep(0.05)


@contextmanager
def topic(bootstrap: str = BOOTSTRAP, partitions: int = 1, name: str = "", **config: str) -> Iterator[Topic]:
    """A new topic whose messages stay, whatever their timestamps say."""
    made = Topic(bootstrap, name or f"test-{uuid.uuid4().hex[:12]}")
    create(made, partitions, **config)
    try:
        yield made
    finally:
        made.delete()


def create(made: Topic, partitions: int, **config: str) -> None:
    """Make the topic, and wait until the broker says that it is there."""
    asked = NewTopic(
        made.name,
        partitions,
        1,
        config={"retention.ms": "-1", "message.timestamp.after.max.ms": str(2**63 - 1), **config},
    )
    admin = made.admin
    for answer in admin.create_topics([asked], operation_timeout=steady.PATIENCE_SECONDS).values():
        answer.result(steady.PATIENCE_SECONDS)
    deadline = time.monotonic() + steady.PATIENCE_SECONDS
    while len(admin.list_topics(made.name, timeout=steady.PATIENCE_SECONDS).topics[made.name].partitions) != partitions:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def things(first: int, count: int) -> list[bytes]:
    """Messages that are well formed, numbered from `first`."""
    return [b'{"id": %d, "note": "n%d"}' % (number, number) for number in range(first, first + count)]


class Row(NamedTuple):
    """A landed row: the file it stands in and its fields."""

    file: str
    fields: dict[str, Any]


def rows(folder: Path) -> list[Row]:
    """Every row in the drop folder, file by file."""
    files = sorted((folder / "incoming" / "things").glob("*.jsonl"))
    return [Row(path.name, json.loads(line)) for path in files for line in path.read_bytes().split(b"\n") if line]


def coordinates(folder: Path) -> Counter[tuple[int, int]]:
    """How often each (partition, offset) stands in the drop folder."""
    return Counter((row.fields[landed.PARTITION], row.fields[landed.OFFSET]) for row in rows(folder))


def ids_by_coordinates(folder: Path) -> dict[tuple[int, int], int]:
    """The message at each (partition, offset): landed several times or not, it must always be the same one."""
    found: dict[tuple[int, int], int] = {}
    for _, fields in rows(folder):
        at = fields[landed.PARTITION], fields[landed.OFFSET]
        assert found.setdefault(at, fields["id"]) == fields["id"]
    return found


def dead(folder: Path) -> list[dict[str, Any]]:
    """Every dead letter, with its value in bytes."""
    files = sorted((folder / "dead_letters" / "things").glob("undated_*.jsonl"))
    letters = [json.loads(line) for path in files for line in path.read_bytes().split(b"\n") if line]
    for letter in letters:
        value = letter["kafka_value_base64"]
        letter["value"] = None if value is None else base64.b64decode(value)
    return letters


def chains(folder: Path, name: str) -> dict[int, offsets.Chain]:
    """What the names of the files cover, by partition."""
    return offsets.chains(offsets.found(configured(folder), "things"), name)


def spans(folder: Path) -> list[tuple[str, Span]]:
    """Label and offsets of every landed file."""
    names = sorted(path.name for path in (folder / "incoming" / "things").glob("*.jsonl"))
    return [(named.label, named.span) for named in map(landed.parse, names) if named is not None]


class OwnBroker:
    """A broker that a test may stop, start and kill. `sasl` is a second address that wants user `etl`, `secret`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        first = steady.ports(3)
        self.bootstrap, self.sasl = f"localhost:{first}", f"localhost:{first + 2}"
        self._port = first
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start, and wait until it answers."""
        listeners = f"PLAINTEXT://{self.bootstrap},CONTROLLER://localhost:{self._port + 1},SASL_PLAINTEXT://{self.sasl}"
        login = 'org.apache.kafka.common.security.plain.PlainLoginModule required user_etl="secret";'
        overrides = {
            "listeners": listeners,
            "advertised.listeners": f"PLAINTEXT://{self.bootstrap},SASL_PLAINTEXT://{self.sasl}",
            "sasl.enabled.mechanisms": "PLAIN",
            "listener.name.sasl_plaintext.plain.sasl.jaas.config": login,
        }
        options = [part for name, value in overrides.items() for part in ("--override", f"{name}={value}")]
        with (self._folder / "broker.log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(START), str(self._port), str(self._folder / "broker"), *options], stdout=log, stderr=log
            )
        deadline = time.monotonic() + steady.PATIENCE_SECONDS
        while not self._answers():
            assert time.monotonic() < deadline, (self._folder / "broker.log").read_text()
            assert self._process.poll() is None, (self._folder / "broker.log").read_text()
            time.sleep(0.1)

    def _answers(self) -> bool:
        with socket.socket() as one:
            if one.connect_ex(("localhost", self._port)):
                return False
        try:
            return bool(AdminClient({"bootstrap.servers": self.bootstrap}).list_topics(timeout=5))
        except KafkaException:
            return False

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """Stop, and wait until it has gone."""
        if self._process is not None:
            self._process.send_signal(how)
            try:
                self._process.wait(60)
            except subprocess.TimeoutExpired:  # It may wait for a controller, which is itself and on its way out too.
                self._process.kill()
                self._process.wait(steady.PATIENCE_SECONDS)
            self._process = None


@contextmanager
def own_broker(folder: Path) -> Iterator[OwnBroker]:
    """A broker of the test's own, for as long as the block lasts."""
    broker = OwnBroker(folder)
    broker.start()
    try:
        yield broker
    finally:
        broker.stop(signal.SIGKILL)


@dataclass(frozen=True)
class Running:
    """A process that works on a topic, and where its output goes."""

    process: Any
    printed: Path

    def killed(self, after_seconds: float | None = None) -> bool:
        """Wait for the process to be killed by its fault, or kill it after a while; whether it was killed."""
        self.process.join(steady.PATIENCE_SECONDS if after_seconds is None else after_seconds)
        if after_seconds is not None:
            self.process.kill()
            self.process.join(steady.PATIENCE_SECONDS)
        assert self.process.exitcode is not None, self.printed.read_text()
        return bool(self.process.exitcode == -signal.SIGKILL)

    def ended(self, expected_exit: int = 0) -> str:
        """Wait for the process to end by itself; what it printed."""
        self.process.join(steady.PATIENCE_SECONDS)
        assert self.process.exitcode == expected_exit, self.printed.read_text()
        return self.printed.read_text()

    def stopped(self) -> str:
        """Ask the process to end, and wait for it; what it printed."""
        os.kill(self.process.pid, signal.SIGTERM)
        return self.ended()


def etl(environment: dict[str, str], printed: Path, *arguments: str) -> Running:
    """Start the `etl` command in a process of its own."""
    process = FORKS.Process(target=_etl, args=(arguments, environment, printed), daemon=True)
    process.start()
    return Running(process, printed)


def member(made: Topic, folder: Path, printed: Path, **changes: Any) -> Running:
    """Start a member of the topic's group in a process of its own; it lands until it is told to stop."""
    process = FORKS.Process(target=_land, args=(made, folder, printed, changes), daemon=True)
    process.start()
    return Running(process, printed)


def wait_for_commits(made: Topic, group: str, messages: int) -> None:
    """Wait until the group has committed this many messages over all partitions."""
    partitions = [
        TopicPartition(made.name, number) for number in made.admin.list_topics(made.name).topics[made.name].partitions
    ]
    consumer = Consumer({"bootstrap.servers": made.bootstrap, "group.id": group})
    deadline = time.monotonic() + steady.PATIENCE_SECONDS
    try:
        while True:
            found = consumer.committed(partitions, timeout=steady.PATIENCE_SECONDS)
            if sum(max(0, one.offset) for one in found) >= messages:
                break
            assert time.monotonic() < deadline, found
            time.sleep(0.1)
    finally:
        consumer.close()


def wait_for_member(made: Topic, group: str) -> None:
    """Wait until a member of the group has partitions."""
    admin = made.admin
    deadline = time.monotonic() + steady.PATIENCE_SECONDS
    while not _has_partitions(admin, group):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def _has_partitions(admin: AdminClient, group: str) -> bool:
    try:
        described = admin.describe_consumer_groups([group])[group].result(steady.PATIENCE_SECONDS)
    except KafkaException:  # The first group of a new broker has to wait for its coordinator.
        return False
    return any(one.assignment.topic_partitions for one in described.members)


def _etl(arguments: tuple[str, ...], environment: dict[str, str], printed: Path) -> None:
    _print_to(printed)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(ROOT)
    sys.argv = ["etl", *arguments]
    main.main()


def _land(made: Topic, folder: Path, printed: Path, changes: dict[str, Any]) -> None:
    _print_to(printed)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    watch = Watch(stop=stop.is_set, tell=print, warn=print)
    asked, broker = subscription(made.name, **changes), Broker(made.bootstrap, QUICK)
    while not stop.is_set():
        try:
            land(asked, broker, configured(folder), watch=watch)
        except Unreachable as error:  # Whoever supervises it starts it again: nothing is lost, retrying helps.
            print(error)


def _print_to(path: Path) -> None:
    for descriptor in (1, 2):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), descriptor)
