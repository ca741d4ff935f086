"""Dates and times in names, in the forms in which senders write them."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from etl_project.new_source.date_in_name import Placed, placed
from etl_project.sources.day_of_name import DaysOfNames
from etl_project.sources.name_pattern import NamePattern, filled
from etl_project.sources.spec import SpecError

from .world import World, rows, spec

DAY = date(2025, 3, 20)
FORMS = [
    ("*{date}*.csv", "ledger_2025-03-20T060000.csv"),
    ("*{date:%Y%m%d}*.csv", "LEDGER_20250320.csv"),
    ("*{date:%Y%m%d}*.csv", "ledger.20250320T060000Z.csv"),
    ("ledger.{date:%Y%m%d}T{time}Z.csv", "ledger.20250320T060000Z.csv"),
    ("{date:%Y%m%d}{time}.csv", "20250320061500.csv"),
    ("*{date:%d-%m-%Y}.csv", "ledger-20-03-2025.csv"),
    ("*{date:%Y_%m_%d}.csv", "ledger_2025_03_20.csv"),
    ("*_{date:%Y-%j}.csv", "ledger_2025-079.csv"),
    ("{date:%d%b%y}.csv", "20MAR25.csv"),
    ("{date:%B %d, %Y}.csv", "March 20, 2025.csv"),
    ("year={year}/month={month}/day={day}/*.csv", "year=2025/month=03/day=20/part-0.csv"),
    ("year={year}/month={month}/day={day}/*.csv", "year=2025/month=3/day=20/part-0.csv"),
    ("{date}/ledger.csv", "2025-03-20/ledger.csv"),
    ("*_{date:%Y%m%d}.csv", "ledger_20250319_20250320.csv"),
]


def day_of(name: str, *patterns: str) -> date | str:
    return DaysOfNames(patterns, date(2020, 1, 1), date(2026, 1, 1)).place(name)


@pytest.mark.parametrize(("pattern", "name"), FORMS)
def test_the_day_of_a_name_is_read_in_the_form_that_the_pattern_says(pattern: str, name: str) -> None:
    assert day_of(name, pattern) == DAY
    others = [one for one, _ in FORMS if one != pattern and NamePattern(one).last(name) is None]
    assert day_of(name, *others, pattern) == DAY, "several patterns may be declared"


@pytest.mark.parametrize(("pattern", "_"), FORMS)
def test_a_day_put_into_a_pattern_is_read_from_it_again(pattern: str, _: str) -> None:
    assert day_of(filled(pattern, DAY).replace("*", "x"), pattern) == DAY


@pytest.mark.parametrize(
    ("name", "patterns", "told"),
    [
        ("20250230.csv", ["{date:%Y%m%d}.csv"], "the date 20250230 does not exist"),
        ("2025-366.csv", ["{date:%Y-%j}.csv"], "does not exist"),
        ("2025-000.csv", ["{date:%Y-%j}.csv"], "does not exist"),
        ("120250320.csv", ["*{date:%Y%m%d}.csv"], "does not match"),
        ("2025032017.csv", ["{date:%Y%m%d}*.csv"], "does not match"),
        ("a_20250320_20250321.csv", ["*{date:%Y%m%d}*.csv"], "two dates, 20250320 and 20250321"),
        ("10112020.csv", ["{date:%d%m%Y}.csv", "{date:%m%d%Y}.csv"], "can be read as 2020-10-11 and 2020-11-10"),
        ("20190320.csv", ["{date:%Y%m%d}.csv"], "lies before the first day"),
        ("20270320.csv", ["{date:%Y%m%d}.csv"], "lies more than a day ahead"),
        ("year=2025/month=13/day=20/a.csv", ["year={year}/month={month}/day={day}/*"], "does not exist"),
    ],
)
def test_a_name_that_says_no_one_day_has_none(name: str, patterns: list[str], told: str) -> None:
    assert told in str(day_of(name, *patterns))


def test_of_two_forms_the_one_that_gives_a_day_counts() -> None:
    assert day_of("20032025.csv", "{date:%Y%m%d}.csv", "{date:%d%m%Y}.csv") == DAY


@pytest.mark.parametrize(
    ("pattern", "told"),
    [
        ("ledger.csv", "must hold {date} exactly once"),
        ("{date}_{date:%Y%m%d}.csv", "must hold {date} exactly once"),
        ("{date}/day={day}/x.csv", "must hold {date} exactly once"),
        ("{date:%Q}.csv", "holds %Q"),
        ("{date:%Y-%m}.csv", "does not say a whole date"),
        ("{year}/{month}/x.csv", "does not say a whole date"),
        ("{date:%Y%m%d%Y}.csv", "twice"),
        ("{date}_{time}_{time}.csv", "twice"),
        ("{date}_{hour}.csv", "holds {hour}; there are {date}"),
    ],
)
def test_a_wrong_pattern_is_one_line_with_a_right_example(pattern: str, told: str) -> None:
    with pytest.raises(SpecError) as refused:
        spec(patterns=(pattern,))
    assert told in str(refused.value) and "\n" not in str(refused.value)


def at(time: str, content: bytes, world: World) -> str:
    name = f"ledger_20240305T{time}.csv"
    world.drop(name, content)
    return world.outcomes()[name]


@pytest.mark.parametrize("files_per_day", ["many", "latest"])
def test_the_time_in_a_name_orders_the_versions_of_a_file_whatever_comes_first(
    tmp_path: Path, files_per_day: str
) -> None:
    world = World(tmp_path, spec(patterns=("*_{date:%Y%m%d}T{time}.csv",), files_per_day=files_per_day))
    assert at("120000", rows(5), world) == "accepted"
    assert at("060000", rows(3), world) == "accepted"
    assert (list(world.accepted()), world.rows().num_rows) == (["ledger_20240305T120000.csv"], 5), "it came too late"
    assert at("180000", rows(7), world) == "accepted"
    assert (list(world.accepted()), world.rows().num_rows) == (["ledger_20240305T180000.csv"], 7)
    assert at("180000", rows(8), world) == "accepted"
    assert world.rows().num_rows == 8, "of one time the last counts"
    world.drop("other_20240305T010000.csv", rows(2, first=100))
    world.receive()
    assert world.rows().num_rows == (10 if files_per_day == "many" else 8), "another file of the day adds up"


def test_files_with_dates_in_many_forms_are_taken_in_together(tmp_path: Path) -> None:
    patterns = ("*_{date:%Y%m%d}.csv", "*-{date:%d-%m-%Y}.csv", "year={year}/month={month}/day={day}/*.csv")
    world = World(tmp_path, spec(patterns=patterns))
    for number, name in enumerate(("LEDGER_20240305.csv", "l-05-03-2024.csv", "year=2024/month=03/day=05/part-0.csv")):
        world.drop(name, rows(3, first=10 * number))
    assert set(world.outcomes().values()) == {"accepted"}
    assert world.rows().num_rows == 9


@pytest.mark.parametrize(
    ("path", "pattern"),
    [
        ("ledger_2025-03-20.csv", "ledger_{date}.csv"),
        ("LEDGER_20250320.csv", "LEDGER_{date:%Y%m%d}.csv"),
        ("ledger.20250320T060000Z.csv", "ledger.{date:%Y%m%d}T*Z.csv"),
        ("ledger_20250320061500.csv", "ledger_{date:%Y%m%d}{time}.csv"),
        ("ledger-20-03-2025.csv", "ledger-{date:%d-%m-%Y}.csv"),
        ("ledger-03-20-2025.csv", "ledger-{date:%m-%d-%Y}.csv"),
        ("ledger_2025_03_20.csv", "ledger_{date:%Y_%m_%d}.csv"),
        ("ledger_2025-079.csv", "ledger_{date:%Y-%j}.csv"),
        ("ledger_20250319_20250320.csv", "ledger_*_{date:%Y%m%d}.csv"),
        ("x/year=2025/month=03/day=20/part-0.csv", "year={year}/month={month}/day={day}/*.csv"),
        ("x/2025-03-20/ledger.csv", "{date}/*.csv"),
    ],
)
def test_the_form_of_a_samples_date_is_found(path: str, pattern: str) -> None:
    found = placed(Path(path))
    assert isinstance(found, Placed)
    assert (found.pattern, found.day) == (pattern, DAY)
    name = "/".join(path.split("/")[1:]) if "/" in path else path
    assert day_of(name, found.pattern) == DAY, "the pattern fits the sample itself"


def test_a_date_that_can_be_read_in_two_ways_is_asked_for(tmp_path: Path) -> None:
    found = placed(Path("ledger-03-04-2025.csv"))
    assert isinstance(found, Placed) and "read as day, month, year" in found.notes[0]


def test_nobody_is_told_to_rename_a_file(tmp_path: Path) -> None:
    assert placed(tmp_path / "ledger.csv") is None, "its rows may say the day"
    for name in ("ledger_20251399.csv", "ledger_2025-13-01.csv"):
        told = placed(tmp_path / name)
        assert isinstance(told, str) and "rename" not in told
