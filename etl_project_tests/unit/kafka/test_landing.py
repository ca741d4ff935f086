"""When a landing begins and stops, as far as no broker is needed: its client here says what the test makes it say."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from etl_project.kafka import format as landed
from etl_project.kafka.broker import Unreachable
from etl_project.kafka.decode import json_object
from etl_project.kafka.format import Span
from etl_project.kafka.landing import Bounds, Landing, Watch
from etl_project_tests.kafka_broker import configured, subscription
from etl_project_tests.unit.kafka.test_offsets import put

Step = Callable[[Landing], None]


class Group:
    """A group that does one step at every call for messages, and sends none."""

    def __init__(self, steps: list[Step], committed: int | None = None, available: tuple[int, int] = (0, 0)) -> None:
        self.steps, self.landing = steps, None
        self._committed, self._available = committed, available
        self.commits: list[dict[int, int]] = []

    @contextmanager
    def joined(self, *_: object) -> Iterator[None]:
        yield

    def consume(self, _room: int) -> list[Any]:
        if self.steps:
            self.steps.pop(0)(self.landing)
        return []

    def committed(self, partitions: list[int]) -> dict[int, int | None]:
        return dict.fromkeys(partitions, self._committed)

    def available(self, _partition: int) -> tuple[int, int]:
        return self._available

    def assign(self, _starts: object) -> None:
        """Nothing to do: no message comes."""

    def commit(self, positions: dict[int, int]) -> bool:
        self.commits.append(positions)
        return True


def landing(group: Any, folder: Path, wait_seconds: float = 0.02) -> Landing:
    """A landing of the topic `t` whose group does as it is told."""
    group.landing = Landing(subscription("t"), group, configured(folder, wait_seconds), Watch(), json_object)
    return group.landing


def gives(*partitions: int) -> Step:
    return lambda one: one._on_assign(list(partitions))


def takes(*partitions: int) -> Step:
    return lambda one: one._on_revoke(list(partitions))


@pytest.mark.parametrize(
    "steps",
    [[], [gives()], [gives(0), takes(0)], [gives(0), takes(0), gives()]],
    ids=["never any", "none for us", "taken away again", "taken away, and given to others"],
)
def test_an_end_is_not_reached_where_nobody_gave_us_a_partition(steps: list[Step], tmp_path: Path) -> None:
    one = landing(Group(steps, available=(0, 10)), tmp_path)
    with pytest.raises(Unreachable, match=r"gave no partitions of topic t within 0\.02 s.*retrying helps"):
        one.run(Bounds(until_end=True))


def test_a_bound_by_seconds_is_no_success_where_no_partition_was_given(tmp_path: Path) -> None:
    one = landing(Group([]), tmp_path, wait_seconds=60)
    with pytest.raises(Unreachable, match=r"within 0\.01 s"):
        one.run(Bounds(max_seconds=0.01, until_end=True))
    assert one.tally.metadata()["lag"] == "unknown"


def test_the_end_of_empty_partitions_is_reached_at_once_also_after_a_rebalance(tmp_path: Path) -> None:
    for steps in ([gives(0)], [gives(0, 1), takes(0, 1), gives(1)]):
        one = landing(Group([*steps]), tmp_path)
        one.run(Bounds(until_end=True))
        assert one.tally.metadata()["lag"] == 0


def test_a_member_that_waits_for_partitions_says_so_once_until_it_has_had_some(tmp_path: Path) -> None:
    said: list[str] = []
    one = landing(Group([gives(), gives(), gives(0), takes(0), gives(), gives()]), tmp_path, wait_seconds=0)
    one._watch = Watch(stop=lambda: not one._client.steps, warn=said.append)
    one.run(Bounds())
    assert len(said) == 2 and all("has given no partitions of topic t for 0 s" in line for line in said)


def lost(folder: Path) -> list[Span]:
    """The offsets on record as lost."""
    named = map(landed.parse, (path.name for path in folder.glob("dead_letters/things/lost_*")))
    return [one.span for one in named if one is not None]


def test_what_has_landed_is_not_lost_where_retention_took_it_before_it_was_committed(tmp_path: Path) -> None:
    put(tmp_path, "incoming/things", 0, 99)
    for _ in range(2):
        landing(Group([gives(0)], committed=10, available=(50, 50 + 50)), tmp_path).run(
            Bounds(until_end=True, max_seconds=0.01)
        )
    assert lost(tmp_path) == []


def test_what_has_not_landed_is_lost_from_there_on(tmp_path: Path) -> None:
    put(tmp_path, "incoming/things", 0, 99)
    for commits in ([{0: 120}], []):
        group = Group([gives(0)], committed=10, available=(120, 120))
        landing(group, tmp_path).run(Bounds(until_end=True))
        assert group.commits == commits, "what is on record is lost once"
    assert lost(tmp_path) == [Span("t", 0, 100, 119)]
