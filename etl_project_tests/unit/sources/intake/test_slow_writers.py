"""Senders that are not done when their file is taken: nothing of it is lost, and nothing is doubled."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from etl_project import utc
from etl_project.sources.intake import admit, archive, quarantine, scan, writers
from etl_project.sources.intake.writers import Writers
from etl_project_tests.unit.sources.world import DAY, World, lines, rows, spec

A, B = "a-2024-03-05.csv", "b-2024-03-05.csv"
HALF, WHOLE = rows(500), rows(1_000)
REST = WHOLE.removeprefix(HALF)

APPENDER = "import sys; f = open(sys.argv[1], 'ab', buffering=0)\nfor line in sys.stdin.buffer: f.write(line)"
MAPPER = (
    "import mmap, sys; f = open(sys.argv[1], 'r+b'); m = mmap.mmap(f.fileno(), 0); f.close(); sys.stdin.buffer.read()"
)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path, spec(settle_seconds=0.0, quiet_seconds=600.0))


@contextmanager
def sender(path: Path, script: str = APPENDER) -> Iterator[subprocess.Popen[bytes]]:
    """A process that has the file open for writing until the end."""
    with subprocess.Popen([sys.executable, "-c", script, str(path)], stdin=subprocess.PIPE, bufsize=0) as process:
        try:
            while not Writers().have_path(os.fspath(path)):
                assert process.poll() is None
            yield process
        finally:
            assert process.stdin is not None
            process.stdin.close()


@pytest.fixture
def blind(monkeypatch: pytest.MonkeyPatch) -> None:
    """As over NFS: neither lease nor /proc knows of a writer."""
    monkeypatch.setattr(Writers, "have", lambda *_: False)


def look(world: World) -> scan.Scan:
    return scan.scan(world.folder, world.spec, utc.now())


def take(world: World) -> list[admit.Received]:
    results = admit.receive_all(look(world).waiting, world.spec, *world.roots)
    assert not results.failed
    return list(results.received)


def outcomes(world: World) -> dict[str, str]:
    return {one.name: one.outcome for one in take(world)}


def tidy(world: World, seconds: float = 601.0) -> None:
    now = utc.now() + timedelta(seconds=seconds)
    assert admit.tidy(scan.scan(world.folder, world.spec, now), world.spec, world.incoming, now) == []


def files(world: World) -> list[str]:
    """What is in the drop folder, marks left out."""
    found = (path for path in world.folder.rglob("*") if path.is_file() and ".kept" not in path.parts)
    return sorted(str(path.relative_to(world.folder)) for path in found)


def drop(world: World, name: str, content: bytes) -> Path:
    path = world.folder / name
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("answer", ["the lease", "unknown: /proc"])
@pytest.mark.parametrize("script", [APPENDER, MAPPER], ids=["open", "mapped"])
def test_a_file_that_a_process_has_open_for_writing_is_not_taken(
    world: World, monkeypatch: pytest.MonkeyPatch, answer: str, script: str
) -> None:
    if answer != "the lease":
        if script == MAPPER:
            pytest.skip("/proc shows descriptors; a mapping outlives its own")
        monkeypatch.setattr(writers, "_asked_by_lease", lambda _: "unknown")
    path = drop(world, A, HALF)
    with sender(path, script):
        found = look(world)
        assert (found.waiting, found.being_written, found.unsettled) == ((), (A,), 1)
        asked = scan.Waiting(A, str(world.folder), DAY, path.stat().st_mtime_ns, len(HALF), path.stat().st_ino)
        assert admit.receive(asked, world.spec, *world.roots).outcome == "unsettled", "asked again at the last moment"
        if script == APPENDER:
            with path.open("ab") as more:
                more.write(REST)
    assert outcomes(world) == {A: "accepted"}
    assert world.accepted() == {A: path.read_bytes()}


def test_an_undated_file_is_not_refused_while_somebody_writes_it(world: World) -> None:
    path = drop(world, "orders.csv", HALF)
    with sender(path):
        assert (look(world).undated, look(world).being_written) == ((), ("orders.csv",))


def test_a_lease_that_a_network_file_system_refuses_is_no_proof_of_a_writer(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writers, "_asked_by_lease", lambda _: "written")
    monkeypatch.setattr(writers, "_LOCAL", frozenset())
    path = drop(world, A, HALF)
    assert outcomes(world) == {A: "accepted"}
    with sender(path):
        assert Writers().have_path(os.fspath(path)), "then /proc is asked"


def test_a_reader_keeps_no_file_from_being_taken(world: World) -> None:
    with drop(world, A, HALF).open("rb"):
        assert outcomes(world) == {A: "accepted"}


def append_by_one_descriptor(path: Path, go_on: Callable[[], None]) -> None:
    with path.open("wb", buffering=0) as file:
        file.write(HALF)
        go_on()
        file.write(REST)


def append_by_opening_again(path: Path, go_on: Callable[[], None]) -> None:
    path.write_bytes(HALF)
    go_on()
    with path.open("ab") as file:
        file.write(REST)


def resume_at_an_offset(path: Path, go_on: Callable[[], None]) -> None:
    path.write_bytes(HALF)
    go_on()
    with path.open("r+b") as file:
        file.seek(len(HALF))
        file.write(REST)


def stall_in_the_middle_of_a_line(path: Path, go_on: Callable[[], None]) -> None:
    with path.open("wb", buffering=0) as file:
        file.write(WHOLE[:7_013])
        go_on()
        file.write(WHOLE[7_013:])


def truncate_and_rewrite(path: Path, go_on: Callable[[], None]) -> None:
    path.write_bytes(rows(400, first=7))
    go_on()
    with path.open("wb", buffering=0) as file:
        go_on()
        file.write(WHOLE)


def replace_by_rename(path: Path, go_on: Callable[[], None]) -> None:
    path.write_bytes(HALF)
    go_on()
    aside = path.with_name(".aside.tmp")
    aside.write_bytes(WHOLE)
    aside.rename(path)


def rename_in_the_middle(path: Path, go_on: Callable[[], None]) -> None:
    early = path.with_name(B)
    with early.open("wb", buffering=0) as file:
        file.write(HALF)
        go_on()
        early.rename(path)
        go_on()
        file.write(REST)


SENDERS = [
    append_by_one_descriptor,
    append_by_opening_again,
    resume_at_an_offset,
    stall_in_the_middle_of_a_line,
    truncate_and_rewrite,
    replace_by_rename,
    rename_in_the_middle,
]


@pytest.mark.usefixtures("blind")
@pytest.mark.parametrize("send", SENDERS, ids=lambda send: str(send.__name__).replace("_", " "))
def test_what_a_sender_adds_after_its_file_was_taken_is_a_newer_version_of_it(
    world: World, send: Callable[[Path, Callable[[], None]], None]
) -> None:
    """Neither lease nor /proc sees the writer: the file is taken in the middle, and again when it has grown."""
    send(world.folder / A, lambda: (take(world), tidy(world, seconds=0), None)[-1])
    for _ in range(2):
        take(world)
        assert [row["id"] for row in world.rows().to_pylist()] == list(range(1, 1_001))
        assert quarantine.open_days(world.quarantine, world.archive, world.spec) == set()
    assert files(world) == [A]
    tidy(world)
    assert files(world) == [] and look(world).waiting == ()


@pytest.mark.usefixtures("blind")
def test_a_file_that_was_refused_in_the_middle_is_good_once_it_is_whole(world: World) -> None:
    path = drop(world, A, b"id,amo")
    assert outcomes(world) == {A: "refused"}
    path.write_bytes(WHOLE)
    assert outcomes(world) == {A: "accepted"}
    assert quarantine.open_days(world.quarantine, world.archive, world.spec) == set()


def test_a_file_that_was_taken_stays_until_it_was_quiet_and_waits_no_more(world: World) -> None:
    drop(world, A, HALF)
    drop(world, B, HALF)
    drop(world, "undated.csv", HALF)
    take(world)
    for undated in look(world).undated:
        admit.put_into_quarantine(undated, world.spec, *world.roots)
    before = world.state()
    for _ in range(2):
        found = look(world)
        assert (found.waiting, found.undated, found.unsettled) == ((), (), 0)
        tidy(world, seconds=599)
        assert world.state() == before and files(world) == [A, B, "undated.csv"]
    for _ in range(2):
        tidy(world)
        assert files(world) == []
        tidy(world)
        assert list((world.folder / ".kept").iterdir()) == []


@pytest.mark.usefixtures("blind")
def test_a_file_that_changes_between_the_look_and_its_removal_stays(world: World) -> None:
    path = drop(world, A, HALF)
    take(world)
    now = utc.now() + timedelta(seconds=601)
    found = scan.scan(world.folder, world.spec, now)
    with path.open("ab") as file:
        file.write(REST)
    assert admit.tidy(found, world.spec, world.incoming, now) == []
    assert files(world) == [A]
    assert outcomes(world) == {A: "accepted"}
    assert world.accepted() == {A: WHOLE}


def test_a_file_that_is_open_for_writing_is_not_removed_however_quiet_it_is(world: World) -> None:
    path = drop(world, A, HALF)
    take(world)
    with sender(path):
        tidy(world)
        assert files(world) == [A]
    tidy(world)
    assert files(world) == []


def test_a_second_name_of_the_same_inode_is_judged_for_itself(world: World) -> None:
    path = drop(world, A, HALF)
    take(world)
    os.link(path, world.folder / B)
    assert outcomes(world) == {A: "identical", B: "duplicate"}


def test_another_file_with_the_inode_of_one_that_was_taken_is_a_file_of_its_own(world: World) -> None:
    """Inode numbers are used again; here the file is rewritten and renamed, which comes to the same."""
    path = drop(world, A, HALF)
    take(world)
    path.write_bytes(rows(3, first=2_000))
    path.rename(world.folder / B)
    assert outcomes(world) == {B: "accepted"}
    assert set(world.accepted()) == {A, B}


@pytest.mark.parametrize("rewritten", [False, True])
def test_a_file_that_is_still_kept_can_be_released_from_quarantine(world: World, rewritten: bool) -> None:
    path = drop(world, A, b"no header\n")
    take(world)
    (entry,) = world.quarantined()
    if rewritten:
        path.write_bytes(HALF)
        take(world)
    quarantine.release(world.quarantine, entry.reason.key, world.incoming)
    assert world.quarantined() == []
    assert outcomes(world) == {A: "refused"}, "it waited again, and was judged again"
    assert [one.reason.sha256 for one in world.quarantined()] == [entry.reason.sha256]


def test_marks_that_are_lost_cost_one_more_reading_and_change_nothing(world: World) -> None:
    drop(world, A, lines("1,1,,"))
    take(world)
    before = [version.file for version in archive.accepted(world.archive, world.spec, DAY)]
    for mark in (world.folder / ".kept").iterdir():
        mark.unlink()
    assert outcomes(world) == {A: "identical"}
    assert [version.file for version in archive.accepted(world.archive, world.spec, DAY)] == before
