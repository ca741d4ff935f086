"""A tick that asks for nothing waits for files: on a clock of its own, so that no test waits."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import dagster as dg
import psutil
import pytest

from etl_project.definitions import build_defs, load_project
from etl_project.due import sensor, watching
from etl_project.due.snapshot import Project, Snapshot, look
from etl_project.sources import scan
from etl_project_tests.deployments import Place, order_file

DAY = date(2025, 3, 3)
FILE = f"{DAY}.csv"
NOON = datetime(2025, 3, 4, 12, tzinfo=UTC)


class Clock:
    """Seconds that pass only while somebody pauses; `then` is called after each pause with how many there were."""

    def __init__(self, then: Callable[[int], None] = lambda _: None, look_seconds: float = 0.0) -> None:
        self.seconds, self.pauses, self._then, self._look_seconds = 0.0, list[float](), then, look_seconds

    def pause(self, seconds: float) -> None:
        self.seconds += seconds
        self.pauses.append(seconds)
        self._then(len(self.pauses))

    def now(self) -> datetime:
        self.seconds += self._look_seconds
        return NOON + timedelta(seconds=self.seconds)

    def came(self, project: Project, snapshot: Snapshot, until: float = 4.0) -> bool:
        return watching.something_came(
            project, snapshot, until, pause=self.pause, clock=lambda: self.seconds, now=self.now
        )


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setenv("ETL_DATA_DIR", str(tmp_path))
    return Place(tmp_path)


def drop(place: Place, name: str = FILE, after_seconds: float = -60.0) -> Path:
    """A file whose last change was so long after noon."""
    place.drop(name, order_file(DAY))
    file = place.data / "incoming" / "orders" / name
    at = (NOON + timedelta(seconds=after_seconds)).timestamp()
    os.utime(file, (at, at))
    return file


def test_a_file_that_comes_is_noticed_as_soon_as_it_has_settled(place: Place) -> None:
    project, _ = load_project()

    def come(pauses: int) -> None:
        if pauses == 2:
            drop(place, after_seconds=0.4)

    clock = Clock(come)
    assert clock.came(project, look(project, NOON))
    assert clock.seconds == 1.5, "it changed 0.4 s after noon, and settles for a second"


def test_nothing_that_comes_is_waited_for_until_the_end_and_no_longer(place: Place) -> None:
    project, _ = load_project()
    drop(place)
    clock = Clock()
    assert not clock.came(project, look(project, NOON))
    assert clock.seconds == 4.0 and set(clock.pauses) == {watching.STEP_SECONDS}
    assert not (none := Clock()).came(project, look(project, NOON), until=0.0)
    assert none.pauses == []


def test_another_version_of_a_file_counts_and_one_that_goes_does_not(place: Place) -> None:
    project, _ = load_project()
    file = drop(place)
    snapshot = look(project, NOON)

    def change(pauses: int) -> None:
        if pauses == 1:
            file.unlink()
        if pauses == 3:
            drop(place, after_seconds=-30.0)

    clock = Clock(change)
    assert clock.came(project, snapshot) and len(clock.pauses) == 3


def test_where_a_look_is_slow_the_looks_are_further_apart(place: Place) -> None:
    project, _ = load_project()
    clock = Clock(look_seconds=0.02)
    assert not clock.came(project, look(project, NOON), until=10.0)
    assert min(clock.pauses) == pytest.approx(0.02 / watching.MOST_OF_A_CORE)
    assert Clock(look_seconds=0.5).came(project, look(project, NOON)) is False, "it would be too late after a pause"


def test_where_the_look_before_took_all_of_the_time_there_is_no_other_one(place: Place) -> None:
    project, _ = load_project()
    snapshot = look(project, NOON)
    drop(place)
    (late := Clock()).seconds = 4.1
    assert not late.came(project, snapshot), "the next tick has it in its first look"
    late.seconds = 4.0
    assert late.came(project, snapshot)


def test_a_code_server_that_is_told_to_end_waits_no_longer(place: Place) -> None:
    project, _ = load_project()
    told = threading.Event()
    heartbeats = threading.Thread(target=told.wait, name="grpc-server-heartbeat", daemon=True)
    heartbeats.start()

    def end(pauses: int) -> None:
        if pauses == 2:
            told.set()
            heartbeats.join()

    clock = Clock(end)
    assert not clock.came(project, look(project, NOON))
    assert clock.seconds == 2 * watching.STEP_SECONDS


def test_a_folder_that_cannot_be_read_has_nothing_new(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    project, _ = load_project()
    drop(place)
    snapshot = look(project, NOON)

    def no_permission(folder: Path, *_: object) -> scan.Scan:
        raise scan.CannotList(f"{folder}: no permission to list it")

    monkeypatch.setattr(scan, "scan", no_permission)
    assert not Clock().came(project, snapshot)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.instance_for_test() as made:
        yield made


def tick(instance: dg.DagsterInstance, **daemon: str) -> object:
    context = dg.build_sensor_context(instance=instance, **daemon)
    return build_defs().resolve_sensor_def("pending_days")(context)


@pytest.fixture
def waits(place: Place, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """So long each tick would have waited; a file came at the end of it."""
    found: list[float] = []

    def comes(project: Project, _: Snapshot, until: float) -> bool:
        found.append(until - 100.0)
        held = {Path(one.path) for one in psutil.Process().open_files()}
        assert not [path for path in held if path.is_relative_to(project.settings.data_dir)]
        place.drop(FILE, order_file(DAY))
        return True

    monkeypatch.setenv("ETL_SETTLE_SECONDS", "0")
    monkeypatch.setattr(sensor.watching, "something_came", comes)
    monkeypatch.setattr(sensor, "time", SimpleNamespace(monotonic=lambda: 100.0))
    return found


DAEMON = {"repository_name": "any", "sensor_name": "pending_days"}


def test_a_tick_of_the_daemon_asks_for_a_file_that_comes_while_it_waits_and_has_nothing_open_meanwhile(
    instance: dg.DagsterInstance, waits: list[float]
) -> None:
    assert isinstance(tick(instance), dg.SkipReason) and waits == [], "evaluated directly, nobody is kept waiting"
    asked = tick(instance, **DAEMON)
    assert isinstance(asked, dg.SensorResult) and len(asked.run_requests or ()) == 1 and waits == [9.0]
    again = tick(instance, **DAEMON)
    assert isinstance(again, dg.SensorResult) and len(waits) == 1, "where there is something to ask for, nobody waits"


def test_a_tick_waits_for_a_shorter_time_while_something_is_held_up(
    place: Place, instance: dg.DagsterInstance, waits: list[float]
) -> None:
    place.incoming.mkdir(parents=True)
    (place.incoming / FILE).symlink_to(place.data / "elsewhere")
    assert isinstance(tick(instance, **DAEMON), dg.SensorResult)
    assert waits == [sensor.WATCH_HELD_SECONDS]


def test_without_a_time_to_wait_a_tick_looks_once(
    instance: dg.DagsterInstance, waits: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ETL_WATCH_SECONDS", "0")
    assert isinstance(tick(instance, **DAEMON), dg.SkipReason) and waits == []
