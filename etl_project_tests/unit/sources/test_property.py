"""Whatever names and contents arrive, in whatever order: nothing is lost, counted twice or overwritten."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from etl_project.sources.intake import admit
from etl_project.sources.intake.archive import Accepted
from etl_project.sources.reading import judge
from etl_project_tests.unit.sources.world import DAY, HEADER, World, spec

_NAMES = st.sampled_from(
    [
        b"a-2024-03-05.csv",
        b"b-2024-03-05.csv",
        b"c\n'\"-2024-03-05.csv",
        b"\xff-2024-03-05.csv",
        b"x/a-2024-03-05.csv",
        b"%2F..-2024-03-05.csv",
        b"no date.csv",
        b"a-2024-03-99.csv",
    ]
)
_GOOD_LINES = st.sampled_from(
    [b"1,1.5,2024-03-05 10:00:00,a", b'2,,,"quoted, ""x"""', b'3,1,,"two\nlines"', b"-4.0,1,,b"]
)
_LINES = _GOOD_LINES | st.sampled_from(
    [
        b"x,1,,",
        b"1e999,1,,",
        b"1,NaN,,",
        b"1,2",
        b"",
        b'1,1,,"open',
        b"1,1,2024-03-31 01:30:00,gap",
        b"\r",
        b"1,1,,\xc3\xa9",
    ]
)
_CONTENTS = (
    st.lists(_GOOD_LINES | _LINES, max_size=6).map(lambda records: HEADER + b"".join(one + b"\n" for one in records))
    | st.binary(max_size=60)
    | st.binary(max_size=30).map(lambda tail: HEADER + tail)
    | st.just(b"")
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(_NAMES, _CONTENTS), max_size=8), st.sampled_from(["many", "latest"]), st.integers(1, 3))
def test_every_file_ends_in_exactly_one_place_and_every_row_is_accounted_for(
    arrivals: list[tuple[bytes, bytes]], files_per_day: str, batch: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder), spec(files_per_day=files_per_day, max_rejected_ratio=0.5))
        for start in range(0, len(arrivals), batch):
            old = {path: path.read_bytes() for path in versions(world)}
            waiting = dict(arrivals[start : start + batch])
            for name, content in waiting.items():
                world.drop(os.fsdecode(name), content)
            outcomes = {os.fsencode(one.name): one for one in receive_everything(world)}
            assert set(outcomes) == set(waiting)
            assert {path: path.read_bytes() for path in old} == old
            for name, one in outcomes.items():
                found_where_it_says(world, one, waiting[name])
        assert [path for path in world.folder.rglob("*") if path.is_file()] == []
        assert len(world.quarantined()) == len(list(world.quarantine.rglob("*.json")))


def receive_everything(world: World) -> list[admit.Received]:
    undated = [admit.put_into_quarantine(one, world.spec, *world.roots) for one in world.scan().undated]
    return [*undated, *world.receive()]


def versions(world: World) -> list[Path]:
    return [path for path in world.archive.rglob("*") if path.is_file()]


def found_where_it_says(world: World, one: admit.Received, content: bytes) -> None:
    """Rows in = stored + rejected, or the whole file in quarantine."""
    assert one.sha256 is not None
    if one.outcome in ("accepted", "identical"):
        ending = re.compile(f"/{re.escape(one.name)}/[0-9]{{6}}-{one.sha256}")
        version = next(path for path in versions(world) if ending.search(str(path)))
        assert version.read_bytes() == content
        batches = list(judge.read(version, world.spec, one.name, DAY))
        stored = sum(batch.rows.num_rows for batch in batches)
        rejected = sum(batch.rejects.num_rows for batch in batches)
        counted = judge.count_rows(world.spec, Accepted(one.name, 1, one.sha256, str(version)))
        assert (stored + rejected, 0) == counted
        if one.outcome == "accepted":
            assert (one.rows, one.rejected) == (stored, rejected)
    else:
        here = [entry for entry in world.quarantined() if (entry.name, entry.reason.sha256) == (one.name, one.sha256)]
        (entry,) = here
        assert entry.path.read_bytes() == content
        assert entry.reason.reason


@settings(max_examples=80, deadline=None)
@given(st.lists(_LINES, max_size=12))
def test_every_line_is_in_a_row_in_a_reject_or_empty(records: list[bytes]) -> None:
    """A line on which nothing starts is empty, or belongs to a record with quotes that started above it."""
    content = HEADER + b"".join(record + b"\n" for record in records)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a")
        path.write_bytes(content)
        batches = list(judge.read(path, spec(max_rejected_ratio=1.0), "a.csv", DAY))
    starts = [line for batch in batches for table in batch for line in table["source_line"].to_pylist()]
    assert len(set(starts)) == len(starts)
    physical = content.split(b"\n")[:-1]
    for number, line in enumerate(physical[1:], 2):
        if number not in starts and line.strip(b"\r"):
            above = max(start for start in starts if start < number)
            assert b'"' in b"\n".join(physical[above - 1 : number])
