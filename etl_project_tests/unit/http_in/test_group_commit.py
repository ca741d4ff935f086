"""Group commit: whoever waits at the same time shares one action; an item is acted upon after it was handed in."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from etl_project.http_in.group_commit import GroupCommit


def test_items_that_come_while_one_acts_share_the_next_action() -> None:
    rounds: list[list[int]] = []
    first_acts, go_on = threading.Event(), threading.Event()

    def act(items: list[int]) -> list[int]:
        rounds.append(sorted(items))
        if len(rounds) == 1:
            first_acts.set()
            go_on.wait(240)
        return [item * 10 for item in items]

    together: GroupCommit[int, int] = GroupCommit(act)
    with ThreadPoolExecutor(20) as pool:
        first = pool.submit(together, 0)
        first_acts.wait(240)
        others = [pool.submit(together, number) for number in range(1, 10)]
        while len(together._queue) < 9:
            first_acts.wait(0.001)
        go_on.set()
        assert first.result() == 0
        assert [other.result() for other in others] == [number * 10 for number in range(1, 10)]
    assert rounds == [[0], list(range(1, 10))]


def test_a_failure_reaches_all_who_shared_it_and_nobody_else() -> None:
    def act(items: list[int]) -> list[int]:
        if 1 in items:
            raise OSError("disk")
        return items

    together: GroupCommit[int, int] = GroupCommit(act)
    with pytest.raises(OSError, match="disk"):
        together(1)
    assert together(2) == 2


def test_many_threads_all_get_their_own_result() -> None:
    together: GroupCommit[int, int] = GroupCommit(lambda items: [-item for item in items])
    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(together, range(3000))) == [-number for number in range(3000)]
