"""Files that can be read, and are not what their sender meant: cut ones, and those of another day."""

from __future__ import annotations

import gzip
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from etl_project import settings
from etl_project.due.drain import drain
from etl_project.sources.intake import archive, quarantine
from etl_project.sources.reading import judge
from etl_project.sources.spec import SpecError
from etl_project_tests.projects import source_project

from ..world import DAY, SPEC, World, all_rejects, all_rows, lines, read, rows, spec

DAYS = [f"2024-03-0{number}" for number in range(1, 8)]


def name(day: str, suffix: str = ".csv") -> str:
    return f"a-{day}{suffix}"


def unended(content: bytes) -> bytes:
    return content.removesuffix(b"\n")


def after(world: World, *contents: bytes) -> World:
    """The world after these files of its first days were accepted, one a call."""
    for day, content in zip(DAYS, contents, strict=False):
        world.drop(name(day), content)
        assert world.outcomes() == {name(day): "accepted"}
    return world


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz"])
def test_a_last_line_without_its_end_is_a_cut_file_where_others_end_theirs(tmp_path: Path, suffix: str) -> None:
    world = after(World(tmp_path), rows(3), rows(4))
    cut = rows(500)[:-9]
    path = name(DAYS[5], suffix)
    world.drop(path, gzip.compress(cut) if suffix.endswith("gz") else cut)
    (received,) = world.receive()
    assert received.outcome == "refused"
    assert "2 other files of the source end theirs" in str(received.reason)
    assert "unended_last_line: accept" in str(received.reason)
    assert quarantine.open_days(world.quarantine, world.archive, world.spec) == {date.fromisoformat(DAYS[5])}
    whole = gzip.compress(rows(500)) if suffix.endswith("gz") else rows(500)
    world.drop(path, whole)
    assert world.outcomes() == {path: "accepted"}
    assert quarantine.open_days(world.quarantine, world.archive, world.spec) == set()


def test_a_source_whose_files_lack_the_last_line_end_goes_on_working(tmp_path: Path) -> None:
    contents = [unended(rows(number)) for number in range(3, 9)]
    after(World(tmp_path), *contents)


@pytest.mark.parametrize("accepted", ["\r\n", "\r"])
def test_line_ends_of_any_kind_are_ends(tmp_path: Path, accepted: str) -> None:
    world = after(World(tmp_path, spec(encoding="utf-8")), rows(3))
    content = rows(4).replace(b"\n", accepted.encode())
    world.drop(name(DAYS[5]), content)
    (received,) = world.receive()
    assert "cut off" not in str(received.reason)


def test_utf_16_ends_its_lines_too(tmp_path: Path) -> None:
    world = World(tmp_path, spec(encoding="utf-16"))
    for number, day in enumerate(DAYS):
        world.drop(name(day), rows(3 + number).decode().encode("utf-16"))
    assert set(world.outcomes().values()) == {"accepted"}
    world.drop("b-2024-03-01.csv", unended(rows(30)).decode().encode("utf-16"))
    assert world.outcomes() == {"b-2024-03-01.csv": "refused"}


def test_the_first_file_is_cut_only_where_its_last_line_is_no_row(tmp_path: Path) -> None:
    after(World(tmp_path / "good"), unended(rows(3)))
    world = World(tmp_path / "bad")
    world.drop(name(DAYS[0]), rows(200) + b"201,1.5")
    (received,) = world.receive()
    assert received.outcome == "refused" and "it is no row" in str(received.reason)


def test_files_may_be_declared_to_end_without_a_line_end(tmp_path: Path) -> None:
    world = after(World(tmp_path, spec(unended_last_line="accept")), rows(3), rows(4))
    world.drop(name(DAYS[5]), unended(rows(5)))
    assert world.outcomes() == {name(DAYS[5]): "accepted"}


