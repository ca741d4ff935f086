"""Judge, archive, remove: where a file ends, whatever it is and whatever happens around it."""

from __future__ import annotations

import dataclasses
import errno
import fcntl
import os
import resource
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pytest

from etl_project.sources.intake import admit, archive, private_copy, quarantine, removal
from etl_project.sources.intake.trouble import CannotReceive
from etl_project_tests import s3
from etl_project_tests.unit.sources.bucket_world import OWN, BucketWorld
from etl_project_tests.unit.sources.intake.test_scan import HOSTILE
from etl_project_tests.unit.sources.world import DAY, NOW, SPEC, World, lines, rows, spec, unprivileged

A, B = "a-2024-03-05.csv", "b-2024-03-05.csv"
BAD = b"no header\n"


@pytest.fixture
def world(tmp_path: Path, request: pytest.FixtureRequest) -> World:
    """A drop folder, or with `by_either_way` also a bucket before it."""
    return BucketWorld(tmp_path) if getattr(request, "param", "") == "bucket" else World(tmp_path)


by_either_way = pytest.mark.parametrize("world", ["folder", pytest.param("bucket", marks=s3.needed)], indirect=True)


def sequences(world: World) -> list[tuple[str, int]]:
    return [(one.name, one.sequence) for one in archive.accepted(world.archive, world.spec, DAY)]


@by_either_way
def test_a_good_file_goes_into_the_archive_and_leaves_its_place(world: World) -> None:
    world.drop(A, lines("1,1,,a", *(f"{n},1,,x" for n in range(150)), "x,1,,bad"))
    (received,) = world.receive()
    assert (received.outcome, received.rows, received.rejected, received.day) == ("accepted", 151, 1, DAY)
    assert world.files() == []
    assert world.rows().num_rows == 151
    assert [path.name for path in world.archive.rglob(".etl-*")] == []


@by_either_way
def test_receiving_the_same_file_again_adds_nothing(world: World) -> None:
    world.drop(A, rows(3))
    world.receive()
    before = world.state()
    world.drop(A, rows(3))
    assert world.outcomes() == {A: "identical"}
    assert world.state() == before


@by_either_way
def test_a_changed_file_supersedes_its_older_version_and_may_change_back(world: World) -> None:
    seen = []
    for content in (rows(3), rows(4), rows(3)):
        world.drop(A, content)
        assert world.outcomes() == {A: "accepted"}
        seen.append((sequences(world), world.rows().num_rows))
    assert seen == [([(A, 1)], 3), ([(A, 2)], 4), ([(A, 3)], 3)]


def test_several_files_of_a_day_add_up(world: World) -> None:
    world.drop(B, rows(3))
    world.drop(A, rows(2, first=10))
    assert world.outcomes() == {B: "accepted", A: "accepted"}
    assert [row["id"] for row in world.rows().to_pylist()] == [10, 11, 1, 2, 3]
    assert sequences(world) == [(A, 2), (B, 1)]


@by_either_way
def test_two_files_for_a_day_that_disagree_are_both_its_content(world: World) -> None:
    """Which of them is right is for the sender to say: nothing is dropped, and each row knows its file."""
    world.drop(A, lines("1,10,,"))
    world.drop(B, lines("1,20,,"))
    world.receive()
    assert [(row["source_file"], row["id"]) for row in world.rows().to_pylist()] == [(A, 1), (B, 1)]


@by_either_way
def test_the_same_content_under_another_name_is_a_duplicate(world: World) -> None:
    world.drop(A, rows(3))
    world.drop(B, rows(3))
    assert world.outcomes() == {A: "accepted", B: "duplicate"}
    (entry,) = world.quarantined()
    assert (entry.reason.kind, entry.reason.found) == ("duplicate", f"the same content as {A}")
    assert quarantine.open_days(world.quarantine, world.archive, world.spec) == set()
    world.drop(B, rows(3))
    before = world.state()
    assert world.outcomes() == {B: "duplicate"}
    assert world.state() == {path: content for path, content in before.items() if b"incoming" not in path}


