"""Quarantine: what is listed, which days are open, and the way back."""

from __future__ import annotations

import errno
import fcntl
import json
import os
from datetime import UTC
from pathlib import Path

import pytest

from etl_project.sources.intake import quarantine
from etl_project.sources.intake.quarantine import NotReleased
from etl_project_tests.unit.sources.world import DAY, World, rows, spec

A, B = "a-2024-03-05.csv", "b-2024-03-05.csv"
BAD = b"no header\n"


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def open_days(world: World) -> bool:
    return bool(quarantine.open_days(world.quarantine, world.archive, world.spec))


def receive(world: World, name: str, content: bytes) -> None:
    world.drop(name, content)
    world.receive()


def test_an_empty_quarantine_lists_nothing(world: World) -> None:
    assert quarantine.listing(world.quarantine) == []
    assert not open_days(world)


def test_the_reason_file_says_what_was_found_and_expected(world: World) -> None:
    receive(world, A, BAD)
    (path,) = world.quarantine.rglob("*.json")
    content = json.loads(path.read_text())
    assert path == world.quarantine / "sales" / "2024-03-05" / f"{content['key']}.json"
    assert {name: content[name] for name in ("source", "kind", "day", "name", "reason", "size_bytes")} == {
        "source": "sales",
        "kind": "refused",
        "day": "2024-03-05",
        "name": A,
        "reason": "wrong columns",
        "size_bytes": 10,
    }
    assert content["expected"].startswith("id, amount, at, note; ")
    assert content["found"] == "missing 'id', 'amount', 'at', 'note'; not expected 'no header'"
    assert content["refused_at"].endswith("+00:00")
    (entry,) = world.quarantined()
    assert entry.reason.refused_at.tzinfo == UTC
    assert quarantine.show(world.quarantine, content["key"]) == entry


def test_listing_is_by_source(world: World, tmp_path: Path) -> None:
    receive(world, A, BAD)
    receive(World(tmp_path, spec(name="other")), B, BAD)
    assert [one.reason.source for one in quarantine.listing(world.quarantine)] == ["other", "sales"]
    assert [one.name for one in quarantine.listing(world.quarantine, "sales")] == [A]


def test_a_reason_without_its_file_is_no_entry(world: World) -> None:
    receive(world, A, BAD)
    (entry,) = world.quarantined()
    entry.path.unlink()
    assert world.quarantined() == []
    assert not open_days(world)


def test_a_later_version_of_the_same_name_closes_the_day(world: World) -> None:
    receive(world, A, BAD)
    receive(world, B, rows(1))
    assert open_days(world)
    receive(world, A, rows(2))
    assert not open_days(world)


def test_a_version_accepted_before_does_not_close_the_day(world: World) -> None:
    receive(world, A, rows(1))
    receive(world, A, BAD)
    assert open_days(world)
    receive(world, A, rows(2))
    assert not open_days(world)
    receive(world, A, BAD)
    assert open_days(world)


def test_sending_the_accepted_version_once_more_closes_the_day(world: World) -> None:
    receive(world, A, rows(1))
    receive(world, A, BAD)
    receive(world, A, rows(1))
    assert not open_days(world)
    assert [one.reason.settled for one in world.quarantined()] == [True]


def test_any_later_version_closes_the_day_where_one_file_is_the_day(tmp_path: Path) -> None:
    world = World(tmp_path, spec(files_per_day="latest"))
    receive(world, A, BAD)
    assert open_days(world)
    receive(world, B, rows(1))
    assert not open_days(world)


def test_a_duplicate_does_not_open_a_day(world: World) -> None:
    receive(world, A, rows(1))
    receive(world, B, rows(1))
    assert len(world.quarantined()) == 1
    assert not open_days(world)


def test_releasing_puts_the_file_back_and_forgets_it(world: World) -> None:
    receive(world, "x/" + A, BAD)
    (entry,) = world.quarantined()
    assert quarantine.release(world.quarantine, entry.reason.key, world.incoming).read_bytes() == BAD
    assert world.quarantined() == []
    assert list((world.quarantine / "sales" / "2024-03-05").iterdir()) == []
    os.utime(world.folder / "x" / A, (1, 1))
    assert world.outcomes() == {"x/" + A: "refused"}
    assert world.quarantined()[0].reason.key == entry.reason.key


def test_releasing_again_after_a_kill_ends_in_the_same(world: World) -> None:
    receive(world, A, BAD)
    (entry,) = world.quarantined()
    (world.folder / A).write_bytes(BAD)
    quarantine.release(world.quarantine, entry.reason.key, world.incoming)
    assert world.quarantined() == []
    assert [path.name for path in world.folder.iterdir() if path.is_file()] == [A]


