"""Files without a day in their name: every day that they hold is theirs, whatever comes in whatever order."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl_project.failures import EtlError
from etl_project.sources import day_reader
from etl_project.sources.intake import admit, archive, quarantine, scan, spread
from etl_project.sources.intake.outcome import Received
from etl_project.sources.reading import judge
from etl_project.sources.reading.rows.row_settings import RowSettings
from etl_project.sources.spec import SourceColumn, SourceSpec, SpecError
from etl_project_tests.unit.sources.world import NOW, World

HEADER = "id,day,note\n"
FIRST, SECOND, THIRD = (date(2024, 3, day) for day in (1, 2, 3))
SPEC = SourceSpec(
    name="sales",
    patterns=("*.csv",),
    columns={"id": "id", "day": "sold_on", "note": "note"},
    types=(
        SourceColumn("id", "INTEGER", nullable=False),
        SourceColumn("sold_on", "DATE"),
        SourceColumn("note", "VARCHAR"),
    ),
    start_date=date(2024, 1, 1),
    day_from="sold_on",
    max_rejected_ratio=0.9,
)


def spec(**changes: Any) -> SourceSpec:
    fields = {name: getattr(SPEC, name) for name in SPEC.__dataclass_fields__ if SPEC.__dataclass_fields__[name].init}
    return SourceSpec(**{**fields, **changes})


def text(*rows: str) -> bytes:
    return (HEADER + "".join(f"{row}\n" for row in rows)).encode()


def receive(world: World) -> list[Received]:
    found = scan.scan(world.folder, world.spec, NOW)
    return list(admit.receive_all_of_many_days(found.many_days, world.spec, *world.roots))


def sent(world: World, name: str, *rows: str) -> Received:
    world.drop(name, text(*rows))
    [one] = receive(world)
    return one


def batches(world: World, days: list[date] | None = None) -> dict[date, list[judge.Batch]]:
    """What a run over these days reads, by day."""
    there = archive.accepted_days(world.archive, world.spec)
    wanted = {day: there[day] for day in there if days is None or day in days}
    with day_reader.DayReader(world.spec, wanted, world.root) as reader:
        return {day: list(reader.day(day)) for day in wanted}


def ids(world: World) -> dict[date, list[int]]:
    """The rows of each day, by their number."""
    found = {
        day: sorted(row for batch in each for row in batch.rows["id"].to_pylist())
        for day, each in batches(world).items()
    }
    for day, rows in found.items():  # One day alone is read in another way.
        [each] = batches(world, [day]).values()
        assert sorted(row for batch in each for row in batch.rows["id"].to_pylist()) == rows
        assert {value for batch in each for value in batch.rows["batch_date"].to_pylist()} <= {day}
    return {day: rows for day, rows in found.items() if rows}


def reasons(world: World) -> dict[date, list[str]]:
    found = {
        day: [why for batch in each for why in batch.rejects["reason"].to_pylist()]
        for day, each in batches(world).items()
    }
    return {day: why for day, why in found.items() if why}


def test_every_day_that_a_file_holds_gets_its_rows(tmp_path: Path) -> None:
    world = World(tmp_path, SPEC)
    one = sent(world, "export.csv", "1,2024-03-01,", "2,2024-03-03,", "3,2024-03-01,")
    assert (one.outcome, one.rows, one.days) == ("accepted", 3, (FIRST, THIRD))
    assert ids(world) == {FIRST: [1, 3], THIRD: [2]}
    assert not [path for path in world.folder.rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    ("files_per_day", "expected"),
    [
        ("many", {FIRST: [1], SECOND: [3], THIRD: [4]}),
        ("latest", {FIRST: [1], SECOND: [3], THIRD: [4]}),
        ("every", {FIRST: [1], SECOND: [2, 3], THIRD: [4]}),
    ],
)
def test_a_file_that_comes_again_under_its_name(
    tmp_path: Path, files_per_day: str, expected: dict[date, list[int]]
) -> None:
    world = World(tmp_path, spec(files_per_day=files_per_day))
    sent(world, "export.csv", "1,2024-03-01,", "2,2024-03-02,")
    assert sent(world, "export.csv", "3,2024-03-02,", "4,2024-03-03,").outcome == "accepted"
    assert ids(world) == expected, "what it does not hold stays as it is"


@pytest.mark.parametrize("files_per_day", ["many", "latest"])
def test_a_day_that_a_corrected_file_holds_no_more_has_no_rows(tmp_path: Path, files_per_day: str) -> None:
    world = World(tmp_path, spec(files_per_day=files_per_day))
    whole = ("1,2024-03-01,", "2,2024-03-02,", "3,2024-03-03,")
    sent(world, "export.csv", *whole)
    assert sent(world, "export.csv", whole[0], whole[2]).days == (FIRST, SECOND, THIRD)
    assert ids(world) == {FIRST: [1], THIRD: [3]}
    before = world.state()
    assert sent(world, "export.csv", whole[0], whole[2]).outcome == "identical"
    assert world.state() == before
    sent(world, "export.csv", whole[0])
    assert ids(world) == {FIRST: [1]}
    sent(world, "export.csv", *whole)
    assert ids(world) == {FIRST: [1], SECOND: [2], THIRD: [3]}


def test_days_that_a_file_no_longer_holds_are_the_rows_of_other_files(tmp_path: Path) -> None:
    world = World(tmp_path, SPEC)
    sent(world, "a.csv", "1,2024-03-01,", "2,2024-03-02,", "3,2024-03-03,")
    sent(world, "b.csv", "4,2024-03-02,")
    sent(world, "a.csv", "1,2024-03-01,", "3,2024-03-03,")
    assert ids(world) == {FIRST: [1], SECOND: [4], THIRD: [3]}


@pytest.mark.parametrize("files_per_day", ["many", "latest"])
def test_a_window_that_moved_on_earlier_may_be_corrected(tmp_path: Path, files_per_day: str) -> None:
    """Days that the file before it held no more are no news: only what it lacks itself is asked about, or goes."""
    world = World(tmp_path, spec(files_per_day=files_per_day))
    sent(world, "export.csv", "1,2024-03-01,", "2,2024-03-02,")
    window = ("2,2024-03-02,", "3,2024-03-03,", "4,2024-03-04,")
    sent(world, "export.csv", *window)
    assert sent(world, "export.csv", *window, "5,2024-03-04,").outcome == "accepted"
    assert sent(world, "export.csv", window[0], window[2]).outcome == "accepted"
    assert ids(world) == {FIRST: [1], SECOND: [2], date(2024, 3, 4): [4]}
    assert sent(world, "export.csv", window[2]).outcome == "refused"


@pytest.mark.parametrize("left_out", [None, "remove"])
def test_a_day_that_another_file_is_by_now_is_left_to_it(tmp_path: Path, left_out: str | None) -> None:
    world = World(tmp_path, spec(files_per_day="latest", days_left_out=left_out))
    sent(world, "a.csv", "1,2024-03-01,", "2,2024-03-02,")
    sent(world, "b.csv", "3,2024-03-02,")
    assert sent(world, "a.csv", "4,2024-03-01,").outcome == "accepted"
    assert ids(world) == {FIRST: [4], SECOND: [3]}


def test_a_first_day_that_is_gone_is_asked_about_and_the_answer_counts(tmp_path: Path) -> None:
    for rows in (["2,2024-03-02,"], []):
        for answer, expected in (("keep", {FIRST: [1]}), ("remove", {})):
            world = World(tmp_path / f"{len(rows)}{answer}", SPEC)
            sent(world, "export.csv", "1,2024-03-01,", "2,2024-03-02,")
            one = sent(world, "export.csv", *rows)
            assert one.outcome == "refused" and one.reason is not None
            assert "no row of 2024-03-01" in one.reason and "days_left_out: remove" in one.reason
            assert ids(world) == {FIRST: [1], SECOND: [2]}
            world.spec = spec(days_left_out=answer)
            assert sent(world, "export.csv", *rows).outcome == "accepted"
            second = {SECOND: [2]} if rows or answer == "keep" else {}
            assert ids(world) == expected | second


def test_a_name_with_a_date_is_one_export_whatever_day_is_gone_from_it(tmp_path: Path) -> None:
    for pattern in ("export_{date}.csv", "export_{date}T{time}.csv"):
        world = World(tmp_path / str(len(pattern)), spec(patterns=(pattern,)))
        name = "export_2024-03-05.csv" if "{time}" not in pattern else "export_2024-03-05T0600.csv"
        sent(world, name, "1,2024-03-01,", "2,2024-03-02,")
        sent(world, name.replace("0600", "0700"), "2,2024-03-02,")
        assert ids(world) == {SECOND: [2]}
        if "{time}" in pattern:
            sent(world, name.replace("0600", "0500"), "9,2024-03-02,")
            assert ids(world) == {SECOND: [2]}, "an older export takes nothing away"


@pytest.mark.parametrize(("files_per_day", "second"), [("many", [2, 3]), ("latest", [3]), ("every", [2, 3])])
def test_another_file_adds_to_a_day_or_is_the_day(tmp_path: Path, files_per_day: str, second: list[int]) -> None:
    world = World(tmp_path, spec(files_per_day=files_per_day))
    sent(world, "a.csv", "1,2024-03-01,", "2,2024-03-02,")
    sent(world, "b.csv", "3,2024-03-02,")
    assert ids(world) == {FIRST: [1], SECOND: second}


def test_a_file_that_its_sender_was_not_done_with_is_itself_again(tmp_path: Path) -> None:
    world = World(tmp_path, spec(files_per_day="every"))
    sent(world, "export.csv", "1,2024-03-01,")
    sent(world, "export.csv", "1,2024-03-01,", "2,2024-03-02,")
    assert ids(world) == {FIRST: [1], SECOND: [2]}, "not twice, although every file adds its rows"


def test_a_file_that_grew_under_another_name_is_itself_again(tmp_path: Path) -> None:
    for files_per_day in ("many", "every"):
        world = World(tmp_path / files_per_day, spec(files_per_day=files_per_day, quiet_seconds=60.0))
        sent(world, "half.csv", "1,2024-03-01,")
        path = world.folder / "half.csv"
        with path.open("ab") as file:
            file.write(b"2,2024-03-02,\n")
        os.utime(path.rename(world.folder / "whole.csv"), (1_700_000_100, 1_700_000_100))
        receive(world)
        assert ids(world) == {FIRST: [1], SECOND: [2]}


def test_the_same_content_again_changes_nothing_and_under_another_name_is_refused(tmp_path: Path) -> None:
    for files_per_day in ("many", "latest", "every"):
        world = World(tmp_path / files_per_day, spec(files_per_day=files_per_day))
        sent(world, "a.csv", "1,2024-03-01,")
        before = world.state()
        assert sent(world, "a.csv", "1,2024-03-01,").outcome == "identical"
        assert world.state() == before
        assert sent(world, "b.csv", "1,2024-03-01,").outcome == "duplicate"
        assert ids(world) == {FIRST: [1]}


def test_a_file_may_come_back_after_another_one(tmp_path: Path) -> None:
    world = World(tmp_path, spec(files_per_day="latest"))
    for number in (1, 2, 1):
        sent(world, f"{number}.csv", f"{number},2024-03-01,")
        assert ids(world) == {FIRST: [number]}


def test_a_date_in_the_name_says_which_file_is_newer(tmp_path: Path) -> None:
    world = World(tmp_path, spec(files_per_day="latest", patterns=("sales_{date:%Y%m%d}.csv",)))
    sent(world, "sales_20240310.csv", "2,2024-03-02,")
    sent(world, "sales_20240309.csv", "1,2024-03-01,", "1,2024-03-02,")
    assert ids(world) == {FIRST: [1], SECOND: [2]}


def test_files_without_a_row_hold_no_day(tmp_path: Path) -> None:
    world = World(tmp_path, SPEC)
    assert [sent(world, name).outcome for name in ("a.csv", "b.csv", "a.csv")] == ["accepted", "accepted", "identical"]
    assert archive.accepted_days(world.archive, SPEC) == {}


def test_a_row_that_says_no_day_is_a_reject_of_the_first_day_of_its_file(tmp_path: Path) -> None:
    world = World(tmp_path, spec(start_date=date(2024, 2, 1)))
    one = sent(
        world, "a.csv", "1,2024-03-02,", "2,nope,", "3,,", "4,2023-12-31,", "5,2999-01-01,", "x,2024-03-03,", "7"
    )
    assert (one.rows, one.rejected, one.days) == (1, 6, (SECOND, THIRD))
    found = reasons(world)
    assert len(found[SECOND]) == 5
    assert "'nope' is no DATE" in found[SECOND][0]
    assert "empty, and the day of the row comes from it (day_from)" in found[SECOND][1]
    assert "2023-12-31 lies before the first day of the source, 2024-02-01" in found[SECOND][2]
    assert "2999-01-01 lies ahead" in found[SECOND][3]
    assert found[THIRD] == ["id: 'x' is no INTEGER"]


def test_what_a_day_was_when_the_file_came_stays_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path, SPEC)
    sent(world, "a.csv", "1,2024-03-01,", "2,2999-01-01,", "3,2023-01-01,")
    before = reasons(world)
    world.spec = spec(start_date=date(2022, 1, 1))
    assert reasons(world) == before, "no day was rebuilt for it, so it must not become a row of one"


def test_a_file_none_of_whose_rows_says_a_day_is_refused_and_its_next_version_settles_that(tmp_path: Path) -> None:
    world = World(tmp_path, spec(max_rejected_ratio=1.0))
    one = sent(world, "a.csv", "1,nope,")
    assert one.outcome == "refused" and one.reason is not None and "no day" in one.reason
    assert len(quarantine.still_open(world.quarantine, world.archive, world.spec)) == 1
    sent(world, "a.csv", "1,2024-03-01,")
    assert quarantine.still_open(world.quarantine, world.archive, world.spec) == []


def test_a_refused_file_goes_back_and_is_judged_again(tmp_path: Path) -> None:
    world = World(tmp_path, spec(max_rejected_ratio=0.0))
    assert sent(world, "a.csv", "x,2024-03-01,", "2,2024-03-01,").outcome == "refused"
    [one] = world.quarantined()
    world.spec = SPEC
    quarantine.release(world.quarantine, one.reason.key, world.incoming)
    os.utime(world.folder / "a.csv", (1_700_000_100, 1_700_000_100))
    assert [each.outcome for each in receive(world)] == ["accepted"]
    assert ids(world) == {FIRST: [2]}


def test_names_are_held_against_the_patterns(tmp_path: Path) -> None:
    world = World(tmp_path, spec(patterns=("export_*.csv", "old_{date}.csv")))
    for name in ("export_1.csv", "old_2024-03-01.csv", "old_2024-02-30.csv", "other.csv"):
        world.drop(name, text("1,2024-03-01,"))
    found = scan.scan(world.folder, world.spec, NOW)
    assert [one.name for one in found.many_days] == ["export_1.csv", "old_2024-03-01.csv"]
    assert {one.entry.name: one.reason for one in found.undated} == {
        "old_2024-02-30.csv": "the date 2024-02-30 does not exist",
        "other.csv": "the name does not match; expected export_*.csv or old_YYYY-MM-DD.csv",
    }


def test_a_day_of_another_zone_is_the_day_there(tmp_path: Path) -> None:
    types = (SourceColumn("id", "INTEGER"), SourceColumn("sold_on", "TIMESTAMP WITH TIME ZONE"))
    source = spec(types=types, columns={"id": "id", "day": "sold_on"}, business_zone="America/New_York")
    world = World(tmp_path, source)
    world.drop("a.csv", b"id,day\n1,2024-03-02T03:00:00Z\n2,2024-03-02T06:00:00Z\n")
    receive(world)
    assert ids(world) == {FIRST: [1], SECOND: [2]}


def test_keys_are_unique_within_a_day_over_all_of_its_files(tmp_path: Path) -> None:
    for kept, expected in (("first", {FIRST: ["a", "b"], SECOND: ["c"]}), ("last", {FIRST: ["d", "b"], SECOND: ["c"]})):
        rows = RowSettings(keys=(("batch_date", "id"),), on_duplicate_key=kept)
        world = World(tmp_path / kept, spec(rows=rows, max_rejected_ratio=1.0))
        sent(world, "1.csv", "1,2024-03-01,a", "2,2024-03-01,b", "1,2024-03-02,c")
        sent(world, "2.csv", "1,2024-03-01,d")
        found = {day: [n for b in each for n in b.rows["note"].to_pylist()] for day, each in batches(world).items()}
        assert {day: sorted(notes) for day, notes in found.items()} == {d: sorted(n) for d, n in expected.items()}
        assert sum(map(len, reasons(world).values())) == 1


def test_files_of_a_time_when_names_had_a_day_stay_rows_of_that_day(tmp_path: Path) -> None:
    dated = spec(day_from=None, patterns=("{date}.csv",))
    world = World(tmp_path, dated)
    world.drop("2024-03-01.csv", text("1,2024-03-01,", "2,2024-03-02,"))
    world.receive()
    world.spec = SPEC
    sent(world, "a.csv", "3,2024-03-01,")
    assert ids(world) == {FIRST: [1, 3]}
    assert "2024-03-02" in reasons(world)[FIRST][0], "nobody asked for that day: a reject, not a row that vanishes"


def test_two_processes_do_not_take_files_in_at_once(tmp_path: Path) -> None:
    world = World(tmp_path, SPEC)
    with spread.exclusive(world.archive, SPEC), pytest.raises(spread.SpreadBusy, match="sales: another process"):
        receive(world)
    assert receive(world) == []


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"day_from": "sold"}, "day_from 'sold' is a column of the table that the files fill; like day_from: sold_on"),
        ({"day_from": "id"}, "day_from id must be DATE, TIMESTAMP, TIMESTAMP WITH TIME ZONE; it is INTEGER"),
        ({"date_column": "sold_on"}, "day_from and date_column exclude each other"),
        ({"event_column": "sold_on"}, "day_from and event_column exclude each other"),
        ({"days_left_out": "drop"}, "days_left_out is 'drop'; it can be keep, remove"),
        ({"day_from": None, "days_left_out": "keep", "patterns": ("{date}.csv",)}, "days_left_out needs day_from"),
        ({"files_per_day": "every", "days_left_out": "keep"}, "days_left_out and files_per_day: every exclude"),
        ({"files_per_day": "each"}, "files_per_day is 'each'; it can be many, latest, every"),
        ({"files_per_day": "every", "day_from": None}, "files_per_day is 'every'; it can be many, latest"),
        ({"patterns": ("{day}.csv",)}, "does not say a whole date"),
        ({"day_from": None}, "must hold {date} exactly once"),
    ],
)
def test_a_setting_that_cannot_work_is_named_when_it_is_loaded(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(SpecError) as caught:
        spec(**changes)
    assert says in str(caught.value) and "\n" not in str(caught.value)


_ROWS = st.lists(
    st.tuples(
        st.integers(1, 9).map(str) | st.just("x"),
        st.sampled_from(["2024-03-01", "2024-03-02", "2024-03-03", "nope", ""]),
        st.sampled_from(["", "a", '"b,c"']),
    ).map(",".join),
    max_size=5,
)
_HISTORY = st.lists(st.tuples(st.sampled_from(["a.csv", "b.csv"]), _ROWS), min_size=1, max_size=6)


def _days(rows: list[str]) -> set[date]:
    return {date.fromisoformat(day) for day in (row.split(",")[1] for row in rows) if day[:4] == "2024"}


class Model:
    """What should be, said in another way: every accepted file with the rows of its days."""

    def __init__(self, files_per_day: str) -> None:
        self._mode = files_per_day
        self.accepted: list[tuple[str, bytes, list[str]]] = []
        self._emptied: list[tuple[int, date]] = []

    def current(self) -> list[tuple[str, bytes, list[str]]]:
        if self._mode == "latest":
            return self.accepted[-1:]
        newest: dict[Any, Any] = {}
        for at, one in enumerate(self.accepted):
            newest[at if self._mode == "every" else one[0]] = one
        return list(newest.values())

    def outcome(self, name: str, rows: list[str]) -> str:
        content = text(*rows)
        same = [one for one in self.current() if one[1] == content]
        if any(one[0] == name for one in same):
            return "identical"
        days = [row.split(",")[1] for row in rows if row.split(",")[1][:4] == "2024"]
        bad = sum(row[0] == "x" or row.split(",")[1][:4] != "2024" for row in rows)
        if rows and (bad > 0.9 * len(rows) or not days):
            return "refused"
        if same and days:
            return "duplicate"
        if self._mode == "every":
            of_name = [one for one in self.accepted if one[0] == name]
            if of_name and content.startswith(of_name[-1][1]):
                self.accepted.remove(of_name[-1])
        elif not self._empties(name, rows):
            return "refused"
        self.accepted.append((name, content, rows))
        return "accepted"

    def _empties(self, name: str, rows: list[str]) -> bool:
        """Note the days that the file takes its earlier rows from; False where nobody can know whether it does."""
        before = [_days(one[2]) | {d for n, d in self._emptied if n == at} for at, one in self._of(name)]
        own, held = _days(rows), before[-1] if before else set()
        moved_on = bool(own) and max(own) > max(held, default=date.min)
        gone = {day for day in held - own if not moved_on or day > min(own)}
        gone -= {day for day in held if self._mode == "latest" and self._holding(day)[-1][0] != name}
        if gone and not (own and min(gone) > min(own)):
            return False
        self._emptied += [(len(self.accepted), day) for day in gone]
        return True

    def _of(self, name: str) -> list[tuple[int, tuple[str, bytes, list[str]]]]:
        return [(at, one) for at, one in enumerate(self.accepted) if one[0] == name]

    def _holding(self, day: date) -> list[tuple[str, bytes, list[str]]]:
        return [one for at, one in enumerate(self.accepted) if day in _days(one[2]) or (at, day) in self._emptied]

    def rows(self) -> dict[date, list[int]]:
        found: dict[date, list[int]] = {}
        for day in (FIRST, SECOND, THIRD):
            holding = self._holding(day)
            if self._mode == "latest":
                holding = holding[-1:]
            elif self._mode == "many":
                holding = list({one[0]: one for one in holding}.values())
            rows = [row.split(",") for one in holding for row in one[2]]
            found[day] = sorted(int(row[0]) for row in rows if row[1] == str(day) and row[0] != "x")
        return {day: rows for day, rows in found.items() if rows}


def accounts(world: World) -> Iterator[tuple[int, int]]:
    """For each day what its files hold, counted without judging, and what was read."""
    for day, versions in archive.accepted_days(world.archive, world.spec).items():
        held = 0
        for version in versions:
            file, home = day_reader.as_sent(version, day)
            counted = judge.count_by_day(world.spec, file)
            held += sum(counted[which].records for which in (day, *([None] if day == home else [])) if which in counted)
        [each] = batches(world, [day]).values()
        yield held, sum(batch.rows.num_rows + batch.rejects.num_rows + batch.skipped.num_rows for batch in each)


@settings(max_examples=30, deadline=None)
@given(_HISTORY, st.sampled_from(["many", "latest", "every"]))
def test_whatever_files_come_in_whatever_order_each_day_has_the_rows_that_it_should(
    history: list[tuple[str, list[str]]], files_per_day: str
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        world, model = World(Path(folder), spec(files_per_day=files_per_day)), Model(files_per_day)
        for name, rows in history:
            assert sent(world, name, *rows).outcome == model.outcome(name, rows)
        assert ids(world) == model.rows()
        assert all(held == read for held, read in accounts(world))
        assert not spread.unfinished(world.archive, world.spec)


def test_a_file_that_fits_no_more_is_named_with_its_day(tmp_path: Path) -> None:
    world = World(tmp_path, SPEC)
    sent(world, "a.csv", "1,2024-03-01,", "2,2024-03-02,")
    world.spec = spec(max_rejected_ratio=0.0, types=(SourceColumn("id", "DATE", nullable=False), *SPEC.types[1:]))
    with pytest.raises(day_reader.Unreadable, match="too many rejected rows"):
        batches(world)
    assert not issubclass(day_reader.Unreadable, EtlError)
