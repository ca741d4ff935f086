"""Members that die, brokers that go away, credentials that are wrong: nothing is lost, and nothing waits for ever."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from etl_project.failures import EtlError
from etl_project.kafka.broker import BrokerRefused, Unreachable
from etl_project.kafka.landing import Bounds, land
from etl_project.kafka.settings import Broker
from etl_project_tests.kafka_broker import (
    QUICK,
    OwnBroker,
    chains,
    configured,
    ids_by_coordinates,
    member,
    needs_broker,
    needs_own_broker,
    own_broker,
    rows,
    subscription,
    things,
    topic,
    wait_for_commits,
)

LITTLE = {"batch_messages": 300, "batch_seconds": 0.3}


@needs_broker
def test_when_one_of_two_members_is_killed_the_other_lands_everything(tmp_path: Path) -> None:
    with topic(partitions=3) as made:
        doomed = member(made, tmp_path, tmp_path / "doomed.txt", **LITTLE)
        other = member(made, tmp_path, tmp_path / "other.txt", **LITTLE)
        for number in range(8):
            for partition in range(3):
                made.send(things(partition * 10_000 + number * 200, 200), partition)
            if number == 4:
                assert doomed.killed(after_seconds=0)
            time.sleep(0.2)
        wait_for_commits(made, f"group-of-{made.name}", 4800)
        other.stopped()
        found = ids_by_coordinates(tmp_path)
        assert found == {(p, o): p * 10_000 + o for p in range(3) for o in range(1600)}
        assert all(chain.holes == () for chain in chains(tmp_path, made.name).values())


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnBroker]:
    """A broker that may be stopped."""
    with own_broker(tmp_path_factory.mktemp("broker")) as broker:
        yield broker


@needs_own_broker
def test_wrong_credentials_are_refused_at_once_and_not_repeated(own: OwnBroker, tmp_path: Path) -> None:
    """Whoever waited for as long as he may would still wait when the time of this test is over."""
    login = {"security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "PLAIN", "sasl.username": "etl"}
    with topic(own.bootstrap) as made:
        made.send(things(0, 10))
        asked, bounds = subscription(made.name), Bounds(until_end=True)
        with pytest.raises(BrokerRefused, match="check user, password and mechanism") as raised:
            land(asked, Broker(own.sasl, {**login, "sasl.password": "hush"}), configured(tmp_path, 3600), bounds)
        assert "hush" not in str(raised.value)
        assert land(asked, Broker(own.sasl, {**login, "sasl.password": "secret"}), configured(tmp_path), bounds).landed


@needs_own_broker
def test_a_broker_that_is_stopped_and_started_costs_no_message(own: OwnBroker, tmp_path: Path) -> None:
    with topic(own.bootstrap) as made:
        group = f"group-of-{made.name}"
        landing = member(made, tmp_path, tmp_path / "printed.txt", **LITTLE)
        made.send(things(0, 1000))
        wait_for_commits(made, group, 900)
        own.stop()
        time.sleep(1)
        own.start()
        made.send(things(1000, 1000))
        wait_for_commits(made, group, 2000)
        landing.stopped()
        assert ids_by_coordinates(tmp_path) == {(0, number): number for number in range(2000)}
        assert chains(tmp_path, made.name)[0].holes == ()


@needs_own_broker
def test_a_broker_that_stays_away_ends_the_landing_with_a_clear_line(own: OwnBroker, tmp_path: Path) -> None:
    """What was in memory is consumed again by the next landing."""

    @dataclass
    class Outcome:
        error: EtlError | None = None

    outcome = Outcome()
    with topic(own.bootstrap) as made:
        made.send(things(0, 100))

        def run() -> None:
            try:
                land(subscription(made.name), Broker(own.bootstrap, QUICK), configured(tmp_path, 2))
            except EtlError as error:
                outcome.error = error

        landing = threading.Thread(target=run)
        landing.start()
        time.sleep(2)
        own.stop(signal.SIGKILL)
        landing.join(240)
        assert isinstance(outcome.error, Unreachable)
        assert "is ETL_KAFKA_BOOTSTRAP right" in str(outcome.error)
        assert not rows(tmp_path)
        own.start()
        tally = land(subscription(made.name), made.broker, configured(tmp_path), Bounds(until_end=True))
        assert tally.landed == 100
