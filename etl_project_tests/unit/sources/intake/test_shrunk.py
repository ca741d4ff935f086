"""A file does not take more rows of its day away than the source allows, and never the only ones."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl_project.sources.intake import admit, archive, quarantine
from etl_project.sources.reading import judge
from etl_project.sources.reading.rows.row_settings import RowSettings
from etl_project.sources.spec import SourceColumn, SourceSpec

from ..world import DAY, World, lines, rows, spec

A, B = "a-2024-03-05.csv", "b-2024-03-05.csv"
HEADER = lines()


def outcomes(world: World, limit: float | None = 0.5) -> dict[str, str]:
    results = admit.receive_all(world.scan().waiting, world.spec, *world.roots, max_removed_ratio=limit)
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
    assert outcomes(world, None) == {A: "accepted"}


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


def test_a_file_that_was_cut_at_a_whole_line_does_not_get_into_the_archive(tmp_path: Path) -> None:
    world = filled(tmp_path, a=rows(360))
    for _ in range(2):
        world.drop(A, rows(100))
        assert outcomes(world) == {A: "refused"}
        assert world.accepted() == {A: rows(360)}
        [refused] = world.quarantined()
        assert refused.reason.found == f"100 rows, where {A} gave 2024-03-05 360 rows"
        assert "at most 50% of the day's rows less" in refused.reason.expected
        assert "etl drain --allow-shrink" in refused.reason.expected
        assert quarantine.open_days(world.quarantine, world.archive, world.spec) == {DAY}
    world.drop(A, rows(361))
    assert outcomes(world) == {A: "accepted"}
    assert quarantine.open_days(world.quarantine, world.archive, world.spec) == set()


def json_lines(count: int) -> bytes:
    return b"".join(b'{"id": %d, "amount": "1.50"}\n' % number for number in range(count))


def parquet_file(count: int) -> bytes:
    written = BytesIO()
    pq.write_table(pa.table({"id": range(count), "amount": ["1.50"] * count}), written)
    return written.getvalue()


def workbook(count: int) -> bytes:
    book = openpyxl.Workbook()
    for row in [["id", "amount"], *([number, 1.5] for number in range(count))]:
        book.active.append(row)  # type: ignore[union-attr]
    written = BytesIO()
    book.save(written)
    return written.getvalue()


def packed(count: int) -> bytes:
    return gzip.compress(b"id,amount\n" + b"".join(b"%d,1.50\n" % number for number in range(count)), mtime=0)


@pytest.mark.parametrize(
    ("form", "ending", "of"),
    [
        ("jsonl", "jsonl", json_lines),
        ("json", "json", json_lines),
        ("parquet", "parquet", parquet_file),
        ("xlsx", "xlsx", workbook),
        ("csv", "csv.gz", packed),
    ],
)
def test_rows_are_counted_in_every_format(tmp_path: Path, form: str, ending: str, of: Callable[[int], bytes]) -> None:
    columns = {"id": "id", "amount": "amount"}
    types = (SourceColumn("id", "INTEGER", nullable=False), SourceColumn("amount", "DECIMAL(8,2)"))
    world = World(tmp_path, spec(format=form, patterns=(f"*{{date}}.{ending}",), columns=columns, types=types))
    name = f"a-2024-03-05.{ending}"
    for count, outcome in ((10, "accepted"), (4, "refused"), (5, "accepted")):
        world.drop(name, of(count))
        assert outcomes(world) == {name: outcome}, count


@pytest.mark.parametrize(
    ("limit", "kept", "outcome"),
    [(0.5, 5, "accepted"), (0.5, 4, "refused"), (0.1, 8, "refused"), (1, 1, "accepted"), (1, 0, "refused"),
     (None, 1, "accepted")],
)  # fmt: skip
def test_the_limit_is_that_of_the_table(tmp_path: Path, limit: float | None, kept: int, outcome: str) -> None:
    world = filled(tmp_path, a=rows(10))
    world.drop(A, rows(kept) if kept else HEADER)
    assert outcomes(world, limit) == {A: outcome}


def test_what_counts_is_the_day_and_not_one_file_of_it(tmp_path: Path) -> None:
    world = filled(tmp_path, a=rows(10), b=rows(10, first=11))
    world.drop(A, rows(1))
    assert outcomes(world) == {A: "accepted"}, "11 of 20 rows are left"
    world.drop(B, rows(2, first=11))
    assert outcomes(world) == {B: "refused"}, "3 of 11"


def test_two_files_that_come_together_do_not_take_away_what_one_may(tmp_path: Path) -> None:
    world = filled(tmp_path, a=rows(10), b=rows(10, first=11))
    world.drop(A, rows(2))
    world.drop(B, rows(4, first=11))
    assert outcomes(world) == {A: "accepted", B: "refused"}, (
        "6 of the 20 of the day would be left, though half of the 12 after A"
    )


@pytest.mark.parametrize("first", [A, B])
def test_rows_that_moved_in_part_to_another_file_of_the_day_are_not_gone(tmp_path: Path, first: str) -> None:
    other = B if first == A else A
    world = filled(tmp_path, **{first[0]: rows(10), other[0]: rows(1, first=11)})
    world.drop(first, rows(2))
    world.drop(other, rows(5, first=11))
    assert outcomes(world) == {A: "accepted", B: "accepted"}, "7 of 11"


def test_a_newer_snapshot_of_the_day_is_compared_with_the_one_before_whatever_its_name(tmp_path: Path) -> None:
    world = filled(tmp_path, spec(files_per_day="latest"), a=rows(10))
    world.drop(B, rows(3))
    assert outcomes(world) == {B: "refused"}
    world.drop(B, rows(3))
    world.drop("c-2024-03-05.csv", rows(9))
    assert outcomes(world) == {B: "accepted", "c-2024-03-05.csv": "accepted"}, "the day is the last of them"


def test_an_older_export_that_comes_late_takes_nothing_away(tmp_path: Path) -> None:
    names = "s.2024-03-05T0700.csv", "s.2024-03-05T0600.csv"
    world = World(tmp_path, spec(patterns=("s.{date}T{time}.csv",)))
    for name, content in zip(names, (rows(10), rows(2)), strict=True):
        world.drop(name, content)
        assert outcomes(world) == {name: "accepted"}
    assert world.rows().num_rows == 10


def exports(root: Path) -> World:
    """A day of one file B, and of exports of which the one of the latest time counts, taken in at 7."""
    world = World(root, spec(patterns=("s.{date}T{time}.csv", "b-{date}.csv")))
    world.drop(B, rows(100, first=1000))
    world.drop("s.2024-03-05T0700.csv", rows(10))
    outcomes(world)
    return world


def test_an_older_export_brings_no_rows_that_another_file_could_take_away(tmp_path: Path) -> None:
    world = exports(tmp_path)
    world.drop("s.2024-03-05T0600.csv", rows(90))
    world.drop(B, rows(1, first=1000))
    assert outcomes(world) == {"s.2024-03-05T0600.csv": "accepted", B: "refused"}
    world.drop(B, rows(1, first=1000))
    world.drop("s.2024-03-05T0630.csv", rows(90))
    assert outcomes(world) == {"s.2024-03-05T0630.csv": "accepted", B: "refused"}, "nor where it comes after"


def test_of_several_exports_that_come_only_the_last_one_brings_its_rows(tmp_path: Path) -> None:
    world = exports(tmp_path)
    world.drop(B, rows(1, first=1000))
    for minute in range(4):
        world.drop(f"s.2024-03-05T080{minute}.csv", rows(40 + minute))
    assert outcomes(world)[B] == "refused", "44 of 110, though the four have 166"


def test_a_file_that_will_be_a_duplicate_brings_no_rows(tmp_path: Path) -> None:
    world = filled(tmp_path, a=rows(100), b=rows(60, first=200))
    world.drop(A, rows(1))
    world.drop("c-2024-03-05.csv", rows(60, first=200))
    assert outcomes(world) == {A: "refused", "c-2024-03-05.csv": "duplicate"}


@pytest.mark.parametrize("copies", [("c",), ("c", "d")])
def test_a_short_file_that_comes_under_several_names_brings_its_rows_once(
    tmp_path: Path, copies: tuple[str, ...]
) -> None:
    world = filled(tmp_path, a=rows(100), b=rows(10, first=200))
    world.drop(B, rows(11, first=200))
    world.drop(A, rows(26, first=500))
    for copy in copies:
        world.drop(f"{copy}-2024-03-05.csv", rows(26, first=500))
    assert outcomes(world)[A] == "refused"


def test_a_copy_of_a_file_that_has_just_been_taken_in_brings_no_rows(tmp_path: Path) -> None:
    world = filled(tmp_path, a=rows(10), c=rows(40, first=300))
    world.drop("c-2024-03-05.csv", rows(20, first=100))
    world.drop(A, rows(1, first=300))
    world.drop(B, rows(20, first=100))
    assert outcomes(world) == {"c-2024-03-05.csv": "accepted", A: "refused", B: "duplicate"}, "21 of 50"


def test_files_that_all_change_their_names_take_nothing_away(tmp_path: Path) -> None:
    world = filled(tmp_path, a=rows(100), b=rows(60, first=200))
    world.drop(A, rows(1, first=500))
    world.drop(B, rows(100))
    world.drop("c-2024-03-05.csv", rows(60, first=200))
    assert set(outcomes(world).values()) == {"accepted"}


def test_files_of_a_day_are_each_counted_a_few_times_however_many_are_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, parts = World(tmp_path), 30
    for count in (10, 3):
        calls: list[object] = []
        for name in ("count_rows", "read_file"):
            monkeypatch.setattr(judge, name, counting_calls(getattr(judge, name), calls))
        for part in range(parts):
            world.drop(f"{part:02d}-2024-03-05.csv", rows(count, first=100 * part))
        found = outcomes(world)
    assert 0 < list(found.values()).count("refused") < parts
    assert len(calls) < 5 * parts


def counting_calls(function: Callable[..., Any], calls: list[object]) -> Callable[..., Any]:
    def called(*given: Any, **named: Any) -> Any:
        calls.append(function)
        return function(*given, **named)

    return called


def test_rejects_are_records_that_came_and_alone_they_are_no_day(tmp_path: Path) -> None:
    bad = [f"{number},none,2024-03-05 10:00:00,x" for number in range(6)]
    good = "9,1.50,2024-03-05 10:00:00,y"
    world = filled(tmp_path, spec(max_rejected_ratio=1.0), a=lines(*bad, good))
    world.drop(A, lines(*bad, good.replace("y", "z")))
    assert outcomes(world) == {A: "accepted"}, "seven records, as before"
    world.drop(A, lines(*bad))
    assert outcomes(world) == {A: "refused"}, "nothing of the day is left"


def test_short_files_that_were_released_together_are_all_taken_in_once(tmp_path: Path) -> None:
    world = filled(tmp_path, a=rows(10), b=rows(10, first=11))
    for _ in range(2):
        world.drop(A, rows(1))
        world.drop(B, rows(1, first=11))
        assert outcomes(world, 0.1) == {A: "refused", B: "refused"}
        for refused in world.quarantined():
            os.utime(quarantine.release(world.quarantine, refused.reason.key, world.incoming), (1, 1))
        assert outcomes(world, 0.1) == {A: "accepted", B: "accepted"}
        assert world.quarantined() == []
        world.drop(A, rows(10))
        world.drop(B, rows(10, first=11))
        assert outcomes(world, 0.1) == {A: "accepted", B: "accepted"}


def test_a_drain_that_allows_it_and_was_killed_leaves_a_released_file_meant(tmp_path: Path) -> None:
    world = filled(tmp_path, a=rows(10))
    world.drop(A, rows(1))
    assert outcomes(world) == {A: "refused"}
    [refused] = world.quarantined()
    os.utime(quarantine.release(world.quarantine, refused.reason.key, world.incoming), (1, 1))
    with pytest.MonkeyPatch.context() as patch, pytest.raises(RuntimeError, match="killed"):
        patch.setattr(archive.Day, "accept", killed)
        outcomes(world, None)
    assert outcomes(world) == {A: "accepted"}, "the sensor that comes next asks nobody again"


def killed(*_: object) -> None:
    raise RuntimeError("killed")


SOURCES = {
    "every name": (spec(), tuple(f"{letter}-2024-03-05.csv" for letter in "abc")),
    "the newest": (spec(files_per_day="latest"), tuple(f"{letter}-2024-03-05.csv" for letter in "abc")),
    "the latest time": (
        spec(patterns=("a.{date}T{time}.csv", "b.{date}T{time}.csv", "c-{date}.csv")),
        ("c-2024-03-05.csv", *(f"{letter}.2024-03-05T0{hour}00.csv" for letter in "ab" for hour in range(3))),
    ),
}
CONTENTS = st.builds(rows, st.sampled_from((0, 1, 3, 10, 20, 40)), st.sampled_from((1, 100, 200)))


@given(st.sampled_from([*SOURCES]), st.data())
def test_whatever_comes_together_a_day_keeps_half_of_its_rows(kind: str, data: st.DataObject) -> None:
    source, names = SOURCES[kind]
    with TemporaryDirectory() as folder:
        world = World(Path(folder), source)
        for _ in range(3):
            sent = data.draw(st.dictionaries(st.sampled_from(names), CONTENTS, min_size=1, max_size=4))
            for name, content in sent.items():
                world.drop(name, content)
            before = world.rows().num_rows
            outcomes(world)
            assert world.rows().num_rows >= before / 2
            assert world.rows().num_rows or not before
