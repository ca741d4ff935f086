"""SIGKILL at every named step of `etl consume`, and at random moments: the table has every message exactly once."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from etl_project.kafka import format as landed
from etl_project_tests.deployments import Place
from etl_project_tests.kafka_broker import DAY_MS, FIRST_MS, OwnBroker, Topic, etl, needs_own_broker, own_broker, topic

pytestmark = needs_own_broker

STEPS = ("kafka.before_write", "kafka.between_renames", "kafka.after_rename", "kafka.after_commit")
PARTITIONS, DAYS = 3, 4


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnBroker]:
    """A broker of this test's own: the topic and the group of the payments are always called the same."""
    with own_broker(tmp_path_factory.mktemp("broker")) as broker:
        yield broker


def payments(first: int, count: int) -> list[bytes]:
    """Messages of the payments pipeline, each with a number of its own."""
    return [
        json.dumps(
            {
                "payment_id": f"P{number}",
                "invoice_no": str(number),
                "amount": "1.25",
                "currency": "GBP",
                "paid_at": "2025-03-10T12:00:00Z",
                "method": "card",
            }
        ).encode()
        for number in range(first, first + count)
    ]


def killed_and_drained(own: OwnBroker, folder: Path, messages: int, kills: int) -> None:
    """Send a slice, start the consumer, kill it: again and again. Then let it finish, and build the tables."""
    place = Place(folder / "data")
    config = folder / "kafka.properties"
    # As the same static member, the next process need not wait until the dead one is given up.
    config.write_text("session.timeout.ms=6000\ngroup.instance.id=one\n")
    environment = place.environment(ETL_KAFKA_BOOTSTRAP=own.bootstrap, ETL_KAFKA_CONFIG=str(config))
    chance = random.Random(20250310)
    done = 0
    share = messages // (kills * PARTITIONS)
    with topic(own.bootstrap, PARTITIONS, name="payments") as made:
        killed = 0
        while killed < kills:
            for partition in range(PARTITIONS):
                send(made, done, share, partition)
                done += share
            step = STEPS[killed % 5] if killed % 5 < 4 else None
            fault = {"ETL_FAULT": f"{step}=kill"} if step else {}
            running = etl({**environment, **fault}, folder / "printed.txt", "consume", "--until-end")
            died = running.killed(None if step else chance.uniform(0.1, 0.8))
            assert died or step is None, f"{step} was not reached"
            killed += died  # A random moment may come after the end: then another one is tried.
        assert done >= messages * 0.9
        etl(environment, folder / "printed.txt", "consume", "payments", "--until-end").ended()
        place.drained(ETL_KAFKA_BOOTSTRAP=own.bootstrap)
        rows = place.query("select count(*), count(distinct payment_id) from payments")
        assert rows == [(done, done)]
        offsets = "select kafka_partition, count(*), max(kafka_offset) from payments group by all order by all"
        assert place.query(offsets) == [(p, done // PARTITIONS, done // PARTITIONS - 1) for p in range(PARTITIONS)]
        assert not [path for path in (place.data / "incoming" / "payments").iterdir() if path.is_file()]
        first = place.query("from payments order by all")
        etl(environment, folder / "printed.txt", "consume", "payments", "--until-end").ended()
        place.drained(ETL_KAFKA_BOOTSTRAP=own.bootstrap)
        assert place.query("from payments order by all") == first, "nothing new, nothing changed"


def send(made: Topic, first: int, count: int, partition: int) -> None:
    """A slice over several days, some of it late."""
    timestamps = [FIRST_MS + (number % DAYS) * DAY_MS + number for number in range(count)]
    made.send(payments(first, count), partition, timestamps)


def test_eight_kills_at_every_step_leave_each_message_exactly_once(own: OwnBroker, tmp_path: Path) -> None:
    killed_and_drained(own, tmp_path, messages=10_000, kills=8)


@pytest.mark.stress
@pytest.mark.timeout(1800)
def test_fifty_kills_leave_each_of_200_000_messages_exactly_once(own: OwnBroker, tmp_path: Path) -> None:
    killed_and_drained(own, tmp_path, messages=200_000, kills=50)


def test_the_named_steps_are_those_of_the_landing() -> None:
    """A step that is renamed would never be reached, and so never proven."""
    source = "".join(path.read_text() for path in Path(landed.__file__).parent.glob("*.py"))
    assert all(f'"{step}"' in source for step in STEPS)
