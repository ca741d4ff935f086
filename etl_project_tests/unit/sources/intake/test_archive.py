"""The archive: which version counts, and the hash of a day's input."""

from __future__ import annotations

import os
from datetime import date
from pathlib import Path

import pytest

from etl_project import atomic
from etl_project.sources.intake import archive
from etl_project.sources.intake.archive import Accepted
from etl_project.sources.spec import SourceSpec
from etl_project_tests.unit.sources.world import DAY, SPEC, spec

LATEST = spec(files_per_day="latest")


def accept(root: Path, name: str, sha256: str, day: date = DAY) -> Accepted:
    atomic.make_folder(root / SPEC.name)
    copy = root / SPEC.name / ".etl-copy.tmp"
    copy.write_bytes(sha256.encode())
    return archive.Day(root, SPEC, day).accept(name, copy, sha256 * 64)


def test_the_layout_is_source_day_name_sequence_and_hash(tmp_path: Path) -> None:
    version = accept(tmp_path, "b.csv", "f")
    assert version.path == tmp_path / "sales" / "2024-03-05" / "b.csv" / f"000001-{'f' * 64}"
    assert archive.accepted(tmp_path, SPEC, DAY) == (version,)


def test_what_a_kill_left_of_an_encodings_record_goes_with_the_next_file_of_the_name(tmp_path: Path) -> None:
    kept = archive.Day(tmp_path, SPEC, DAY)
    kept_copy = tmp_path / SPEC.name / ".etl-copy.tmp"
    atomic.make_folder(kept_copy.parent)
    for sequence, left in ((1, ""), (2, f"000002-{'9' * 64}.encoding"), (3, ".etl-0123.tmp")):
        kept_copy.write_bytes(b"")
        version = kept.accept("b.csv", kept_copy, str(sequence) * 64, encoding="{}")
        if left:
            (version.path.parent / left).touch()
    kept_copy.write_bytes(b"")
    kept.accept("b.csv", kept_copy, "4" * 64, encoding="{}")
    names = [path.name for path in sorted((tmp_path / SPEC.name / DAY.isoformat() / "b.csv").iterdir())]
    assert names == [f"00000{n}-{str(n) * 64}{end}" for n in range(1, 5) for end in ("", ".encoding")]


def test_a_day_without_files_has_no_versions_and_a_well_defined_hash(tmp_path: Path) -> None:
    assert archive.accepted(tmp_path, SPEC, DAY) == ()
    assert archive.accepted_days(tmp_path, SPEC) == {}
    assert archive.fingerprint(()) == "4f53cda18c2baa0c0354bb5f9a3ecbe5ed12ab4d8e11ba873c2f11161202b945"


def test_the_highest_sequence_of_a_name_counts(tmp_path: Path) -> None:
    for name, sha256 in (("b.csv", "1"), ("a.csv", "2"), ("b.csv", "3"), ("b.csv", "1")):
        accept(tmp_path, name, sha256)
    assert [(v.name, v.sequence, v.sha256[0]) for v in archive.accepted(tmp_path, SPEC, DAY)] == [
        ("a.csv", 2, "2"),
        ("b.csv", 4, "1"),
    ]


def test_the_highest_sequence_of_the_day_is_the_day_where_one_file_is(tmp_path: Path) -> None:
    for name, sha256 in (("b.csv", "1"), ("c.csv", "2"), ("a.csv", "3")):
        accept(tmp_path, name, sha256)
    assert [v.name for v in archive.accepted(tmp_path, LATEST, DAY)] == ["a.csv"]


@pytest.mark.parametrize("source", [SPEC, LATEST])
def test_a_day_kept_in_memory_knows_what_the_folders_know(tmp_path: Path, source: SourceSpec) -> None:
    atomic.make_folder(tmp_path / source.name)
    kept = archive.Day(tmp_path, source, DAY)
    for name, sha256 in (("b", "1"), ("a", "2"), ("b", "3"), ("b", "1"), ("c", "4"), ("a", "5")):
        copy = tmp_path / source.name / ".etl-copy.tmp"
        copy.write_bytes(b"")
        kept.accept(name, copy, sha256 * 64)
        read_anew = archive.Day(tmp_path, source, DAY)
        assert vars(kept) == vars(read_anew)
        counting = {version.sha256[0] for version in archive.accepted(tmp_path, source, DAY)}
        assert {one for one in "12345" if kept.holding(one * 64)} == counting


