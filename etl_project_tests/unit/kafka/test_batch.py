"""A batch becomes files: by day, dead letters apart, each as a whole or not at all."""

from __future__ import annotations

import json
import os
from datetime import date
from pathlib import Path

import pytest

from etl_project.kafka import batch
from etl_project.kafka import format as landed
from etl_project.kafka.batch import File, PartitionBatch
from etl_project.kafka.decode import MessageReader
from etl_project.kafka.format import Span
from etl_project_tests.kafka_broker import DAY_MS, FIRST_MS, subscription, things


def filled(first: int = 5, longest_row: int = 10_000) -> PartitionBatch:
    """Offsets 7, 8, 12: two days and a dead one, after a beginning at `first`."""
    one = PartitionBatch("t", 0, first, MessageReader(subscription("t"), lambda: date(2025, 4, 1)), longest_row)
    for offset, value, day in ((7, things(1, 1)[0], 0), (8, b"poison", 0), (12, things(2, 1)[0], 1)):
        one.add(offset, FIRST_MS + day * DAY_MS, None, (), value)
    return one


def test_a_batch_without_a_message_has_no_files() -> None:
    one = PartitionBatch("t", 0, 5, MessageReader(subscription("t"), lambda: date(2025, 4, 1)), 100)
    assert (one.span, one.files(Path("i"), Path("d"))) == (None, [])


def test_all_files_of_a_batch_carry_its_range_from_its_beginning() -> None:
    files = filled().files(Path("in"), Path("dead"))
    suffix = "t_0_00000000000000000005-00000000000000000012.jsonl"
    assert [str(file.path) for file in files] == [
        f"dead/undated_{suffix}",
        f"in/2025-03-10_{suffix}",
        f"in/2025-03-11_{suffix}",
    ]
    assert [len(file.lines) for file in files] == [1, 1, 1]


def test_a_message_that_was_taken_already_is_passed_over() -> None:
    one = filled()
    one.add(12, FIRST_MS, None, (), things(2, 1)[0])
    one.add(3, FIRST_MS, None, (), things(2, 1)[0])
    assert (one.messages, one.dead, one.next_offset) == (3, 1, 13)
    assert one.span == Span("t", 0, 5, 12)


def test_a_row_longer_than_a_line_may_be_is_dead_as_a_whole_message() -> None:
    one = filled(longest_row=100)
    assert one.dead == 3
    letter = json.loads(one.files(Path("i"), Path("d"))[0].lines[0])
    assert letter["reason"].startswith("oversized: a row of ")


def test_headers_that_cannot_be_read_make_a_dead_letter_of_an_otherwise_good_message() -> None:
    one = filled()
    one.add(13, FIRST_MS, b"k", None, things(3, 1)[0])
    letter = json.loads(one.files(Path("i"), Path("d"))[0].lines[-1])
    assert letter["reason"].startswith("the name of a header is not UTF-8")
    assert (letter["kafka_key_base64"], letter["kafka_headers_base64"]) == ("aw==", [])


def test_writing_twice_leaves_the_same_files_and_nothing_beside_them(tmp_path: Path) -> None:
    files = filled().files(tmp_path / "in", tmp_path / "dead")
    for _ in range(2):
        batch.write(files)
    found = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert found == {file.path: b"".join(file.lines) for file in files}


def test_what_no_message_stands_in_is_covered_up_to_where_the_batch_ended_before() -> None:
    one = PartitionBatch("t", 0, 5, MessageReader(subscription("t"), lambda: date(2025, 4, 1)), 100, until=20)
    one.reach(5)
    assert one.span is None
    one.add(5, FIRST_MS, b"k", (), things(0, 1)[0])
    for position, last in ((3, 5), (9, 8), (30, 20)):
        one.reach(position)
        assert one.span == Span("t", 0, 5, last)


def empty(first: int, last: int) -> PartitionBatch:
    one = PartitionBatch("t", 0, first, MessageReader(subscription("t"), lambda: date(2025, 4, 1)), 100)
    one.reach(last + 1)
    return one


def test_offsets_without_a_message_are_on_record_and_neighbours_become_one_record(tmp_path: Path) -> None:
    for first, last in ((5, 8), (9, 9), (10, 30), (40, 41)):
        batch.write(empty(first, last).files(tmp_path / "in", tmp_path / "dead"))
        batch.write(empty(first, last).files(tmp_path / "in", tmp_path / "dead"))
    records = [path.name for path in sorted((tmp_path / "dead").glob("*.json"))]
    assert [str(landed.parse(name)) for name in records] == [
        str(landed.Named("nothing", Span("t", 0, first, last))) for first, last in ((5, 30), (40, 41))
    ]
    assert not (tmp_path / "in").exists()


def test_a_dropped_tombstone_is_counted_and_its_offset_covered(tmp_path: Path) -> None:
    one = PartitionBatch("t", 0, 5, MessageReader(subscription("t", tombstones="drop"), lambda: date(2025, 4, 1)), 100)
    one.add(5, FIRST_MS, b"k", (), None)
    one.add(6, FIRST_MS, b"k", (), b"null")
    assert (one.messages, one.rows, one.dead, one.dropped) == (2, 0, 0, 2)
    batch.write(one.files(tmp_path, tmp_path))
    (record,) = tmp_path.glob("*.json")
    assert landed.parse(record.name) == landed.Named("nothing", Span("t", 0, 5, 6))
    one.add(7, FIRST_MS, b"k", (), things(7, 1)[0])
    (file,) = one.files(tmp_path, tmp_path)
    assert (one.span, len(file.lines)) == (Span("t", 0, 5, 7), 1)


@pytest.mark.parametrize("step", ["kafka.before_write", "kafka.between_renames", "kafka.after_rename"])
def test_a_full_disk_at_any_step_leaves_whole_files_or_none(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = filled().files(tmp_path / "in", tmp_path / "dead")
    monkeypatch.setenv("ETL_FAULT", f"{step}=full")
    monkeypatch.setattr("etl_project.faults._reached", iter(range(1, 10)))
    with pytest.raises(batch.CannotWrite, match=r"No space left.*free some space"):
        batch.write(files)
    monkeypatch.delenv("ETL_FAULT")
    wanted = {file.path: b"".join(file.lines) for file in files}
    left = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert left.items() <= wanted.items(), "no half file, no temporary one"
    batch.write(files)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == wanted


def test_a_sweep_takes_what_is_old_and_leaves_what_may_be_somebody_elses_work(tmp_path: Path) -> None:
    staging = tmp_path / batch.STAGING
    staging.mkdir()
    for name, age in (("old", 1_600_000_000), ("young", None)):
        (staging / name).touch()
        if age:
            os.utime(staging / name, (age, age))
    batch.sweep([tmp_path, tmp_path / "not there"])
    assert [path.name for path in staging.iterdir()] == ["young"]


def test_what_is_being_written_is_hidden_from_every_scan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Path] = []
    monkeypatch.setattr(batch.os, "rename", lambda old, new: seen.append(Path(old)))
    batch.write([File(tmp_path / "in" / "a.jsonl", [b"{}\n"])])
    assert seen[0].relative_to(tmp_path / "in").parts[0].startswith(".")