@pytest.mark.parametrize("threads", [1, 4])
def test_of_files_that_come_together_the_one_that_was_cut_is_found(tmp_path: Path, threads: int) -> None:
    world = World(tmp_path)
    for number in range(1, 30):
        content = rows(number + 2)
        world.drop(name(f"2024-02-{number:02}"), unended(content) if number == 1 else content)
    outcomes = {one.name: one.outcome for one in world.receive(threads)}
    assert {path for path, outcome in outcomes.items() if outcome != "accepted"} == {name("2024-02-01")}


def test_the_content_of_another_day_is_refused_like_a_duplicate(tmp_path: Path) -> None:
    world = after(World(tmp_path), rows(3), rows(4))
    before = world.accepted(date.fromisoformat(DAYS[1]))
    for _ in range(2):
        world.drop(name(DAYS[1]), rows(3))
        (received,) = world.receive()
        assert received.outcome == "duplicate"
        assert f"the same content as {name(DAYS[0])} of {DAYS[0]}" in str(received.reason)
        assert "same_content_on_days: accept" in str(received.reason)
        assert world.accepted(date.fromisoformat(DAYS[1])) == before


@pytest.mark.parametrize("threads", [1, 4])
def test_of_equal_files_that_come_together_the_earlier_is_taken(tmp_path: Path, threads: int) -> None:
    world = World(tmp_path)
    for number in range(1, 30):
        world.drop(name(f"2024-02-{number:02}"), rows(3) if number in (3, 20, 28) else rows(number + 100))
    outcomes = {one.name: one.outcome for one in world.receive(threads)}
    refused = [path for path, outcome in outcomes.items() if outcome != "accepted"]
    assert refused == [name("2024-02-20"), name("2024-02-28")]


@pytest.mark.parametrize("content", [lines(), lines("1,1,,")], ids=["header only", "one row"])
def test_files_that_say_too_little_may_be_equal_on_several_days(tmp_path: Path, content: bytes) -> None:
    after(World(tmp_path), content, content, content)


def test_a_source_that_is_known_to_repeat_whole_files_goes_on_working(tmp_path: Path) -> None:
    world = after(World(tmp_path, spec(same_content_on_days="accept")), rows(3), rows(3))
    world.spec = SPEC
    world.drop(name(DAYS[5]), rows(3))
    assert world.outcomes() == {name(DAYS[5]): "accepted"}


def test_the_content_that_a_day_had_before_may_come_on_another_day(tmp_path: Path) -> None:
    """Two files were mixed up, and come again the right way round."""
    world = after(World(tmp_path), rows(3))
    world.drop(name(DAYS[0]), rows(9))
    world.receive()
    world.drop(name(DAYS[1]), rows(3))
    assert world.outcomes() == {name(DAYS[1]): "accepted"}
    versions = archive.accepted(world.archive, world.spec, date.fromisoformat(DAYS[0]))
    assert [version.sequence for version in versions] == [2]


ON = [f"{number},1,2024-03-05 0{number}:30:00,x" for number in range(1, 4)]


def test_rows_of_another_day_than_their_date_column_says_are_rejects(tmp_path: Path) -> None:
    checked = spec(date_column="sold_at", max_rejected_ratio=1.0)
    given = read(lines(*ON, "4,1,2024-03-04 10:00:00,x", "5,1,,x", "6,1,2024-03-06 00:00:00,x"), tmp_path, checked)
    assert [row["id"] for row in all_rows(given)] == [1, 2, 3]
    rejects = all_rejects(given)
    assert [(one["column_name"], one["source_line"]) for one in rejects] == [("sold_at", line) for line in (5, 6, 7)]
    assert rejects[1]["reason"].startswith("sold_at: no value, and date_column says")


