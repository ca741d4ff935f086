"""A real small disk under a real receiver: full, it says so and goes on; with room again, it takes up where it was."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from etl_project.exclusion import sqlite_file
from etl_project.exclusion.sqlite_file import StateUnavailable
from etl_project.http_in.database import Database, RecordsFull
from etl_project.instance import history_files
from etl_project.instance.history_files import HistoryUnavailable
from etl_project_tests import steady
from etl_project_tests.forks import FORKS
from etl_project_tests.unit.http_in.servers import PATIENCE_SECONDS, ReceiverProcess, headers

DISK = 12 << 20
NAME = "a-2026-01-05.csv"


@pytest.fixture(params=["tmpfs", "ext4"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A mounted file system of about 12 MiB: one in memory, and a real one with blocks, journal and all."""
    place, image = tmp_path / "data", tmp_path / "image"
    place.mkdir()
    if request.param == "ext4":
        image.touch()
        os.truncate(image, DISK + (4 << 20))
        # Blocks smaller than pages: a mapped file with holes ends whoever writes there when the disk is full.
        allowed("mkfs.ext4", "-q", "-m", "0", "-b", "1024", str(image))
        allowed("mount", "-o", "loop", str(image), str(place))
    else:
        allowed("mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(place))
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def allowed(*command: str) -> None:
    """Run the command; where that is not possible here, the test is skipped with the reason."""
    if shutil.which(command[0]) is None:
        pytest.skip(f"there is no {command[0]} here")
    made = subprocess.run(command, check=False, capture_output=True, text=True)
    if made.returncode != 0:
        pytest.skip(f"a small file system may not be mounted here: {made.stderr.strip()}")


@pytest.fixture
def receiver(disk: Path) -> Iterator[ReceiverProcess]:
    process = ReceiverProcess(disk)
    try:
        yield process
    finally:
        process.stop()


def put(receiver: ReceiverProcess, key: str, body: bytes | Iterator[bytes], name: str = NAME) -> httpx2.Response:
    return steady.put(f"{receiver.url}/v1/incoming/orders/{name}", content=body, headers=headers(key))


def fill(disk: Path) -> Path:
    """Take every byte that is left; the file that holds them."""
    filler = disk / "filler"
    with filler.open("ab", buffering=0) as file:
        for size in (1 << 20, 4096, 1):
            try:
                while file.write(b"x" * size) == size:
                    pass
            except OSError:
                continue
    return filler


def free(disk: Path) -> int:
    return os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize


def pieces(size: int) -> Iterator[bytes]:
    for _ in range(size >> 20):
        yield b"x" * (1 << 20)


def refused_for_room(response: httpx2.Response) -> None:
    assert response.status_code == 507, response.text
    assert response.json()["type"].endswith(":disk-full")
    assert int(response.headers["retry-after"]) > 0


def eventually_stored(receiver: ReceiverProcess, key: str, body: bytes) -> None:
    """The sender that comes again gets through without anybody's help, and once."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while (response := put(receiver, key, body)).status_code != 201:
        assert response.status_code in (507, 409), response.text
        assert time.monotonic() < deadline, receiver.log()
        time.sleep(0.2)
    assert put(receiver, key, body).headers["idempotency-replayed"] == "true"
    assert receiver.take() == [body]


@pytest.mark.parametrize("announced", [True, False], ids=["announced", "chunked"])
def test_an_upload_that_is_larger_than_the_disk_is_507_and_leaves_the_disk_as_it_was(
    receiver: ReceiverProcess, disk: Path, announced: bool
) -> None:
    receiver.start()
    before = free(disk)
    for _ in range(2):
        refused_for_room(put(receiver, "big", b"x" * (2 * DISK) if announced else pieces(2 * DISK)))
        assert receiver.temporaries() == []
        assert steady.get(f"{receiver.url}/healthz").status_code == 200
    assert free(disk) > before - (1 << 20)
    eventually_stored(receiver, "big", b"smaller")


def test_a_disk_that_others_fill_in_the_middle_of_an_upload_is_507_and_its_room_is_given_back(
    receiver: ReceiverProcess, disk: Path
) -> None:
    receiver.start()

    def body() -> Iterator[bytes]:
        yield from pieces(4 << 20)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not [path for path in receiver.temporaries() if path.stat().st_size >= 3 << 20]:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        fill(disk)
        yield from pieces(4 << 20)

    refused_for_room(put(receiver, "k", body()))
    assert receiver.temporaries() == []
    assert free(disk) >= 3 << 20
    assert steady.get(f"{receiver.url}/healthz").status_code == 200
    eventually_stored(receiver, "k", b"whole")


def test_a_full_disk_refuses_everything_and_with_room_everything_goes_on(receiver: ReceiverProcess, disk: Path) -> None:
    receiver.start()
    assert put(receiver, "early", b"before").status_code == 201
    assert receiver.take() == [b"before"]
    filler = fill(disk)
    for _ in range(3):
        refused_for_room(put(receiver, "k", b"content"))
        refused_for_room(steady.get(f"{receiver.url}/healthz"))
    assert receiver.process is not None
    assert receiver.process.is_alive()
    assert receiver.temporaries() == []
    filler.unlink()
    assert steady.get(f"{receiver.url}/healthz").status_code == 200
    eventually_stored(receiver, "k", b"content")
    assert put(receiver, "early", b"before").headers["idempotency-replayed"] == "true"


@pytest.mark.parametrize("used", [False, True], ids=["new", "used"])
def test_a_receiver_starts_on_a_full_disk_and_recovers_by_itself(
    receiver: ReceiverProcess, disk: Path, used: bool
) -> None:
    if used:
        receiver.start()
        assert put(receiver, "early", b"before").status_code == 201
        assert receiver.take() == [b"before"]
        receiver.stop()
    filler = fill(disk)
    for _ in range(2):
        receiver.start(health=507)
        refused_for_room(put(receiver, "k", b"content"))
        receiver.stop()
    receiver.start(health=507)
    filler.unlink()
    eventually_stored(receiver, "k", b"content")
    if used:
        assert put(receiver, "early", b"before").headers["idempotency-replayed"] == "true"
    assert "Traceback" not in receiver.log()


def test_a_receiver_killed_in_an_upload_on_a_disk_that_is_full_by_now_frees_its_room_at_the_next_start(
    receiver: ReceiverProcess, disk: Path
) -> None:
    receiver.start(fault="receiver.streaming:5=kill")
    with pytest.raises(httpx2.TransportError):
        put(receiver, "k", pieces(8 << 20))
    receiver.wait_for_death()
    assert len(receiver.temporaries()) == 1
    fill(disk)
    assert free(disk) < 1 << 20
    receiver.start()
    assert receiver.temporaries() == []
    assert free(disk) > 3 << 20
    eventually_stored(receiver, "k", b"content")


def test_records_on_a_full_disk_are_full_and_not_broken(disk: Path) -> None:
    database = Database(disk / "delivery.sqlite")
    filler = fill(disk)
    for _ in range(3):
        with pytest.raises(RecordsFull, match="retrying helps"):
            write(database)
    filler.unlink()
    write(database)
    with database.transaction() as connection:
        assert connection.execute("select count(*) from deliveries").fetchone()[0] == 1
    database.close()
    fill(disk)
    with pytest.raises(RecordsFull, match="retrying helps"):
        Database(disk / "other" / "delivery.sqlite")


@pytest.mark.parametrize("made", [False, True], ids=["new", "used"])
@pytest.mark.parametrize("opened", ["deliveries", "locks", "history"])
def test_no_process_dies_of_a_disk_that_has_hardly_any_room(disk: Path, opened: str, made: bool) -> None:
    """However little is left: SQLite's shared memory once ended processes between 8 and 45 kB (blocks of 1 kB)."""
    if made:
        assert opening(opened, disk / "made") == 0
    filler = fill(disk)
    for free_bytes in (0, 8_192, 28_000, 36_000, 45_000):
        os.truncate(filler, filler.stat().st_size - free_bytes)
        assert opening(opened, disk / ("made" if made else f"at-{free_bytes}")) == 0
        fill(disk)


def opening(what: str, folder: Path) -> int | None:
    process = FORKS.Process(target=open_and_write, args=(what, folder))
    process.start()
    process.join(PATIENCE_SECONDS)
    return process.exitcode


def open_and_write(what: str, folder: Path) -> None:
    """As each process of the project does; what it says of a full disk is right, and any other end of it is not."""
    with contextlib.suppress(RecordsFull, StateUnavailable, HistoryUnavailable):
        if what == "deliveries":
            write(Database(folder / "delivery.sqlite"), "k" * 3_000)
        elif what == "history":
            history_files.prepare(folder / "storage", 5)
        else:
            path = folder / "state.sqlite"
            with sqlite_file.explained(path):
                sqlite_file.prepare(path, ("create table if not exists t (a text)",))
                with sqlite_file.transaction(path) as db:
                    db.execute("insert into t values (?)", ("k" * 3_000,))


def write(database: Database, key: str = "k" * 100_000) -> None:
    with database.transaction() as connection:
        connection.execute(
            "insert or replace into deliveries (key, endpoint, asset, day, content_hash, state, created_at, updated_at)"
            " values (?, 'e', 'a', 'd', 'h', 'pending', '', '')",
            (key,),
        )
