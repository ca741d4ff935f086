"""A file without a row does not take the place of a day's only rows."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from etl_project.sources.intake import admit, archive, quarantine
from etl_project.sources.reading.rows.row_settings import RowSettings
from etl_project.sources.spec import SourceSpec

from ..world import DAY, World, lines, rows, spec

A, B = "a-2024-03-05.csv", "b-2024-03-05.csv"
HEADER = lines()


def outcomes(world: World, *, may_empty: bool = False) -> dict[str, str]:
    results = admit.receive_all(world.scan().waiting, world.spec, *world.roots, may_empty=may_empty)
    assert not results.failed
    return {one.name: one.outcome for one in results.received}


def filled(root: Path, source: SourceSpec | None = None, **files: bytes) -> World:
    world = World(root, source or spec())
    for name, content in files.items():
        world.drop(f"{name}-2024-03-05.csv", content)
        outcomes(world)
    return world


def test_a_header_alone_does_not_get_into_the_archive_where_it_would_empty_its_day(tmp_path: Path) -> None:
    world = filled(tmp_path, a=rows(3))
    for _ in range(2):  # The run-twice twin: it is refused again, into the same place.
        world.drop(A, HEADER)
        assert outcomes(world) == {A: "refused"}
        assert world.accepted() == {A: rows(3)}
        [refused] = world.quarantined()
        assert refused.reason.found == f"no row, where {A} gave 2024-03-05 3 rows"
        assert "etl drain --allow-shrink" in refused.reason.expected


def test_once_released_it_is_taken_in_by_whoever_comes_first_and_refused_again_afterwards(tmp_path: Path) -> None:
    world = filled(tmp_path, a=rows(3))
    world.drop(A, HEADER)
    assert outcomes(world) == {A: "refused"}
    for _ in range(2):
        [refused] = world.quarantined()
        os.utime(quarantine.release(world.quarantine, refused.reason.key, world.incoming), (1, 1))
        assert outcomes(world) == {A: "accepted"}, "a sensor may be faster than the drain that allows it"
        assert world.quarantined() == []
        world.drop(A, rows(3))
        assert outcomes(world) == {A: "accepted"}
        world.drop(A, HEADER)
        assert outcomes(world) == {A: "refused"}, "it was meant once"


def not_released(world: World, refused: quarantine.Quarantined) -> None:
    world.drop(A, rows(4))
    with pytest.raises(quarantine.NotReleased, match="waits already"):
        quarantine.release(world.quarantine, refused.reason.key, world.incoming)


def overtaken(world: World, refused: quarantine.Quarantined) -> None:
    quarantine.release(world.quarantine, refused.reason.key, world.incoming)
    world.drop(A, rows(4))
    assert outcomes(world) == {A: "accepted"}


def killed_before_it_was_back_and_discarded(world: World, refused: quarantine.Quarantined) -> None:
    quarantine._mean(world.quarantine, refused.reason)
    quarantine.discard(world.quarantine, refused)


def killed_once_it_was_in_the_archive(world: World, refused: quarantine.Quarantined) -> None:
    os.utime(quarantine.release(world.quarantine, refused.reason.key, world.incoming), (1, 1))
    accept = archive.Day.accept

    def accepted(*given: Any) -> None:
        accept(*given)
        raise RuntimeError("killed")

    with pytest.MonkeyPatch.context() as patch, pytest.raises(RuntimeError, match="killed"):
        patch.setattr(archive.Day, "accept", accepted)
        outcomes(world)
    assert outcomes(world) == {A: "identical"}


WAYS = (not_released, overtaken, killed_before_it_was_back_and_discarded, killed_once_it_was_in_the_archive)


@pytest.mark.parametrize("way", WAYS)
def test_a_release_that_was_of_no_use_or_used_lets_no_later_file_in(
    tmp_path: Path, way: Callable[[World, quarantine.Quarantined], None]
) -> None:
    world = filled(tmp_path, a=rows(3))
    world.drop(A, HEADER)
    assert outcomes(world) == {A: "refused"}
    [refused] = world.quarantined()
    way(world, refused)
    assert not quarantine.is_meant(world.quarantine, "sales", DAY, refused.reason.sha256)
    world.drop(A, rows(5))
    assert outcomes(world) == {A: "accepted"}
    world.drop(A, HEADER)
    assert outcomes(world) == {A: "refused"}


def test_it_does_where_that_is_meant(tmp_path: Path) -> None:
    world = filled(tmp_path, a=rows(3))
    world.drop(A, HEADER)
    assert outcomes(world, may_empty=True) == {A: "accepted"}


def test_the_newest_file_is_asked_where_it_is_the_whole_day_whatever_its_name(tmp_path: Path) -> None:
    world = filled(tmp_path, spec(files_per_day="latest"), a=rows(3))
    world.drop(B, HEADER)
    assert outcomes(world) == {B: "refused"}


def test_an_empty_file_that_comes_first_is_accepted_and_so_is_one_after_an_empty_one(tmp_path: Path) -> None:
    world = filled(tmp_path, a=HEADER)
    assert world.accepted() == {A: HEADER}
    world.drop(A, HEADER.replace(b"\n", b"\r\n"))
    assert outcomes(world) == {A: "accepted"}


@pytest.mark.parametrize("first", [A, B])
def test_rows_that_moved_to_another_file_of_the_day_are_not_gone(tmp_path: Path, first: str) -> None:
    """The parts of a day were cut anew: refusing the part that is empty now would leave its rows there twice."""
    other = B if first == A else A
    world = filled(tmp_path, **{first[0]: rows(3), other[0]: HEADER})
    world.drop(first, HEADER)
    world.drop(other, rows(4))
    assert outcomes(world) == {A: "accepted", B: "accepted"}
    assert world.accepted() == {first: HEADER, other: rows(4)}


def test_a_part_may_be_empty_beside_parts_that_are_not_and_the_last_one_may_not(tmp_path: Path) -> None:
    world = filled(tmp_path, a=rows(3), b=rows(5))
    world.drop(A, HEADER)
    assert outcomes(world) == {A: "accepted"}
    world.drop(B, HEADER.replace(b"\n", b"\r\n"))
    assert outcomes(world) == {B: "refused"}
    assert world.accepted() == {A: HEADER, B: rows(5)}


@pytest.mark.parametrize("quiet_seconds", [0.0, 600.0])  # With it, files stay where they are after they were taken in.
@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"files_per_day": "latest"}, (B, A)),
        ({"patterns": ("s.{date}T{time}.csv",)}, ("s.2024-03-05T0600.csv", "s.2024-03-05T0700.csv")),
    ],
)
def test_rows_that_came_just_before_and_are_replaced_do_not_excuse_an_empty_file(
    tmp_path: Path, changes: dict[str, Any], names: tuple[str, str], quiet_seconds: float
) -> None:
    world = World(tmp_path, spec(**changes, quiet_seconds=quiet_seconds))
    world.drop(names[0], rows(3))
    world.drop(names[1], HEADER)
    assert outcomes(world) == {names[0]: "accepted", names[1]: "refused"}
    assert world.rows().num_rows == 3


def test_a_file_that_will_be_replaced_by_one_with_rows_may_be_empty(tmp_path: Path) -> None:
    world = filled(tmp_path, spec(files_per_day="latest"), a=rows(3))
    world.drop(A, HEADER)
    world.drop(B, rows(4))
    assert outcomes(world) == {A: "accepted", B: "accepted"}
    assert world.rows().num_rows == 4


def test_lines_that_are_no_rows_are_none_to_lose_and_none_that_stay(tmp_path: Path) -> None:
    source = spec(rows=RowSettings(footer_lines=1))
    world = filled(tmp_path / "1", source, a=HEADER + b"TOTAL 0\n")
    world.drop(A, HEADER + b"TOTAL 0.00\n")
    assert outcomes(world) == {A: "accepted"}, "the day had no rows before"
    world = filled(tmp_path / "2", source, a=rows(3) + b"TOTAL 3\n", b=HEADER + b"TOTAL 0\n")
    world.drop(A, HEADER + b"TOTAL 0.00\n")
    assert outcomes(world) == {A: "refused"}, "the other part of the day has a footer alone"


def test_rows_that_the_contract_no_longer_reads_are_rows_all_the_same(tmp_path: Path) -> None:
    world = filled(tmp_path, a=rows(3))
    world.spec = spec(columns={"id": "id", "Amount": "amount", "at": "sold_at", "note": "note"})
    world.drop(A, b"id,Amount,at,note\n")
    assert outcomes(world) == {A: "refused"}
    assert world.quarantined()[0].reason.found.startswith(f"no row, where {A} gave 2024-03-05 rows")


def test_a_header_alone_like_that_of_another_part_is_refused_for_what_it_would_do(tmp_path: Path) -> None:
    """Not as a duplicate, which is no reason to look: the day is red until its rows come."""
    world = filled(tmp_path, a=rows(3), b=HEADER)
    world.drop(A, HEADER)
    assert outcomes(world) == {A: "refused"}
    assert world.quarantined()[0].reason.kind == "refused"
    assert quarantine.open_days(world.quarantine, world.archive, world.spec) == {DAY}