def test_the_day_of_a_date_column_is_one_of_the_zone_of_its_times(tmp_path: Path) -> None:
    """00:30 in London in summer is 23:30 UTC of the day before, and still of the sender's day."""
    summer = lines("1,1,2024-06-05 00:30:00,x", "2,1,2024-06-05 23:30:00,x")
    checked = spec(date_column="sold_at", max_rejected_ratio=1.0)
    path = tmp_path / "content"
    path.write_bytes(summer)
    (batch,) = judge.read(path, checked, "a-2024-06-05.csv", date(2024, 6, 5))
    assert batch.rejects.num_rows == 0
    (batch,) = judge.read(path, spec(date_column="sold_at", time_zone="UTC"), "a.csv", date(2024, 6, 5))
    assert batch.rejects.num_rows == 0


def test_another_days_file_under_this_days_name_is_refused_by_its_dates(tmp_path: Path) -> None:
    world = World(tmp_path, spec(date_column="sold_at"))
    world.drop(f"a-{DAY}.csv", lines(*ON))
    world.receive()
    world.drop(f"a-{DAY}.csv", lines(*(row.replace("03-05", "03-04") for row in ON)))
    assert world.outcomes() == {f"a-{DAY}.csv": "refused"}
    assert world.accepted() == {f"a-{DAY}.csv": lines(*ON)}


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"unended_last_line": "maybe"}, "unended_last_line is 'maybe'; it can be refuse, accept"),
        ({"same_content_on_days": "no"}, "same_content_on_days is 'no'"),
        ({"date_column": "when"}, "date_column 'when' is filled by no file"),
        ({"date_column": "note"}, "date_column note must be DATE, TIMESTAMP"),
        ({"business_zone": "Europe/Lundon", "date_column": "sold_at"}, "business_zone 'Europe/Lundon' is not known"),
        ({"business_zone": "Europe/London"}, "business_zone needs event_column or date_column"),
    ],
)
def test_a_wrong_value_is_named(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(SpecError, match=told):
        spec(**settings)


CONTRACT = "CREATE TABLE sales (batch_date DATE NOT NULL, id INTEGER NOT NULL, sold_at TIMESTAMPTZ NOT NULL);"
DEFS = {"name": "sales", "patterns": ["{date}.csv"], "columns": {"id": "id", "at": "sold_at"}}


def test_a_day_is_not_emptied_by_a_header_alone_unless_it_is_meant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with source_project(tmp_path, DEFS, CONTRACT, monkeypatch) as project:
        project.drop("2025-03-03.csv", "id,at\n1,2025-03-03 10:00\n2,2025-03-03 11:00\n")
        project.drop("2025-03-04.csv", "id,at\n")
        assert project.drain().failed == [], "a first file may be empty"
        project.drop("2025-03-03.csv", "id,at\n")
        project.drain()
        configured = settings.load()
        [refused] = quarantine.listing(configured.quarantine)
        assert "2025-03-03.csv gave 2025-03-03 2 rows" in refused.reason.found
        raw_and_typed = "select (select count(*) from sales), (select count(*) from sales_rejects)"
        assert project.query(raw_and_typed) == [(2, 0)]
        assert project.drain().failed == [], "the day can be built as before"
        quarantine.release(configured.quarantine, refused.reason.key, configured.incoming)
        assert drain(project.deployment, allow_shrink=True).failed == []
        assert project.query("select count(*) from sales") == [(0,)]


def test_rows_belong_to_the_senders_local_day_where_the_source_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """New York's evening is the next UTC day; Tokyo's morning is the one before."""
    for zone, times in (("America/New_York", ("00:30", "23:30")), ("Asia/Tokyo", ("00:30", "23:30"))):
        local = {"event_column": "sold_at", "time_zone": zone, "business_zone": zone}
        with source_project(tmp_path / zone, {**DEFS, **local}, CONTRACT, monkeypatch) as project:
            for day in ("2025-03-03", "2025-03-04"):
                project.drop(f"{day}.csv", "id,at\n" + "".join(f"1,{day} {time}\n" for time in times))
            done = project.drain()
            assert done.failed == []
            counted = project.query("select batch_date::varchar, count(*) from sales group by all order by all")
            assert counted == [("2025-03-03", 2), ("2025-03-04", 2)]
            assert project.query("select count(*) from sales_rejects") == [(0,)]
