"""What waits in a drop folder, and what does not."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from datetime import date, timedelta
from pathlib import Path

import pytest

from etl_project.sources.intake import scan
from etl_project_tests.unit.sources.world import DAY, NOW, World, rows, spec, unprivileged


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def reason_of(world: World, name: str) -> str:
    world.drop(name, rows(1))
    (unplaced,) = world.scan().undated
    return unplaced.reason


def test_files_come_in_the_order_of_their_mtime_and_then_of_their_names(world: World) -> None:
    for name in ("c-2024-03-05.csv", "a-2024-03-04.csv", "b-2024-03-05.csv"):
        world.drop(name, rows(1))
    os.utime(world.folder / "a-2024-03-04.csv", (1, 1))
    os.utime(world.folder / "c-2024-03-05.csv", (2, 2))
    os.utime(world.folder / "b-2024-03-05.csv", (2, 2))
    assert [(one.name[0], one.day) for one in world.scan().waiting] == [("a", date(2024, 3, 4)), ("b", DAY), ("c", DAY)]


def test_a_folder_that_is_not_there_is_empty(tmp_path: Path) -> None:
    assert scan.scan(tmp_path / "nothing", spec(), NOW) == scan.Scan((), (), (), 0, ())


def test_scanning_twice_finds_the_same(world: World) -> None:
    world.drop("a-2024-03-05.csv", rows(1))
    world.drop("no date.csv", rows(1))
    assert world.scan() == world.scan()


@pytest.mark.parametrize(
    "name", [".hidden-2024-03-05.csv", "a-2024-03-05.csv.tmp", "a-2024-03-05.csv~", ".a-2024-03-05.csv.swp", "a.part"]
)
def test_temporary_and_hidden_names_are_not_there(world: World, name: str) -> None:
    world.drop(name, rows(1))
    assert world.scan() == scan.Scan((), (), (), 0, ())


def test_a_file_that_was_just_written_is_unsettled(world: World) -> None:
    path = world.drop("a-2024-03-05.csv", rows(1))
    os.utime(path, (NOW.timestamp() - 0.5,) * 2)
    assert (world.scan().waiting, world.scan().unsettled) == ((), 1)


def test_a_date_of_change_in_the_future_does_not_keep_a_file_waiting_for_ever(world: World) -> None:
    path = world.drop("a-2024-03-05.csv", rows(1))
    os.utime(path, (NOW.timestamp() + 10**9,) * 2)
    later = max(NOW.timestamp(), os.stat(path).st_ctime) + 2
    found = scan.scan(world.folder, world.spec, NOW.fromtimestamp(later, NOW.tzinfo))
    assert len(found.waiting) == 1


def test_a_name_without_a_date_belongs_to_no_day(world: World) -> None:
    assert "does not match" in reason_of(world, "sales.csv")


def test_a_name_with_another_ending_belongs_to_no_day(world: World) -> None:
    assert "expected *YYYY-MM-DD*.csv" in reason_of(world, "sales-2024-03-05.xlsx")


def test_a_date_that_does_not_exist_belongs_to_no_day(world: World) -> None:
    assert reason_of(world, "sales-2024-02-30.csv") == "the date 2024-02-30 does not exist"


def test_a_date_before_the_start_belongs_to_no_day(world: World) -> None:
    assert "before the first day of the source, 2024-01-01" in reason_of(world, "sales-2023-12-31.csv")


def test_a_date_more_than_a_day_ahead_belongs_to_no_day(world: World) -> None:
    assert "more than a day ahead" in reason_of(world, "sales-2024-03-08.csv")


def test_a_date_one_day_ahead_waits_for_its_day(world: World) -> None:
    world.drop("sales-2024-03-07.csv", rows(1))
    found = world.scan()
    assert ([one.day for one in found.early], found.waiting, found.undated) == ([date(2024, 3, 7)], (), ())
    assert len(scan.scan(world.folder, world.spec, NOW + timedelta(days=1)).waiting) == 1


def test_a_name_with_two_dates_is_never_guessed(world: World) -> None:
    assert "two dates, 2024-03-04 and 2024-03-05" in reason_of(world, "export-2024-03-04-of-2024-03-05.csv")


def test_a_pattern_says_which_of_two_dates_counts(tmp_path: Path) -> None:
    world = World(tmp_path, spec(patterns=("*of-{date}.csv",)))
    world.drop("export-2024-03-04-of-2024-03-05.csv", rows(1))
    assert [one.day for one in world.scan().waiting] == [DAY]


def test_digits_around_a_date_make_it_no_date(world: World) -> None:
    assert "does not match" in reason_of(world, "sales-12024-03-055.csv")


def test_a_nested_file_is_named_by_its_path(world: World) -> None:
    world.drop("shop 1/2024/a-2024-03-05.csv", rows(1))
    assert [one.name for one in world.scan().waiting] == ["shop 1/2024/a-2024-03-05.csv"]


def test_a_folder_named_like_a_file_is_a_folder(world: World) -> None:
    world.drop("a-2024-03-05.csv/b.csv", rows(1))
    assert [one.name for one in world.scan().waiting] == ["a-2024-03-05.csv/b.csv"]


def test_an_empty_folder_named_like_a_file_is_nothing(world: World) -> None:
    (world.folder / "a-2024-03-05.csv").mkdir()
    assert world.scan() == scan.Scan((), (), (), 0, ())


@pytest.mark.parametrize("shut", ["", ".kept", ".taken", "sub"])
@pytest.mark.parametrize("mode", [0o000, 0o444])
def test_what_this_user_may_not_list_or_enter_is_said_and_no_error_of_python(shut: str, mode: int) -> None:
    root = Path(tempfile.mkdtemp())  # That of pytest lies below folders which no other user may enter.
    try:
        world = World(root)
        world.drop("sub/b-2024-03-05.csv", rows(2))
        for hidden in (".kept", ".taken"):
            (world.folder / hidden).mkdir()
        subprocess.run(["chmod", "-R", "a+rwX", str(root)], check=True)
        (world.folder / shut).chmod(mode)
        with unprivileged():
            if shut in ("", ".kept") and not (shut == ".kept" and mode == 0o444):  # Marks are names: listed is read.
                with pytest.raises(scan.CannotList) as refused:
                    world.scan()
                named = world.folder / shut
                assert str(refused.value) == f"{named}: no permission; allow this user to read and enter it."
            else:
                found = world.scan()
                assert [one.name for one in found.waiting] == ([] if shut == "sub" else ["sub/b-2024-03-05.csv"])
                assert [one.name.split("/")[0] for one in found.passed_over] == (
                    [shut] if shut == "sub" or not mode else []
                )
    finally:
        shutil.rmtree(root)


@pytest.mark.parametrize("there", ["a file", "a link to a file", "a link to nothing"])
def test_a_file_in_the_place_of_the_drop_folder_is_not_taken_for_an_empty_one(world: World, there: str) -> None:
    aside = world.folder.with_name("aside")
    world.folder.rmdir()
    if there != "a link to nothing":
        (world.folder if there == "a file" else aside).touch()
    if there != "a file":
        world.folder.symlink_to(aside)
    with pytest.raises(scan.CannotList, match=r"no folder; a file or link lies there\. Move it away"):
        world.scan()


def test_links_and_pipes_are_passed_over_and_named(world: World) -> None:
    (world.folder / "a-2024-03-05.csv").symlink_to("/etc/passwd")
    (world.folder / "folder").symlink_to("/etc")
    os.mkfifo(world.folder / "b-2024-03-05.csv")
    found = world.scan()
    assert not found.waiting
    assert not found.undated
    assert {one.name: one.reason for one in found.passed_over} == {
        "a-2024-03-05.csv": "a link: links are not followed",
        "folder": "a link: links are not followed",
        "b-2024-03-05.csv": "neither a file nor a folder",
    }


HOSTILE = [
    b"new\nline-2024-03-05.csv",
    b"'quote\"-2024-03-05.csv",
    b"x..-2024-03-05...csv",
    b"2024-03-05" + b"x" * 241 + b".csv",
    b"\xff\xfe-2024-03-05.csv",
    "naïve ☃ \u2028-2024-03-05.csv".encode(),
    b"%2e%2e%2f-2024-03-05.csv",
    b"-rf 2024-03-05 *.csv",
    b"a;drop table x-2024-03-05.csv",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_is_a_name(world: World, name: bytes) -> None:
    world.drop(os.fsdecode(name), rows(1))
    assert [os.fsencode(one.name) for one in world.scan().waiting] == [name]


def test_a_path_in_the_form_of_an_archived_version_is_refused(world: World) -> None:
    assert "archived version" in reason_of(world, f"x/000001-{'a' * 64}/a-2024-03-05.csv")
