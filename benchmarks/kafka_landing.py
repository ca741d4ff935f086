"""Landing a topic, beside a loop that only consumes it and writes what it gets to one file.

In one run, alternating, each in a process of its own: (1) the landing, with everything it promises (checked JSON, rows
by day and partition with their coordinates, files flushed to disk, offsets committed after them), (2) a bare
confluent-kafka loop that writes the values, a line each, to one file and flushes it once, (3) the same loop with the
landing's own fetch settings: librdkafka's default makes a fast reader wait for up to a second whenever its queue is
full. Prints both / landing, which is 1 where landing costs nothing. Usage: `python benchmarks/kafka_landing.py
HOST:PORT [--messages N] [--rounds 3]` (a broker: deploy/kafka/start.sh). The topic is made for the run and removed
after it.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from types import MappingProxyType

from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from etl_project import settings
from etl_project.kafka import format as landed
from etl_project.kafka.landing import Bounds, LandingTally, land
from etl_project.kafka.settings import Broker
from etl_project.kafka.subscription import Subscription
from etl_project.sources.spec import SourceColumn, SourceSpec

FIELDS = ("payment_id", "invoice_no", "amount", "currency", "paid_at", "method", "note")
FIRST_MS = 1_741_564_800_000  # 2025-03-10, UTC


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bootstrap")
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs=3, metavar=("HOW", "TOPIC", "FOLDER"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.only:
        how, topic, folder = arguments.only
        work = landing if how == "landing" else bare if how == "bare" else tuned
        work(arguments.bootstrap, topic, Path(folder), arguments.messages)
    else:
        report(arguments.bootstrap, arguments.messages, arguments.rounds)


def report(bootstrap: str, messages: int, rounds: int) -> None:
    """Run both in turn; print medians, the ratio and what memory they took."""
    topic = f"benchmark-{uuid.uuid4().hex[:8]}"
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.create_topics([NewTopic(topic, 3, 1, config={"retention.ms": "-1"})])[topic].result()
    try:
        size = produce(bootstrap, topic, messages)
        print(f"{messages:,} messages of {size} bytes, 3 partitions; {rounds} rounds, medians")
        taken: dict[str, list[tuple[float, float, float]]] = {"landing": [], "bare": [], "tuned": []}
        for _ in range(rounds):
            for how, times in taken.items():
                times.append(measured(bootstrap, topic, how, messages))
    finally:
        admin.delete_topics([topic])[topic].result()
    for how, times in taken.items():
        wall, cpu, peak = (statistics.median(one) for one in zip(*times, strict=True))
        print(
            f"{how:8} {wall:6.2f} s  {messages / wall:10,.0f} messages/s  {cpu:6.2f} s of CPU  {peak:5.0f} MB at most"
        )
    for how in ("bare", "tuned"):
        ratio = statistics.median(plain[0] / full[0] for full, plain in zip(taken["landing"], taken[how], strict=True))
        print(f"{how} / landing: {ratio:.2f}")


def measured(bootstrap: str, topic: str, how: str, messages: int) -> tuple[float, float, float]:
    """Seconds, CPU seconds and megabytes of one run, as it prints them: imports and start of Python left out."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, bootstrap, "--messages", str(messages), "--only", how, topic, folder]
        printed = subprocess.run(command, check=True, capture_output=True, text=True, timeout=600).stdout
    wall, cpu, peak = map(float, printed.split())
    return wall, cpu, peak


def produce(bootstrap: str, topic: str, messages: int) -> int:
    """JSON messages of about 200 bytes over a bit more than a day; the size of the last one."""
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 50, "queue.buffering.max.messages": 500_000})
    value = b""
    for number in range(messages):
        value = (
            b'{"payment_id":"p-%09d","invoice_no":"%d","amount":%d.%02d,"currency":"GBP",'
            b'"paid_at":"2025-03-10T12:34:56Z","method":"card","note":"%s"}'
            % (number, 536365 + number % 1000, number % 100, number % 100, b"x" * 60)
        )
        while True:
            try:
                producer.produce(topic, value, key=b"%d" % (number % 1000), timestamp=FIRST_MS + number * 100)
                break
            except BufferError:
                producer.poll(0.1)
    producer.flush()
    return len(value)


def landing(bootstrap: str, topic: str, folder: Path, messages: int) -> None:
    """What is measured: the landing until everything that is there has landed."""
    started = time.perf_counter()
    tally = landed_all(bootstrap, topic, folder, uuid.uuid4().hex)
    tell(started)
    if tally.landed != messages:
        sys.exit(f"{tally} instead of {messages} messages")


def landed_all(bootstrap: str, topic: str, folder: Path, group: str) -> LandingTally:
    """Land what this group has not landed yet, below this data folder."""
    os.environ["ETL_DATA_DIR"] = str(folder)
    texts = [SourceColumn(name, "VARCHAR") for name in (*landed.FIELDS, *FIELDS)]
    spec = SourceSpec(
        name="benchmark",
        patterns=landed.PATTERNS,
        columns={column.name: column.name for column in texts},
        types=tuple(texts),
        start_date=date(2025, 1, 1),
        format="jsonl",
    )
    return land(Subscription(spec, topic, group), Broker(bootstrap), settings.load(), Bounds(until_end=True))


def tuned(bootstrap: str, topic: str, folder: Path, messages: int) -> None:
    """The bare loop with the landing's fetch settings."""
    bare(bootstrap, topic, folder, messages, {"fetch.queue.backoff.ms": 10})


def bare(
    bootstrap: str, topic: str, folder: Path, messages: int, more: Mapping[str, int] = MappingProxyType({})
) -> None:
    """What it is compared with: nothing but consuming and writing."""
    started = time.perf_counter()
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": uuid.uuid4().hex,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            **more,
        }
    )
    consumer.subscribe([topic])
    left = messages
    with (folder / "messages.jsonl").open("wb") as file:
        while left:
            for message in consumer.consume(10_000, 0.25):
                file.write(message.value())
                file.write(b"\n")
                left -= 1
        file.flush()
        os.fsync(file.fileno())
    consumer.close()
    tell(started)


def tell(started: float) -> None:
    """Print seconds, CPU seconds and megabytes of this process."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(time.perf_counter() - started, time.process_time(), peak)


if __name__ == "__main__":
    main()