def test_a_file_that_is_refused_again_before_its_release_has_ended_stays_in_quarantine(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    receive(world, A, BAD)
    [entry] = world.quarantined()

    def reach(name: str) -> None:
        if name == "quarantine.release.back":
            os.utime(world.folder / A, (1, 1))
            assert world.outcomes() == {A: "refused"}

    monkeypatch.setattr("etl_project.faults.reach", reach)
    for _ in range(2):
        quarantine.release(world.quarantine, entry.reason.key, world.incoming)
        [again] = world.quarantined()
        assert again.path.read_bytes() == BAD and not (world.folder / A).exists()


def test_a_release_never_overwrites_a_file_that_waits(world: World) -> None:
    receive(world, A, BAD)
    (entry,) = world.quarantined()
    world.drop(A, rows(1))
    with pytest.raises(NotReleased, match="waits already"):
        quarantine.release(world.quarantine, entry.reason.key, world.incoming)
    assert (world.folder / A).read_bytes() == rows(1)
    assert world.quarantined() == [entry]


def refuse(*_: object, **__: object) -> None:
    """What a file system answers that lacks hard links, or locks."""
    raise OSError(errno.EPERM, "Operation not permitted")


def test_a_release_without_hard_links_waits_in_a_claim_under_its_own_name(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    receive(world, "x/" + A, BAD)
    (entry,) = world.quarantined()
    monkeypatch.setattr(os, "link", refuse)
    path = quarantine.release(world.quarantine, entry.reason.key, world.incoming)
    assert path.read_bytes() == BAD
    assert world.quarantined() == []
    os.utime(path.parents[1], (1, 1))
    os.utime(path, (1, 1))
    assert world.outcomes() == {"x/" + A: "refused"}
    assert not path.exists()


def test_a_release_without_hard_links_never_overwrites_a_file_that_waits(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "link", refuse)
    test_a_release_never_overwrites_a_file_that_waits(world)


def test_what_a_killed_release_left_is_removed_and_one_under_way_is_not(world: World) -> None:
    world.drop(A, rows(1))
    staging = world.folder / quarantine.RELEASING
    staging.mkdir()
    left, used = (staging / f".etl-{name}.tmp" for name in ("left", "used"))
    for path in (left, used):
        path.write_bytes(BAD)
    with used.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        world.receive()
    assert (left.exists(), used.exists()) == (False, True)


def test_an_unknown_key_is_said(world: World) -> None:
    with pytest.raises(NotReleased, match="has the key"):
        quarantine.release(world.quarantine, "../../etc", world.incoming)


def test_the_key_is_of_source_day_name_and_content() -> None:
    keys = {
        quarantine.key_of(source, day, name, sha256)
        for source in ("a", "b")
        for day in (DAY, None)
        for name in ("x", os.fsdecode(b"\xff"))
        for sha256 in ("1", "2")
    }
    assert len(keys) == 16


def test_two_that_discard_one_file_at_once_both_do_and_a_release_then_finds_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    receive(world, A, BAD)
    receive(world, B, BAD + BAD)
    first, second = world.quarantined()
    real = quarantine.shutil.rmtree

    def beaten(path: Path) -> None:
        real(path)
        real(path)  # The other one was a moment faster: FileNotFoundError.

    monkeypatch.setattr(quarantine.shutil, "rmtree", beaten)
    quarantine.discard(world.quarantine, first)
    quarantine.discard(world.quarantine, first)
    assert world.quarantined() == [second]
    listed = quarantine.listing(world.quarantine)
    monkeypatch.setattr(quarantine, "listing", lambda *_: listed)
    quarantine.discard(world.quarantine, second)
    with pytest.raises(NotReleased, match="another one released or discarded it meanwhile"):
        quarantine.release(world.quarantine, second.reason.key, world.incoming)


def test_an_entry_that_goes_while_the_quarantine_is_listed_is_not_there(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    receive(world, A, BAD)
    receive(world, B, BAD + BAD)
    gone, stays = world.quarantined()
    real = quarantine._load

    def late(path: Path) -> quarantine.Reason:
        if path.name == f"{gone.reason.key}.json":
            quarantine.discard(world.quarantine, gone)
        return real(path)

    monkeypatch.setattr(quarantine, "_load", late)
    assert quarantine.listing(world.quarantine) == [stays]