@by_either_way
def test_equal_parts_without_a_row_are_no_finding(world: World) -> None:
    for name in (A, B):
        world.drop(name, lines())
    assert world.outcomes() == {A: "accepted", B: "accepted"}
    before = world.state()
    for name in (A, B):
        world.drop(name, lines())
        assert world.outcomes() == {name: "identical"}
    assert world.quarantined() == [] and world.rows().num_rows == 0 and world.state() == before
    world.drop(A, rows(2))
    assert world.outcomes() == {A: "accepted"}


@by_either_way
def test_a_sender_that_repeats_itself_is_not_told_so(world: World) -> None:
    world.spec = spec(repeats_itself=True)
    world.drop(A, rows(3))
    world.receive()
    for _ in range(2):
        world.drop(B, rows(3))
        assert world.outcomes() == {B: "identical"}
    assert world.quarantined() == [] and sequences(world) == [(A, 1)] and world.rows().num_rows == 3


@by_either_way
def test_the_newest_file_is_the_day_where_one_file_is(world: World) -> None:
    world.spec = spec(files_per_day="latest")
    for name, content, outcome in (
        (A, rows(3), "accepted"),
        (B, rows(4), "accepted"),
        (A, rows(3), "accepted"),
        (A, rows(3), "identical"),
        (B, rows(3), "duplicate"),
    ):
        world.drop(name, content)
        assert world.outcomes() == {name: outcome}
    assert sequences(world) == [(A, 3)]


def test_of_two_waiting_files_the_newer_is_the_day_where_one_file_is(tmp_path: Path) -> None:
    world = World(tmp_path, spec(files_per_day="latest"))
    world.drop(B, rows(4))
    world.drop(A, rows(3))
    world.receive()
    assert world.rows().num_rows == 3


@by_either_way
def test_a_bad_file_goes_into_quarantine_and_the_day_keeps_its_good_rows(world: World) -> None:
    world.drop(A, rows(3))
    world.receive()
    before = world.accepted()
    world.drop(A, BAD)
    (received,) = world.receive()
    assert received.outcome == "refused"
    assert received.reason is not None
    assert received.reason.startswith("wrong columns: found missing 'id'")
    assert world.accepted() == before
    assert world.files() == []
    (entry,) = world.quarantined()
    assert entry.path.read_bytes() == BAD
    assert (entry.reason.kind, entry.reason.reason, entry.reason.day) == ("refused", "wrong columns", DAY)
    assert (entry.reason.sha256, entry.reason.size_bytes) == (received.sha256, len(BAD))
    assert quarantine.open_days(world.quarantine, world.archive, world.spec) == {DAY}


@by_either_way
def test_one_bad_file_does_not_stop_the_others(world: World) -> None:
    world.drop(A, BAD)
    world.drop(B, rows(1))
    world.drop("c-2024-03-04.csv", rows(1))
    assert world.outcomes() == {A: "refused", B: "accepted", "c-2024-03-04.csv": "accepted"}


@by_either_way
def test_the_same_bad_file_again_is_one_entry(world: World) -> None:
    for _ in range(2):
        world.drop(A, BAD)
        world.receive()
    assert len(world.quarantined()) == 1


@by_either_way
def test_a_file_that_belongs_to_no_day_goes_into_quarantine(world: World) -> None:
    for _ in range(2):
        world.drop("x/sales.csv", rows(1))
        (unplaced,) = world.scan().undated
        received = admit.put_into_quarantine(unplaced, world.spec, *world.roots)
        assert (received.outcome, received.day) == ("refused", None)
        (entry,) = world.quarantined()
        assert (entry.name, entry.reason.kind, entry.reason.day) == ("x/sales.csv", "undated", None)
        assert "does not match" in entry.reason.reason
        assert entry.path == world.quarantine / "sales" / "undated" / entry.reason.key / "x" / "sales.csv"
        world.end()
        assert world.files() == []


