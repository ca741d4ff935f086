"""What other tests rely on to give the same answer twice: ports of one's own, and a day that lasts."""

from __future__ import annotations

import socket
from datetime import UTC, date, datetime, timedelta
from multiprocessing.connection import Connection

import pytest

from etl_project_tests import steady
from etl_project_tests.forks import FORKS


def _reserve(pipe: Connection) -> None:
    pipe.send([steady.ports() for _ in range(20)])
    pipe.recv()


def test_no_two_processes_are_given_the_same_port_and_none_gives_one_twice() -> None:
    pipes = []
    for _ in range(2):
        ours, theirs = FORKS.Pipe()
        FORKS.Process(target=_reserve, args=(theirs,)).start()
        pipes.append(ours)
    given = [steady.ports() for _ in range(20)] + [port for pipe in pipes for port in pipe.recv()]
    assert len(set(given)) == 60
    for pipe in pipes:
        pipe.send("go")


def test_a_port_on_which_somebody_listens_is_passed_over_and_neighbours_are_given_together() -> None:
    first = steady.ports()
    with socket.create_server(("127.0.0.1", first)), pytest.raises(OSError, match="in use"):
        steady._nobody_listens(first)
    several = steady.ports(3)
    assert steady.ports() not in range(several, several + 3)


@pytest.mark.parametrize(
    ("now", "day", "waited"),
    [
        (datetime(2026, 11, 30, 23, 56, 59, tzinfo=UTC), date(2026, 11, 30), 0),
        (datetime(2026, 11, 30, 23, 59, 30, tzinfo=UTC), date(2026, 12, 1), 31),
        (datetime(2024, 2, 28, 23, 59, 59, 999_999, tzinfo=UTC), date(2024, 2, 29), 2),
        (datetime(2026, 12, 1, tzinfo=UTC), date(2026, 12, 1), 0),
    ],
)
def test_the_day_is_one_that_lasts(monkeypatch: pytest.MonkeyPatch, now: datetime, day: date, waited: int) -> None:
    slept: list[float] = []
    monkeypatch.setattr(steady.time, "sleep", slept.append)
    monkeypatch.setattr(steady.utc, "now", lambda: now + timedelta(seconds=sum(slept)))
    assert steady.today() == day
    assert sum(slept) <= waited and (not waited or waited - 1.1 < sum(slept))
