"""Which objects are fetched: the rules of a drop folder, for keys."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import pytest

from etl_project.sources.bucket import sorting

NOW = datetime(2024, 3, 6, 12, tzinfo=UTC)


class Listed(NamedTuple):
    """An object as a listing gives it."""

    key: str
    size_bytes: int = 3
    etag: str = '"1"'
    modified: datetime = NOW - timedelta(hours=1)


def sort(*objects: Listed, fetched: dict[str, str] | None = None) -> Any:
    return sorting.sort(objects, "sales", fetched or {}, 1.0, NOW)


def names(objects: Any) -> list[str]:
    return [one.key.removeprefix("sales/") for one in objects]


def test_the_oldest_comes_first_then_the_bytes_of_the_name() -> None:
    later, same = NOW - timedelta(minutes=1), NOW - timedelta(minutes=2)
    found = sort(Listed("sales/a", modified=later), Listed("sales/z", modified=same), Listed("sales/b", modified=same))
    assert names(found.ready) == ["b", "z", "a"]


@pytest.mark.parametrize(
    "name", ["x.tmp", "x~", "x.swp", "x.part", ".hidden", ".git/x.csv", "y.tmp/x.csv", "_/.taken/x.csv"]
)
def test_temporary_and_hidden_names_are_left_alone_in_silence(name: str) -> None:
    assert sort(Listed(f"sales/{name}")) == sorting.Sorted()


def test_what_is_too_young_has_not_settled_and_what_lies_in_the_future_has() -> None:
    found = sort(
        Listed("sales/young", modified=NOW - timedelta(seconds=0.5)),
        Listed("sales/old", modified=NOW - timedelta(seconds=1)),
        Listed("sales/future", modified=NOW + timedelta(minutes=5)),
    )
    assert names(found.ready) == ["old", "future"] and found.unsettled == 1


def test_what_is_being_judged_is_not_fetched_and_a_newer_one_of_its_name_waits() -> None:
    found = sort(Listed("sales/a"), Listed("sales/b", etag='"2"'), fetched={"a": '"1"', "b": '"1"'})
    assert (names(found.with_us), names(found.behind), names(found.ready)) == (["a"], ["b"], [])


def test_folders_that_tools_make_are_no_objects_and_a_name_that_is_a_folder_too_is_told() -> None:
    assert sort(Listed("sales/a", size_bytes=0), Listed("sales/a/b")).passed_over == ()
    found = sort(Listed("sales/a"), Listed("sales/a/b"))
    assert names(found.ready) == ["a/b"] and [one.name for one in found.passed_over] == ["a"]


@pytest.mark.parametrize("name", ["ü" * 128 + ".csv", "/".join(["x" * 100] * 8)])
def test_names_that_no_file_can_have_are_told(name: str) -> None:
    found = sort(Listed(f"sales/{name}"))
    assert found.ready == () and "longer than" in found.passed_over[0].reason