def test_sequences_pass_a_million(tmp_path: Path) -> None:
    accept(tmp_path, "a.csv", "1")
    first = tmp_path / "sales" / "2024-03-05" / "a.csv" / f"000001-{'1' * 64}"
    first.rename(first.with_name(f"999999-{'1' * 64}"))
    assert accept(tmp_path, "a.csv", "2").sequence == 1_000_000
    assert [v.sequence for v in archive.accepted(tmp_path, SPEC, DAY)] == [1_000_000]


def test_all_days_come_in_one_pass_and_equal_the_days_one_by_one(tmp_path: Path) -> None:
    days = [date(2024, 3, number) for number in (9, 5, 7)]
    for day in days:
        accept(tmp_path, "a.csv", "1", day)
        accept(tmp_path, "x/b.csv", "2", day)
    found = archive.accepted_days(tmp_path, SPEC)
    assert list(found) == sorted(days)
    assert found == {day: archive.accepted(tmp_path, SPEC, day) for day in days}


def test_a_look_at_some_days_opens_no_folder_of_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    days = [date(2024, 3, number) for number in (4, 5, 6, 7)]
    for day in days:
        accept(tmp_path, "a.csv", "1", day)
    opened: list[str] = []
    listing = archive._listing
    monkeypatch.setattr(archive, "_listing", lambda folder: opened.append(folder) or listing(folder))  # type: ignore[func-returns-value]
    assert list(archive.accepted_days(tmp_path, SPEC, (days[1], days[2]))) == days[1:3]
    assert {day for day in days if any(str(day) in folder for folder in opened)} == {*days[1:3]}


def test_names_are_in_the_order_of_their_bytes_and_nested_ones_are_apart(tmp_path: Path) -> None:
    odd = [
        os.fsdecode(name) for name in (b"Z.csv", b"a/b.csv", b"a", "é.csv".encode(), b"\xff.csv", b"n\nl", b"x" * 255)
    ]
    for name in odd:
        accept(tmp_path, name, "1")
    found = [os.fsencode(version.name) for version in archive.accepted(tmp_path, SPEC, DAY)]
    assert found == sorted(os.fsencode(name) for name in odd)


def test_the_hash_depends_on_names_and_contents_and_not_on_sequences() -> None:
    def version(name: str, sequence: int, sha256: str) -> Accepted:
        return Accepted(name, sequence, sha256, "anywhere")

    one = archive.fingerprint([version("a", 1, "x"), version("b", 2, "y")])
    assert archive.fingerprint([version("b", 7, "y"), version("a", 9, "x")]) == one
    assert archive.fingerprint([version("a", 1, "y"), version("b", 2, "x")]) != one
    assert archive.fingerprint([version("a", 1, "x")]) != one
    assert archive.fingerprint([version(os.fsdecode(b"\xff"), 1, "x")]) != archive.fingerprint([version("ÿ", 1, "x")])


@pytest.mark.parametrize("stray", [".etl-1.tmp", "notes.txt", "000001-short"])
def test_what_is_no_version_is_not_there(tmp_path: Path, stray: str) -> None:
    accept(tmp_path, "a.csv", "1")
    (tmp_path / "sales" / "2024-03-05" / "a.csv" / stray).write_text("x")
    (tmp_path / "sales" / stray).write_text("x")
    (tmp_path / "sales" / "2024-03-05" / stray).write_text("x")
    assert [version.sequence for version in archive.accepted(tmp_path, SPEC, DAY)] == [1]
    assert list(archive.accepted_days(tmp_path, SPEC)) == [DAY]
