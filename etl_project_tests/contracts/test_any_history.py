"""Whatever is done to days one after the other, what can be read of their past is what a plain list of it says.

The model is that list: for every day its commits with the rows that each left, and which of them are kept. What it is
compared with is read as `etl history`, `etl show --at`, `etl diff`, `etl rollback` and readers do it.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pytest
from hypothesis import Phase, given, note, settings
from hypothesis import strategies as st

from etl_project.declare.daily_table import daily
from etl_project.proofs import Side, Stored, difference, listing, rollback, rows_at
from etl_project.storage import AsOf
from etl_project.storage.contract import (
    PartlyCommitted,
    ReadRefused,
    Request,
    Scope,
    Slice,
    Store,
    WriteRefused,
    asked_again,
)
from etl_project.storage.judging.messages import ChecksFailed
from etl_project.storage.judging.publishing import refusal
from etl_project_tests.contracts.backends import BACKENDS, open_store
from etl_project_tests.contracts.conftest import ORDERS

FIRST = date(2024, 1, 1)
KEEP = 2
TABLE = replace(ORDERS, keep_versions=KEEP, publish_after_checks=True)
FAILED = "the check says no"
WIDE = 2**40

Content = Counter[tuple[tuple[str, Any], ...]]


@dataclass(frozen=True)
class Step:
    """Something that is done; what a kind has no use for is passed over."""

    kind: str
    days: Sequence[int]
    values: Sequence[int]
    extra: bool
    pick: int
    inputs: str
    code: str

    def content(self, day: int) -> Content:
        """The rows that it would write into a day."""
        return Counter(
            tuple({"batch_date": FIRST + timedelta(day), **({"extra": str(n)} if self.extra else {}), "n": n}.items())
            for n in self.values
        )


KINDS = ("write", "write", "write", "again", "empty", "refused", "accepted", "back", "back", "unpin", "diff")
STEPS = st.lists(
    st.builds(
        Step,
        kind=st.sampled_from(KINDS),
        days=st.lists(st.integers(0, 1), min_size=1, max_size=2, unique=True).map(sorted),
        values=st.lists(st.sampled_from([*range(-2, 3), WIDE]), max_size=3),
        extra=st.booleans(),
        pick=st.integers(0, 3),
        inputs=st.sampled_from("ab"),
        code=st.sampled_from("12"),
    ),
    min_size=6,
    max_size=10,
)


class Done(NamedTuple):
    """A commit, as the model has it."""

    content: Content
    changed: bool
    inputs: str
    code: str | None
    back: tuple[int, str | None] | None = None
    """The commit that was gone back to, and the code whose rows went."""


@dataclass
class Day:
    """One day: its commits, the first one has the number 1; the numbers of those whose rows were replaced and stay."""

    commits: list[Done] = field(default_factory=list)
    kept: list[int] = field(default_factory=list)
    candidate: Content | None = None

    @property
    def last(self) -> Done:
        return self.commits[-1]

    @property
    def now(self) -> Content:
        return self.last.content if self.commits else Counter()

    def commit(self, content: Content, inputs: str, code: str | None, back: Any = None) -> None:
        changed = not self.commits or self.now != content
        if changed and self.commits:
            self.kept = [*self.kept, len(self.commits)][-KEEP:]
        self.commits.append(Done(content, changed, inputs, code, back))
        self.candidate = None

    def is_held(self, content: Content, inputs: str, code: str) -> bool:
        """Whether a pin keeps these rows off."""
        return (
            bool(self.commits)
            and self.last.back is not None
            and content != self.now
            and (inputs, code) == (self.last.inputs, self.last.back[1])
        )

    def where(self, number: int) -> str:
        """Where the rows of a commit are: the next one that changed something has replaced them."""
        later = (n for n in range(number + 1, len(self.commits) + 1) if self.commits[n - 1].changed)
        replaced = next(later, None)
        if replaced is None:
            return "current"
        return "kept" if replaced - 1 in self.kept else "gone"


class Played:
    """The store and the model, side by side."""

    def __init__(self, backend: str, folder: Path) -> None:
        self.store: Store = open_store(backend, folder)
        self.in_files = backend in ("parquet", "bucket")
        self.target = Stored("orders", TABLE, daily(FIRST), self.store)
        self.days = [Day(), Day()]
        self.prints: dict[tuple[int, frozenset[Any]], str] = {}

    def play(self, step: Step) -> None:
        for_one = {"again": self.again, "back": self.back, "unpin": self.unpin, "diff": self.diff}
        if step.kind in for_one:
            for_one[step.kind](step, step.days[0])
        elif step.kind in ("refused", "accepted"):
            self.audited(step, step.days[0])
        else:
            self.write(step if step.kind == "write" else replace(step, values=[]))
        for day in step.days:
            self.compare(day)

    def write(self, step: Step) -> None:
        new = {day: step.content(day) for day in step.days}
        held = {day for day in step.days if self.days[day].is_held(new[day], step.inputs, step.code)}
        try:
            self.put(step, step.days, new)
            assert not held, "a pin was passed over"
        except PartlyCommitted as error:
            assert {key_of(day) for day in held} == set(error.failures) and len(held) < len(new)
        except WriteRefused:
            assert len(held) == len(new)
        for day in sorted(new.keys() - held):
            self.committed(step, day, new[day])

    def committed(self, step: Step, day: int, content: Content) -> None:
        """A file is not written again for a record that says the same, unless that was of a day not reproducible."""
        one = self.days[day]
        same = bool(one.commits) and (content, step.inputs, step.code) == one.last[:1] + one.last[2:4]
        if self.in_files and same and len(self.store.history("orders", key_of(day))) == len(one.commits):
            one.candidate = None
            return
        one.commit(content, step.inputs, step.code)

    def again(self, step: Step, day: int) -> None:
        """The rows that are there already."""
        self.put(step, [day], {day: self.days[day].now})
        self.committed(step, day, self.days[day].now)

    def audited(self, step: Step, day: int) -> None:
        one, new, seen = self.days[day], step.content(day), []

        def audit(scope: Scope, store: Store) -> None:
            seen.append(content_of(store.arrow(store.read(TABLE, scope))))
            if step.kind == "refused":
                raise refusal(TABLE, scope, FAILED)

        asked = not one.commits or one.now != new
        held = one.is_held(new, step.inputs, step.code)
        try:
            self.put(step, [day], {day: new}, audit=audit)
            assert not held and not (asked and step.kind == "refused")
            self.committed(step, day, new)
        except ChecksFailed:
            assert asked and step.kind == "refused" and not held
            one.candidate = new
        except WriteRefused:
            assert held
        assert seen == ([new] if asked and not held else [])

    def put(self, step: Step, days: Sequence[int], new: dict[int, Content], **request: Any) -> None:
        rows = [dict(row) for day in days for row in new[day].elements()]
        wide = any(row["n"] == WIDE for row in rows)
        columns: dict[str, Any] = {
            "batch_date": pa.array([row["batch_date"] for row in rows], pa.date32()),
            "n": pa.array([row["n"] for row in rows], pa.int64() if wide else pa.int32()),
        }
        if any("extra" in row for row in rows):
            columns["extra"] = pa.array([row.get("extra") for row in rows], pa.string())
        hashes: dict[str | None, str] = {key_of(day): step.inputs for day in days}
        asked = Request("a run", step.code, hashes, **request)
        self.store.replace(TABLE, scope_of(days), pa.table(columns), asked)

    def back(self, step: Step, day: int) -> None:
        """To one of the commits, whether its rows are kept or not."""
        one = self.days[day]
        if not one.commits:
            return
        number = 1 + step.pick % len(one.commits)
        content, where = one.commits[number - 1].content, one.where(number)
        try:
            planned = rollback.plan(self.target, [key_of(day)], number)
        except rollback.CannotRollBack:
            assert where != "kept" or content == one.now
            return
        assert where == "kept" and content != one.now
        rollback.roll_back(self.target, planned, "going back", "a reason", lambda: None)
        code = one.last.code if one.last.back is None else one.last.back[1]
        one.commit(content, one.last.inputs, None, (planned.back[0].sequence, code))

    def unpin(self, step: Step, day: int) -> None:
        one = self.days[day]
        if not one.commits or one.last.back is None:
            with pytest.raises(rollback.CannotRollBack):
                rollback.unpin(self.target, [key_of(day)], "a run", lambda: None)
            return
        rollback.unpin(self.target, [key_of(day)], "a run", lambda: None)
        one.commit(one.now, asked_again(one.last.inputs), None)

    def diff(self, step: Step, day: int) -> None:
        one = self.days[day]
        if not one.kept:
            return
        number = one.kept[step.pick % len(one.kept)]
        sides = [Side(self.store, rows_at(self.target, key_of(day), at)) for at in (number, None)]
        found = difference(self.target, key_of(day), *sides)
        before, after = one.commits[number - 1].content, one.now
        assert (found.added, found.removed) == ((after - before).total(), (before - after).total())
        assert (found.rows_before, found.rows_after) == (before.total(), after.total())
        assert (found.sums["n"].before, found.sums["n"].after) == (total(before), total(after))

    def compare(self, day: int) -> None:
        """All that can be asked about the day, against the model."""
        one, key = self.days[day], key_of(day)
        history = self.store.history("orders", key)
        told = [(c.sequence, c.rows, c.changed, c.restored and c.restored.sequence) for c in history]
        assert told == [(n, c.content.total(), c.changed, c.back and c.back[0]) for n, c in enumerate(one.commits, 1)]
        for commit, done in zip(history, one.commits, strict=True):
            content = day, frozenset(done.content.items())
            assert self.prints.setdefault(content, commit.fingerprint) == commit.fingerprint
        assert len(set(self.prints.values())) == len({content for _, content in self.prints}), "two contents, one print"
        if not one.commits:
            return
        assert self.rows(rows_at(self.target, key)) == one.now
        found = [(version.sequence, version.rows) for version in self.store.versions(TABLE, key)]
        assert found == [(n, one.commits[n - 1].content.total()) for n in one.kept]
        for number in one.kept:
            assert self.rows(self.store.read_version(TABLE, key, number)) == one.commits[number - 1].content
        waiting = {each.record.partition: each.reason for each in self.store.candidates(["orders"])}
        assert waiting == {key_of(n): FAILED for n, each in enumerate(self.days) if each.candidate is not None}
        if one.candidate is not None:
            assert self.rows(self.store.read_candidate(TABLE, key)) == one.candidate
        pinned = {commit.partition for commit in self.store.pinned(["orders"])}
        assert pinned == {key_of(n) for n, each in enumerate(self.days) if each.commits and each.last.back}

    def look_back(self) -> None:
        """At every commit of every day, by its number and by its time."""
        for day, one in enumerate(self.days):
            where = [(listed.sequence, listed.where) for listed in listing(self.target, key_of(day))]
            assert where == [(n, one.where(n)) for n in range(len(one.commits), 0, -1)]
            for commit, done in zip(self.store.history("orders", key_of(day)), one.commits, strict=True):
                for moment in (commit.sequence, commit.committed_at):
                    if one.where(commit.sequence) == "gone":
                        with pytest.raises(ReadRefused, match="not kept"):
                            AsOf(self.store, moment).read(TABLE, scope_of([day]))
                    else:
                        assert self.rows(AsOf(self.store, moment).read(TABLE, scope_of([day]))) == done.content

    def rows(self, piece: Slice) -> Content:
        return content_of(self.store.arrow(piece))


def key_of(day: int) -> str:
    return (FIRST + timedelta(day)).isoformat()


def scope_of(days: Sequence[int]) -> Scope:
    return Scope.days(FIRST + timedelta(days[0]), FIRST + timedelta(days[-1]))


def content_of(rows: pa.Table) -> Content:
    """The rows without NULLs: a column that was not there yet holds nothing else."""
    return Counter(
        tuple((name, row[name]) for name in sorted(row) if row[name] is not None) for row in rows.to_pylist()
    )


def total(content: Content) -> str | None:
    return str(sum(dict(row)["n"] for row in content.elements())) if content else None


def any_history(backend: str, steps: Sequence[Step]) -> None:
    with tempfile.TemporaryDirectory(prefix="etl-any-history-") as folder:
        played = Played(backend, Path(folder))
        for step in steps:
            note(f"{step}")
            played.play(step)
        played.look_back()


LOCAL = ["duckdb", "parquet"]
FEW, SERVED = (2, 2) if settings.default.derandomize else (15, 10)  # type: ignore[union-attr]
"""Examples in a process, and on a server: a fixed few, or new ones."""
PHASES = [Phase.generate]
"""A smaller example of what fails would be looked for through minutes of writes."""


@pytest.mark.parametrize("backend", LOCAL)
@settings(max_examples=FEW, phases=PHASES)
@given(STEPS)
def test_the_past_of_a_day_is_what_was_done_to_it(backend: str, steps: Sequence[Step]) -> None:
    any_history(backend, steps)


@pytest.mark.stress
@pytest.mark.parametrize("backend", [name for name in BACKENDS if name not in LOCAL])
@settings(max_examples=SERVED, phases=PHASES)
@given(STEPS)
def test_the_past_of_a_day_is_what_was_done_to_it_elsewhere_too(backend: str, steps: Sequence[Step]) -> None:
    any_history(backend, steps)
