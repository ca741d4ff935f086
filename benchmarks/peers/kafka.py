"""A topic to files: what it costs, and what the files hold after `kill -9` in the middle and a second run to the end.

Us, beside a loop around confluent-kafka that flushes what it wrote and then commits, as its documentation on
synchronous commits says, and beside kcat in a consumer group, appending to a file. Whole processes with their imports,
in turns. A kill comes when a part of the bytes, drawn by a seed, is in the files; each has a group and a folder of its
own. Of the files then is counted: messages that are not there, lines that are there twice, lines that are no message
(torn by the kill).

    python benchmarks/peers/kafka.py HOST:PORT [--messages 1000000] [--rounds 3] [--kills 3] [--only LOADER ...]

A broker: deploy/kafka/start.sh. kcat is Debian's package of that name; without it, it is left out and said so.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from confluent_kafka import Consumer, KafkaError
from confluent_kafka.admin import AdminClient, NewTopic

sys.path.insert(0, str(Path(__file__).parent.parent))
from kafka_landing import landed_all, produce
from trial import TIMEOUT_SECONDS, Took

_PARTITIONS = 3
_TORN_MARK = b'"payment_id"'
"""Stands once in each message: twice in a line that is one message torn and the next one whole."""


def ours(bootstrap: str, topic: str, folder: Path, group: str) -> None:
    """`etl consume --until-end`, without the command around it."""
    landed_all(bootstrap, topic, folder, group)


def loop(bootstrap: str, topic: str, folder: Path, group: str) -> None:
    """Write, flush, commit: nothing is lost that way, and what was not committed comes again."""
    known = {"bootstrap.servers": bootstrap, "group.id": group, "auto.offset.reset": "earliest"}
    consumer = Consumer({**known, "enable.auto.commit": False, "enable.partition.eof": True})
    consumer.subscribe([topic])
    ended: set[int] = set()
    with (folder / "messages.jsonl").open("ab") as file:
        while len(ended) < _PARTITIONS:
            got = consumer.consume(10_000, 0.25)
            ended |= {m.partition() for m in got if m.error() and m.error().code() == KafkaError._PARTITION_EOF}
            values = [message.value() for message in got if not message.error()]
            if values:
                file.write(b"\n".join([*values, b""]))
                file.flush()
                os.fsync(file.fileno())
                consumer.commit(asynchronous=False)
    consumer.close()


def kcat(bootstrap: str, topic: str, folder: Path, group: str) -> None:
    """A member of a group that ends where the topic ends; it commits by itself every five seconds."""
    out = os.open(folder / "messages.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(out, 1)
    os.execvp("kcat", ["kcat", "-b", bootstrap, "-q", "-e", "-X", "auto.offset.reset=earliest", "-G", group, topic])


LOADERS: dict[str, Callable[[str, str, Path, str], None]] = {"ours": ours, "loop": loop, "kcat": kcat}


def main() -> None:
    if sys.argv[1:2] == ["load"]:
        name, bootstrap, topic, folder, group = sys.argv[2:]
        return LOADERS[name](bootstrap, topic, Path(folder), group)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bootstrap")
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--only", nargs="*", choices=LOADERS, default=list(LOADERS))
    options = parser.parse_args()
    names = [name for name in options.only if name != "kcat" or shutil.which("kcat")]
    topic = f"benchmark-{uuid.uuid4().hex[:8]}"
    admin = AdminClient({"bootstrap.servers": options.bootstrap})
    admin.create_topics([NewTopic(topic, _PARTITIONS, 1, config={"retention.ms": "-1"})])[topic].result()
    try:
        size = produce(options.bootstrap, topic, options.messages)
        print(f"{options.messages:,} messages of {size} bytes, {_PARTITIONS} partitions, {options.rounds} rounds")
        _report(names, options, topic)
    finally:
        admin.delete_topics([topic])[topic].result()
    print(*(f"{name} was left out: it is not installed" for name in options.only if name not in names), sep="\n")


def _report(names: list[str], options: argparse.Namespace, topic: str) -> None:
    took: dict[str, list[Took]] = {name: [] for name in names}
    sizes: dict[str, int] = {}
    for _ in range(options.rounds):
        for name in names:
            with tempfile.TemporaryDirectory(prefix="kafka-") as folder:
                took[name].append(_run(name, options.bootstrap, topic, Path(folder), uuid.uuid4().hex))
                found, sizes[name] = _found(Path(folder), options.messages), _size(Path(folder))
                assert found == "right", f"{name}, not killed: {found}"
    print("| | s | CPU s | after each kill and a second run |\n|---|---|---|---|")
    for name in names:
        seconds, processor = (statistics.median(figures) for figures in zip(*took[name], strict=True))
        shares = random.Random(7)
        after = []
        for _ in range(options.kills):
            with tempfile.TemporaryDirectory(prefix="kafka-") as made:
                folder, group = Path(made), uuid.uuid4().hex
                _run(name, options.bootstrap, topic, folder, group, round(shares.uniform(0.1, 0.9) * sizes[name]))
                _run(name, options.bootstrap, topic, folder, group)
                after.append(_found(folder, options.messages))
        print(f"| {name} | {seconds:.1f} | {processor:.1f} | {'; '.join(after)} |", flush=True)


def _run(name: str, bootstrap: str, topic: str, folder: Path, group: str, killed_at: int | None = None) -> Took:
    """What a process of this loader took, to its end or until its files have so many bytes: then it is killed."""
    used, start = _processor(), time.perf_counter()
    command = [sys.executable, __file__, "load", name, bootstrap, topic, str(folder), group]
    with subprocess.Popen(command) as process:
        while process.poll() is None and time.perf_counter() - start < TIMEOUT_SECONDS:
            if killed_at is not None and _size(folder) >= killed_at:
                process.kill()
            time.sleep(0.02)
    assert process.returncode == 0 or killed_at is not None, f"{name} ended with {process.returncode}"
    return Took(time.perf_counter() - start, _processor() - used)


def _size(folder: Path) -> int:
    """Of all files; one that goes away meanwhile counts for nothing."""
    with contextlib.suppress(FileNotFoundError):
        return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    return 0


def _found(folder: Path, messages: int) -> str:
    """What is wrong with the files, or "right"."""
    seen: set[bytes] = set()
    whole = torn = 0
    for file in folder.rglob("*.jsonl"):
        with file.open("rb") as lines:
            for line in lines:
                if line.count(_TORN_MARK) == 1 and line.endswith(b"}\n"):
                    whole += 1
                    at = line.index(_TORN_MARK)
                    seen.add(line[at : at + 30])
                else:
                    torn += 1
    wrong = {"lost": messages - len(seen), "twice": whole - len(seen), "torn": torn}
    return ", ".join(f"{count:,} {what}" for what, count in wrong.items() if count) or "right"


def _processor() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return children.ru_utime + children.ru_stime


if __name__ == "__main__":
    main()
