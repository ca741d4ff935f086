"""Many refused files at once: released, discarded, listed for scripts, and counted until a good one has come."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from etl_project.cli.quarantine import app
from etl_project.sources.intake import quarantine, scan
from etl_project_tests.unit.sources.world import World, rows, spec

DAYS = [f"2024-03-0{number}" for number in range(1, 6)]
BAD = b"no header at all, " + b"x" * 150 + b"\n"


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """Two sources with five refused files each, which no project declares."""
    monkeypatch.setenv("ETL_DATA_DIR", str(tmp_path))
    monkeypatch.setattr("etl_project.cli.quarantine._tell_checks", lambda *_: None)
    worlds = [World(tmp_path, spec(name=name)) for name in ("other", "sales")]
    for one in worlds:
        for day in DAYS:
            one.drop(f"a-{day}.csv", BAD + day.encode())
        assert set(one.outcomes().values()) == {"refused"}
    return worlds[1]


def etl(*arguments: str, code: int = 0) -> str:
    done = CliRunner().invoke(app, list(arguments))
    assert done.exit_code == code, done.output
    return done.output


def left(world: World) -> list[tuple[str, str]]:
    return [(one.reason.source, one.name) for one in world.quarantined()]


def waiting(world: World) -> list[str]:
    return sorted(path.name for path in world.folder.glob("*.csv"))


def test_all_files_of_a_source_are_released_at_once_and_judged_again(world: World) -> None:
    etl("release", "--source", "sales")
    assert waiting(world) == [f"a-{day}.csv" for day in DAYS]
    assert {source for source, _ in left(world)} == {"other"} and len(left(world)) == 5
    for path in world.folder.glob("*.csv"):
        os.utime(path, (1, 1))
    assert set(world.outcomes().values()) == {"refused"}, "the contract was not mended"
    assert len(left(world)) == 10


def test_names_and_keys_choose_files(world: World) -> None:
    etl("release", "--matching", "*-03-0[12].csv", "--source", "sales")
    assert waiting(world) == [f"a-{day}.csv" for day in DAYS[:2]]
    keys = [one.reason.key for one in world.quarantined() if one.reason.source == "sales"]
    etl("release", *keys[:2])
    assert waiting(world) == [f"a-{day}.csv" for day in DAYS[:4]]
    etl("release", "--all")
    assert left(world) == []


def test_nothing_left_to_choose_is_said_as_what_it_is(world: World) -> None:
    said = etl("release", "--source", "sales", "--matching", "b-*")
    assert "no refused file of the source sales with a name like b-*" in said and "(10)" in said
    etl("release", "--source", "sales")
    assert "no refused file of the source sales; " in etl("release", "--source", "sales")
    etl("discard", "--all")
    for command in ("release", "discard"):
        assert "Quarantine is empty" in etl(command, "--all")


def test_a_file_that_is_kept_where_it_came_is_judged_again_when_it_is_released(world: World) -> None:
    """A run that failed over it is known by this very file: it has to come back as a new one."""
    world.spec = spec(name="sales", quiet_seconds=600)
    world.drop("b-2024-03-05.csv", BAD)
    assert world.outcomes() == {"b-2024-03-05.csv": "refused"} and world.scan().waiting == ()
    [before] = [one.entry for one in world.scan().kept]
    etl("release", "--matching", "b-*")
    released = list((world.folder / scan.CLAIMS).rglob("*.csv"))
    for path in [*released, *(path.parent for path in released)]:
        os.utime(path, (1, 1))
    [after] = world.scan().waiting
    assert (after.name, after.size) == (before.name, before.size) and after.inode != before.inode
    assert world.outcomes() == {"b-2024-03-05.csv": "refused"}


def test_nothing_is_chosen_by_naming_nothing_or_what_is_not_there(world: World) -> None:
    for command in ("release", "discard"):
        etl(command, code=2)
        etl(command, "--all", "--source", "sales", code=2)
        assert CliRunner().invoke(app, [command, "0" * 16]).exit_code != 0
    assert len(left(world)) == 10 and waiting(world) == []


def test_a_file_whose_place_is_taken_keeps_no_other_from_its_release(world: World) -> None:
    (world.folder / f"a-{DAYS[2]}.csv").write_bytes(rows(3))
    said = etl("release", "--source", "sales", code=1)
    assert "not released" in said and waiting(world) == [f"a-{day}.csv" for day in DAYS]
    assert (world.folder / f"a-{DAYS[2]}.csv").read_bytes() == rows(3)
    assert ("sales", f"a-{DAYS[2]}.csv") in left(world)


def test_discarded_files_are_gone_and_their_days_open_no_longer(world: World) -> None:
    assert len(quarantine.open_days(world.quarantine, world.archive, world.spec)) == 5
    for _ in range(2):
        etl("discard", "--source", "sales")
        assert quarantine.open_days(world.quarantine, world.archive, world.spec) == set()
        assert {source for source, _ in left(world)} == {"other"}
    assert [path for path in (world.quarantine / "sales").rglob("*") if path.is_file()] == []


def test_the_list_is_one_line_a_file_in_a_pipe(world: World) -> None:
    head, *lines = etl("list").splitlines()
    assert head.split("\t") == ["Key", "Source", "Day", "File", "Reason"]
    assert [line.split("\t")[1:4] for line in lines[5:]] == [["sales", day, f"a-{day}.csv"] for day in DAYS]
    assert all(line.count("\t") == 4 and "wrong columns" in line for line in lines)


def test_what_was_sent_again_and_is_good_is_counted_no_longer(world: World) -> None:
    world.drop(f"a-{DAYS[0]}.csv", rows(3))
    assert world.outcomes() == {f"a-{DAYS[0]}.csv": "accepted"}
    still = quarantine.still_open(world.quarantine, world.archive, world.spec)
    assert [one.name for one in still] == [f"a-{day}.csv" for day in DAYS[1:]]
    assert "(replaced since)" in etl("list").splitlines()[6]
