"""The proof by names: which offsets are covered, wherever their files are by now."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from etl_project.kafka import format as landed
from etl_project.kafka import losses, offsets
from etl_project.kafka.format import Span
from etl_project_tests.kafka_broker import configured

DAY = date(2025, 3, 10)


def put(root: Path, folder: str, first: int, last: int, partition: int = 0) -> Path:
    path = root / folder / landed.name(DAY, Span("t", partition, first, last))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def chains(root: Path) -> dict[int, offsets.Chain]:
    return offsets.chains(offsets.found(configured(root), "things"), "t")


def test_ranges_chain_wherever_their_files_are(tmp_path: Path) -> None:
    put(tmp_path, "incoming/things", 5, 9)
    put(tmp_path, "incoming/things/.taken/1", 10, 11)
    (put(tmp_path, "archive/things/2025-03-10/x", 0, 0).parent / "never mind").touch()
    version = tmp_path / "archive/things/2025-03-10" / landed.name(DAY, Span("t", 0, 12, 19))
    version.mkdir(parents=True)
    (version / f"000001-{'a' * 64}").touch()
    put(tmp_path, "quarantine/things/2025-03-10/key", 20, 29)
    dead = tmp_path / "dead_letters/things" / landed.dead_letters_name(Span("t", 0, 1, 4))
    dead.parent.mkdir(parents=True)
    dead.touch()
    put(tmp_path, "incoming/others", 1000, 2000)
    assert chains(tmp_path) == {0: offsets.Chain(0, 29)}
    assert offsets.problems(chains(tmp_path), {0: 30}) == []
    assert offsets.problems(chains(tmp_path), {0: 20}) == [], "landed and not committed is landed again, not lost"


@pytest.mark.parametrize(
    ("ranges", "holes"),
    [
        ([(0, 9), (10, 19)], []),
        ([(0, 9), (0, 14), (5, 19)], []),
        ([(0, 9), (11, 19)], [(10, 10)]),
        ([(0, 99), (10, 19), (200, 209), (150, 160)], [(100, 149), (161, 199)]),
        ([(50, 59)], []),
    ],
)
def test_holes_are_what_no_range_covers(
    ranges: list[tuple[int, int]], holes: list[tuple[int, int]], tmp_path: Path
) -> None:
    for first, last in ranges:
        put(tmp_path, "incoming/things", first, last)
    assert [(hole.first, hole.last) for hole in chains(tmp_path)[0].holes] == holes
    assert len(offsets.problems(chains(tmp_path), {})) == len(holes)


def test_progress_keeps_how_far_the_files_go_and_only_those_ranges_that_are_not_committed(tmp_path: Path) -> None:
    for first in range(0, 1000, 10):
        put(tmp_path, "incoming/things", first, first + 9)
    put(tmp_path, "incoming/things", 980, 999)
    put(tmp_path, "incoming/things", 0, 4, partition=1)
    put(tmp_path, "incoming/things", 0, 4, partition=2)
    names = offsets.found(configured(tmp_path), "things")
    found = offsets.progress(names, "t", {0: 980, 1: None, 3: 7})
    assert found.reached == {0: 1000, 1: 5}, "nobody asked about 2, and 3 has no file"
    assert found.ends == {(0, 980): 989, (0, 990): 999, (1, 0): 4}


def test_an_offset_committed_beyond_what_has_landed_is_a_problem(tmp_path: Path) -> None:
    put(tmp_path, "incoming/things", 0, 9)
    assert offsets.problems(chains(tmp_path), {0: 12, 1: 3}) == [
        "partition 0: offset 12 is committed, but only 9 has landed",
        "partition 1: offset 3 is committed, but nothing has landed",
    ]


def test_a_loss_closes_the_chain_but_stays_a_problem_until_it_is_acknowledged(tmp_path: Path) -> None:
    put(tmp_path, "incoming/things", 0, 9)
    put(tmp_path, "incoming/things", 20, 29)
    folder = tmp_path / "dead_letters" / "things"
    records = [losses.record(folder, Span("t", 0, 10, 19), "group") for _ in range(2)]
    assert records[0] == records[1], "recording twice is one record"
    assert offsets.problems(chains(tmp_path), {}) == [
        "partition 0: offsets 10 to 19 were gone before they could be landed"
    ]
    records[0].rename(folder / records[0].name.replace("lost", "acknowledged"))
    assert offsets.problems(chains(tmp_path), {}) == []
