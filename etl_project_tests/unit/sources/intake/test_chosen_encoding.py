"""The encoding that was chosen for a file when it was accepted is the one in which it is read for good."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import pytest

from etl_project.sources import day_reader
from etl_project.sources.intake import admit, archive, scan, spread
from etl_project.sources.reading import encodings, judge
from etl_project.sources.reading.file_refused import FileRefused
from etl_project.sources.spec import SourceSpec
from etl_project_tests.unit.sources.world import DAY, NOW, World, lines, spec

A, B = "a-2024-03-05.csv", "b-2024-03-05.csv"
EURO = lines("1,1,,5 €").decode().encode("cp1252")
LIST: dict[str, Any] = {"encoding": "latin-1", "other_encodings": ("cp1252",)}


def notes(world: World, source: SourceSpec | None = None) -> list[str]:
    """What a rebuild of the day reads."""
    found = archive.accepted(world.archive, world.spec, DAY)
    read = (judge.read(one.path, source or world.spec, one.name, DAY, accepted=True) for one in found)
    return [row["note"] for batches in read for batch in batches for row in batch.rows.to_pylist()]


@pytest.fixture
def other_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    """A version of the code to which the first encoding of any list is good enough."""
    monkeypatch.setattr(encodings, "_misfit", lambda *_: None)


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path, spec(**LIST))
    made.drop(A, EURO)
    made.receive()
    return made


@pytest.mark.usefixtures("other_rules")
def test_without_a_record_other_rules_would_read_other_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = World(tmp_path, spec(encoding="cp1252"))
    made.drop(A, EURO)
    made.receive()
    assert not list(tmp_path.rglob("*.encoding")), "where nothing is chosen nothing is recorded"
    assert notes(made) == ["5 €"] and notes(made, spec(**LIST)) == ["5 \x80"]


def test_a_rebuild_by_other_rules_reads_the_rows_that_were_accepted(
    world: World, request: pytest.FixtureRequest
) -> None:
    world.drop(A, EURO)
    assert world.outcomes() == {A: "identical"}
    world.drop(A, EURO + b"2,1,,x\n")
    world.drop(B, lines("3,1,,é").decode().encode("latin-1"))
    assert world.outcomes() == {A: "accepted", B: "accepted"}, "a lot of two"
    before = notes(world)
    assert before == ["5 €", "x", "é"]
    request.getfixturevalue("other_rules")
    assert notes(world) == before


def test_the_record_holds_until_something_comes_before_what_was_chosen(world: World, other_rules: None) -> None:
    def read_with(*names: str, **more: Any) -> list[str]:
        return notes(world, spec(encoding=names[0], other_encodings=names[1:], **more))

    assert read_with("latin-1", "cp1252", "cp437") == ["5 €"]
    assert read_with("cp1252", "latin-1") == ["5 €"]
    assert read_with("iso-8859-2", "cp1252") == ["5 \x80"], "what is declared first now was not there then"
    assert read_with("cp850", "utf-8") == ["5 Ç"], "what was chosen is declared no more"


@pytest.mark.parametrize(
    "said", ["", '{"declared": ["latin-1", "cp1252"]', "null", '{"chosen": {"": "latin-1"}}', "\udcff"]
)
def test_a_damaged_record_is_named_and_nothing_is_chosen_in_its_place(world: World, said: str) -> None:
    [record] = world.archive.rglob("*.encoding")
    record.write_bytes(said.encode("utf-8", "surrogateescape"))
    for _ in range(2):
        with pytest.raises(FileRefused, match=f"{record.name}.*remove it to have the encoding chosen anew"):
            notes(world)
    record.unlink()
    assert notes(world) == ["5 €"]


def test_each_member_of_an_archive_keeps_its_own(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as file:
        file.writestr("1.csv", EURO)
        file.writestr("2.csv", lines("2,1,,é").decode().encode("latin-1"))
    made = World(tmp_path, spec(patterns=("*{date}*.zip",), **LIST))
    made.drop("a-2024-03-05.zip", packed.getvalue())
    made.receive()
    assert notes(made) == ["5 €", "é"]
    request.getfixturevalue("other_rules")
    assert notes(made) == ["5 €", "é"]


def test_a_file_of_many_days_keeps_it_under_each_of_them_and_in_a_copy(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    source = spec(patterns=("*.csv",), day_from="sold_at", time_zone="UTC", **LIST)
    made = World(tmp_path / "real", source)
    made.drop("all.csv", lines("1,1,2024-03-05 10:00:00,5 €", "2,1,2024-03-06 10:00:00,6 €").decode().encode("cp1252"))
    found = scan.scan(made.folder, source, NOW)
    [one] = admit.receive_all_of_many_days(found.many_days, source, *made.roots)
    assert (one.outcome, len(one.days)) == ("accepted", 2)
    copied = tmp_path / "copy"
    for day in one.days:
        spread.copied(made.archive, copied / "archive", source.name, day.isoformat())
    request.getfixturevalue("other_rules")
    for root in (tmp_path / "real", copied):
        there = archive.accepted_days(root / "archive", source)
        with day_reader.DayReader(source, there, root) as reader:
            read = [row["note"] for day in there for batch in reader.day(day) for row in batch.rows.to_pylist()]
        assert read == ["5 €", "6 €"]
