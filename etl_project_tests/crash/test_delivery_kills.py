"""Client against receiver, both real processes: either is killed at every named step, connections are dropped.

The files are taken away between the crash and the end, as the pipeline would: an effect that happens twice comes back.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import date
from pathlib import Path

import httpx2
import pytest

from etl_project.http_out.client import DeliveryOutcome
from etl_project_tests import steady
from etl_project_tests.unit.http_in import servers
from etl_project_tests.unit.http_in.servers import (
    PATIENCE_SECONDS,
    Proxy,
    ReceiverProcess,
    client,
    headers,
    outgoing,
    running,
    spawn,
)

DAY = date(2026, 3, 1)
CONTENT = {"revenue": "12.30"}
BODY = b'{"revenue":"12.30"}'


def said(receiver: ReceiverProcess) -> list[bytes]:
    """What the files that arrived say, without the blanks at their end that are others for every key."""
    return [content.rstrip() for content in receiver.take()]


def deliver(folder: Path, url: str) -> DeliveryOutcome:
    """Deliver in this process, as a rerun would: with the records that are there."""
    with client(folder, outgoing(url, attempts=2000)) as (sender, _):  # Until its time is over.
        return sender.deliver("report", DAY, CONTENT)


def states(folder: Path) -> list[tuple[str, int | None]]:
    with client(folder, outgoing("http://127.0.0.1:1/")) as (_, deliveries):
        return [(record.state, record.status) for record in deliveries.of_asset("report")]


@pytest.fixture(scope="module")
def receiver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReceiverProcess]:
    with running(tmp_path_factory.mktemp("kills") / "data") as started:
        yield started


@pytest.mark.parametrize(
    ("step", "effects_before"),
    [("delivery.planned", 0), ("delivery.before_send", 0), ("delivery.answered", 1), ("delivery.recorded", 1)],
)
def test_a_client_killed_at_any_step_has_one_effect_after_its_rerun(
    receiver: ReceiverProcess, tmp_path: Path, step: str, effects_before: int
) -> None:
    url = f"{receiver.url}/v1/incoming/payments?day=2026-03-01&step={step}"
    killed = spawn(servers.deliver, tmp_path, url, log=tmp_path / "client.log", ETL_FAULT=f"{step}=kill")
    killed.join(PATIENCE_SECONDS)
    assert killed.exitcode == -signal.SIGKILL, (tmp_path / "client.log").read_text()
    assert said(receiver) == [BODY] * effects_before
    for _ in range(2):
        assert deliver(tmp_path, url).status == 201
        assert said(receiver) == [BODY] * (1 - effects_before)
        effects_before = 1
    assert states(tmp_path) == [("sent", 201)]


@pytest.mark.parametrize("moment", ["on_connect", "in_request", "before_answer", "in_answer", "after_answer"])
def test_a_connection_dropped_at_any_moment_has_one_effect_and_the_client_learns_of_it(
    receiver: ReceiverProcess, tmp_path: Path, moment: str
) -> None:
    proxy = Proxy(receiver.port, moment, drops=3)
    try:
        outcome = deliver(tmp_path, f"http://127.0.0.1:{proxy.port}/v1/incoming/payments")
    finally:
        proxy.close()
    assert outcome.attempts == (1 if moment == "after_answer" else 4)
    assert said(receiver) == [BODY]
    assert receiver.temporaries() == []
    assert states(tmp_path) == [("sent", 201)]


@contextmanager
def restarted_after_its_death(receiver: ReceiverProcess, taken: list[bytes]) -> Iterator[None]:
    """A supervisor: when the armed receiver has died, what it left is taken, and it is started again unarmed."""

    def supervise() -> None:
        receiver.wait_for_death()
        taken.extend(said(receiver))
        receiver.start()

    with ThreadPoolExecutor(1) as pool:
        watching = pool.submit(supervise)
        yield
        watching.result()


STEPS = ["receiver.claimed", "receiver.synced", "receiver.landed", "receiver.renamed"]


@pytest.mark.parametrize("step", STEPS)
def test_a_receiver_killed_at_any_step_has_one_effect_and_the_client_learns_of_it(tmp_path: Path, step: str) -> None:
    receiver = ReceiverProcess(tmp_path / "data")
    taken: list[bytes] = []
    try:
        receiver.start(f"{step}=kill")
        with restarted_after_its_death(receiver, taken):
            outcome = deliver(tmp_path, f"{receiver.url}/v1/incoming/payments?day=2026-03-01")
        assert outcome.status == 201
        assert outcome.attempts > 1
        taken += said(receiver)
        assert taken == [BODY]
        assert receiver.temporaries() == []
        assert states(tmp_path) == [("sent", 201)]
    finally:
        receiver.stop()


def test_a_receiver_killed_while_it_streams_leaves_nothing_and_takes_the_upload_again(tmp_path: Path) -> None:
    receiver = ReceiverProcess(tmp_path / "data")
    body = b"x" * 3_000_000
    taken: list[bytes] = []
    try:
        receiver.start("receiver.streaming:2=kill")
        url = f"{receiver.url}/v1/incoming/orders/a-2026-01-05.csv"
        with restarted_after_its_death(receiver, taken), pytest.raises(httpx2.TransportError):
            steady.put(url, content=body, headers=headers("k"))
        assert taken == []
        assert receiver.temporaries() == []
        assert steady.put(url, content=body, headers=headers("k")).status_code == 201
        assert steady.put(url, content=body, headers=headers("k")).headers["idempotency-replayed"] == "true"
        assert receiver.take() == [body]
    finally:
        receiver.stop()


def test_what_a_killed_receiver_had_landed_arrives_although_nobody_asks_again(tmp_path: Path) -> None:
    receiver = ReceiverProcess(tmp_path / "data")
    try:
        receiver.start("receiver.landed=kill")
        with pytest.raises(httpx2.TransportError):
            steady.put(f"{receiver.url}/v1/incoming/orders/a-2026-01-05.csv", content=b"x", headers=headers("k"))
        receiver.wait_for_death()
        assert receiver.files() == []
        receiver.start()
        assert receiver.take() == [b"x"]
    finally:
        receiver.stop()


def test_both_killed_at_once_have_one_effect_after_both_came_back(tmp_path: Path) -> None:
    receiver = ReceiverProcess(tmp_path / "data")
    try:
        receiver.start("receiver.renamed=kill")
        url = f"{receiver.url}/v1/incoming/payments?day=2026-03-01"
        sending = spawn(servers.deliver, tmp_path, url, log=tmp_path / "client.log")
        receiver.wait_for_death()
        sending.kill()
        sending.join(PATIENCE_SECONDS)
        assert said(receiver) == [BODY]
        receiver.start()
        assert deliver(tmp_path, url).status == 201
        assert receiver.take() == []
    finally:
        receiver.stop()


@pytest.mark.stress
def test_random_kills_of_the_receiver_lose_and_double_nothing(tmp_path: Path) -> None:
    """Many senders, a receiver that is killed again and again: every content arrives exactly once."""
    receiver = ReceiverProcess(tmp_path / "data")
    receiver.start()
    taken: list[bytes] = []
    stop = threading.Event()

    def send(number: int) -> int | None:
        folder = tmp_path / f"sender-{number}"
        settings = outgoing(f"{receiver.url}/v1/incoming/payments", attempts=2000, total_seconds=240.0)
        with client(folder, settings) as (sender, _):
            for version in range(40):
                outcome = sender.deliver("report", DAY, {"sender": number, "version": version})
        return outcome.status

    def murder() -> int:
        kills = 0
        while not stop.wait(1.3 + 0.37 * (kills % 5)):
            receiver.kill()
            taken.extend(receiver.take())
            receiver.start()
            kills += 1
        return kills

    try:
        with ThreadPoolExecutor(9) as pool:
            murderer = pool.submit(murder)
            statuses = list(pool.map(send, range(8)))
            stop.set()
            kills = murderer.result()
        taken += receiver.take()
        assert kills >= 3
        assert set(statuses) == {201}
        assert len(taken) == len(set(taken)) == 8 * 40
        assert receiver.temporaries() == []
    finally:
        stop.set()
        receiver.stop()