@by_either_way
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_goes_all_the_way_and_stays_inside(world: World, name: bytes) -> None:
    text = os.fsdecode(name)
    if isinstance(world, BucketWorld) and ("\n" in text or b"\xff" in name):
        pytest.skip("no client of a bucket can put this name")
    world.drop(text, rows(2))
    assert world.outcomes() == {text: "accepted"}
    shown = world.rows()["source_file"][0].as_py()
    assert shown.encode("utf-8") == name or "\\x" in shown
    world.drop(text, BAD)
    assert world.outcomes() == {text: "refused"}
    (entry,) = world.quarantined()
    assert os.fsencode(entry.name) == name
    assert entry.reason.name.encode("utf-8")
    target = quarantine.release(world.quarantine, entry.reason.key, world.incoming)
    assert os.fsencode(target.name) == name
    assert {path.name for path in world.root.iterdir()} - OWN == {"incoming", "archive", "quarantine"}


def test_a_file_that_is_gone_by_now_is_no_error(world: World) -> None:
    path = world.drop(A, rows(1))
    (waiting,) = world.scan().waiting
    path.unlink()
    assert admit.receive(waiting, world.spec, *world.roots).outcome == "vanished"


@pytest.mark.parametrize("other", ["a link", "a folder", "a pipe"])
def test_what_has_become_something_else_is_left_alone(world: World, other: str) -> None:
    path = world.drop(A, rows(1))
    (waiting,) = world.scan().waiting
    path.unlink()
    if other == "a link":
        path.symlink_to("/etc/passwd")
    elif other == "a folder":
        path.mkdir()
    else:
        os.mkfifo(path)
    assert admit.receive(waiting, world.spec, *world.roots).outcome == "vanished"
    assert os.path.lexists(path)
    assert Path("/etc/passwd").exists()


def test_a_file_that_has_grown_since_it_was_listed_waits(world: World) -> None:
    path = world.drop(A, rows(1))
    (waiting,) = world.scan().waiting
    with path.open("ab") as file:
        file.write(b"2,1,,\n")
    assert admit.receive(waiting, world.spec, *world.roots).outcome == "unsettled"
    assert path.exists()
    assert world.accepted() == {}


class Changing:
    """A file that somebody changes while it is read."""

    def __init__(self, path: Path, change: Callable[[Path], object]) -> None:
        self._path = path
        self._change = change
        self._file = path.open("rb", buffering=0)

    def fileno(self) -> int:
        return self._file.fileno()

    def read(self, size: int) -> bytes:
        piece = self._file.read(size)
        self._change(self._path)
        return piece


CHANGES: dict[str, Callable[[Path], object]] = {
    "grows": lambda path: path.write_bytes(path.read_bytes() + b"more\n"),
    "shrinks": lambda path: path.write_bytes(b""),
    "is rewritten": lambda path: path.write_bytes(path.read_bytes().swapcase()),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_file_that_changes_while_it_is_read_waits(world: World, change: str) -> None:
    path = world.drop(A, rows(1))
    (waiting,) = world.scan().waiting
    source: Any = Changing(path, CHANGES[change])
    target: IO[bytes]
    with tempfile.TemporaryFile() as target:
        assert private_copy._copy_unchanged(source, target, waiting) is None


def test_a_newer_file_under_the_name_of_one_that_was_read_stays(world: World) -> None:
    world.drop(A, rows(1))
    (waiting,) = world.scan().waiting
    world.drop("new", rows(2)).rename(world.folder / A)
    removal.remove(world.folder, waiting)
    assert (world.folder / A).read_bytes() == rows(2)
    assert world.files() == [A]
    assert list((world.folder / ".taken").iterdir()) == []


def test_a_still_newer_file_is_not_overwritten_by_one_that_goes_back(world: World) -> None:
    claimed = world.drop("claimed", rows(2))
    newest = world.drop(A, rows(3))
    removal._put_back(claimed, newest)
    assert newest.read_bytes() == rows(3)
    assert claimed.read_bytes() == rows(2), "nobody has read it: the next scan takes it in as the older one"


def test_without_hard_links_a_newer_file_waits_in_its_claim(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    world.drop(A, rows(1))
    (waiting,) = world.scan().waiting
    world.drop("new", rows(2)).rename(world.folder / A)
    monkeypatch.setattr(os, "link", refuse)
    removal.remove(world.folder, waiting)
    for parent, _, _ in os.walk(world.folder / ".taken"):
        os.utime(parent, (1, 1))
    assert world.outcomes() == {A: "accepted"}
    assert world.accepted() == {A: rows(2)}
    assert world.files() == []


def test_without_file_locks_files_are_received_and_no_copy_is_swept(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOTSUP, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", refuse)
    world.drop(A, rows(1))
    copy = world.archive / "sales" / ".etl-perhaps-in-use.tmp"
    copy.parent.mkdir(parents=True)
    copy.write_bytes(b"x")
    assert world.outcomes() == {A: "accepted"}
    assert copy.exists()


def test_a_claim_that_a_kill_left_is_taken_in_under_its_own_name(world: World) -> None:
    world.drop(".taken/0123/x/" + A, rows(1))
    world.drop("x/" + A, rows(2))
    os.utime(world.folder / "x" / A, (1, 1))
    for folder in ("x", "."):
        os.utime(world.folder / ".taken/0123" / folder, (1, 1))
    assert [one.name for one in world.scan().waiting] == ["x/" + A] * 2
    assert [one.rows for one in world.receive()] == [1, 2]
    assert world.rows().num_rows == 2
    assert world.files() == []
    assert list((world.folder / ".taken").iterdir()) == []


def test_a_claim_that_is_being_worked_on_is_unsettled(world: World) -> None:
    path = world.drop(".taken/0123/" + A, rows(1))
    os.utime(path.parent, (NOW.timestamp(),) * 2)
    found = world.scan()
    assert (found.waiting, found.unsettled) == ((), 1)


@contextmanager
def disk_of(size_bytes: int) -> Iterator[None]:
    """No file may grow beyond this: writing more fails as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_leaves_the_file_where_it_is_and_nothing_half_written(world: World) -> None:
    world.drop(A, rows(1))
    world.receive()
    world.drop(A, rows(20_000))
    before = world.state()
    with disk_of(100_000), pytest.raises(CannotReceive, match="free some space") as caught:
        world.receive()
    assert caught.value.retryable
    assert world.state() == before
    assert [path.name for path in world.archive.rglob(".etl-*")] == []
    assert world.outcomes() == {A: "accepted"}


def test_a_full_disk_while_the_reason_is_written_leaves_the_file_where_it_is(world: World) -> None:
    world.drop(A, BAD)
    with disk_of(len(BAD)), pytest.raises(CannotReceive, match="free some space"):
        world.receive()
    assert world.files() == [A]
    assert world.quarantined() == []
    assert world.outcomes() == {A: "refused"}


def other_file_system(tmp_path: Path) -> Path | None:
    here = os.stat(tmp_path).st_dev
    others = (Path(name) for name in ("/dev/shm", "/tmp", "/var/tmp"))
    return next((one for one in others if one.is_dir() and os.stat(one).st_dev != here), None)


def test_a_quarantine_on_another_file_system_works_alike(world: World, tmp_path: Path) -> None:
    elsewhere = other_file_system(tmp_path)
    if elsewhere is None:
        pytest.skip("there is one file system here")
    world.quarantine = Path(tempfile.mkdtemp(dir=elsewhere))
    try:
        for _ in range(2):
            world.drop(A, BAD)
            assert world.outcomes() == {A: "refused"}
            (entry,) = world.quarantined()
            assert entry.path.read_bytes() == BAD
        quarantine.release(world.quarantine, entry.reason.key, world.incoming)
        assert world.files() == [A]
        assert world.quarantined() == []
    finally:
        shutil.rmtree(world.quarantine)


@pytest.mark.parametrize("hindrance", ["file", "folder"])
def test_no_permission_is_said_with_the_path_and_what_to_do(hindrance: str) -> None:
    root = Path(tempfile.mkdtemp())
    try:
        world = World(root)
        path = world.drop(A, rows(1))
        subprocess.run(["chmod", "-R", "a+rwX", str(root)], check=True)
        (path if hindrance == "file" else world.folder).chmod(0o000 if hindrance == "file" else 0o555)
        waiting = world.scan().waiting
        with unprivileged():
            (failed,) = admit.receive_all(waiting, world.spec, *world.roots).failed
        assert failed.error.retryable
        assert "let this user read the file and write to its folder; the file waits where it is" in str(failed.error)
        assert str(path if hindrance == "file" else world.folder) in str(failed.error)
        assert path.exists()
    finally:
        shutil.rmtree(root)


def test_an_abandoned_copy_is_removed_and_one_in_use_is_not(world: World) -> None:
    world.drop(A, rows(1))
    world.receive()
    abandoned, used = (world.archive / "sales" / f".etl-{name}.tmp" for name in ("abandoned", "used"))
    for path in (abandoned, used):
        path.write_bytes(b"x")
        os.utime(path, (1, 1))
    with used.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        world.receive()
    assert (abandoned.exists(), used.exists()) == (False, True)


@pytest.mark.parametrize("threads", [1, 8])
def test_any_number_of_threads_leaves_the_same_bytes(tmp_path: Path, threads: int) -> None:
    results = []
    for number in (1, threads):
        world = World(tmp_path / str(number) / str(len(results)))
        for n in range(60):
            content = BAD + b"%d" % n if n % 9 == 0 else rows(200 + n % 5, first=n // 10)
            world.drop(f"{n % 3}-2024-02-{n % 20 + 1:02d}.csv", content)
        outcomes = world.receive(number)
        results.append((world.state(), outcomes))
    assert results[0] == results[1]
    assert {one.outcome for one in results[0][1]} >= {"accepted", "refused"}


def test_a_failing_file_leaves_the_other_days_whole_and_its_own_day_in_order(world: World) -> None:
    names = ["a-2024-03-04.csv", A, B, "c-2024-03-06.csv"]
    for name, content in zip(names, (rows(1), rows(20_000), rows(2), rows(3)), strict=True):
        world.drop(name, content)
    with disk_of(100_000):
        results = admit.receive_all(world.scan().waiting, world.spec, *world.roots, 4)
    assert {one.name: one.outcome for one in results.received} == {names[0]: "accepted", names[3]: "accepted"}
    assert [(one.waiting.name, type(one.error)) for one in results.failed] == [(A, CannotReceive)]
    assert world.files() == [A, B]
    assert world.outcomes() == {A: "accepted", B: "accepted"}


def test_nothing_waiting_is_nothing_received(world: World) -> None:
    assert admit.receive_all((), SPEC, *world.roots) == admit.Results((), ())


def test_a_contract_that_has_been_mended_takes_a_released_file(world: World) -> None:
    world.drop(A, b"id,amount\n1,2\n")
    world.receive()
    world.spec = dataclasses.replace(SPEC, columns={"id": "id", "amount": "amount"})
    (entry,) = world.quarantined()
    for _ in range(2):
        released = quarantine.release(world.quarantine, entry.reason.key, world.incoming)
        assert released == world.folder / A
        if world.quarantined() == []:
            break
    os.utime(released, (1, 1))
    assert world.outcomes() == {A: "accepted"}
    assert quarantine.open_days(world.quarantine, world.archive, world.spec) == set()
