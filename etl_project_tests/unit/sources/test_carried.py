"""Rows that are carried over from the last commit are those that reading every file gives, or every file is read."""

from __future__ import annotations

import dataclasses
import json
import random
import shutil
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from etl_project.declare import lake
from etl_project.sources import carried, raw_rows
from etl_project.sources.carried import Carried
from etl_project.sources.intake import admit, archive, scan
from etl_project.sources.reading import judge
from etl_project.storage import DuckDBStore
from etl_project.utc import now
from etl_project_tests.projects import SourceProject, source_project

DAY = date(2025, 3, 1)
CONTRACT = """CREATE TABLE sales (
    batch_date DATE NOT NULL, id BIGINT NOT NULL, shop VARCHAR NOT NULL, pieces INTEGER, amount DECIMAL(12, 2),
    weight DOUBLE, paid BOOLEAN, sold_on DATE, sold_at TIMESTAMPTZ, seen TIMESTAMP, note VARCHAR
);
"""
COLUMNS = ("id", "shop", "pieces", "amount", "weight", "paid", "sold_on", "sold_at", "seen", "note")
DEFS = {
    "name": "sales",
    "format": "jsonl",
    "patterns": ["{date}/*.jsonl"],
    "columns": {name: name for name in COLUMNS},
    "max_rejected_ratio": 0.5,
    "max_removed_ratio": None,
    "time_zone": "Europe/London",
}


class Found(NamedTuple):
    """What the lake and the warehouse have of the day."""

    rows: pa.Table
    rejects: list[tuple[Any, ...]]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SourceProject]:
    monkeypatch.setattr(carried, "MANY_FILES", 2)
    with source_project(tmp_path, DEFS, CONTRACT, monkeypatch) as made:
        yield made


def records(draw: random.Random, count: int) -> str:
    """So many records like no others, a few of them without the id that a row needs."""
    values = [
        {
            "id": draw.getrandbits(60) if draw.random() > 0.06 else "none",
            "shop": draw.choice(["Zürich", "a\tb", "", "\U0001f600"]) or "x",
            "pieces": draw.choice([None, 0, -7]),
            "amount": f"{draw.randrange(-(10**9), 10**9) / 100:.2f}",
            "weight": draw.choice([None, 0.1 + draw.random(), -0.0, 1e-300]),
            "paid": draw.choice([None, True, False]),
            "sold_on": draw.choice([None, "2024-02-29"]),
            "sold_at": draw.choice([None, "2025-03-01T23:59:59.999999Z", "2025-02-28 00:00:00"]),
            "seen": draw.choice([None, "1999-12-31 23:59:59.000001"]),
            "note": draw.choice([None, "", "null"]),
        }
        for _ in range(count)
    ]
    # The first record is a row in any case: a file of rejects alone would be refused.
    return "".join(json.dumps(one | ({"id": n} if n < (count + 1) // 2 else {})) + "\n" for n, one in enumerate(values))


def there(project: SourceProject) -> Found:
    [spec] = project.deployment.project.sources
    [file] = (project.data / "lake" / "raw_sales").rglob("*.parquet")
    rows = pq.ParquetFile(file).read().select(judge.rows_schema(spec).names).cast(judge.rows_schema(spec))
    return Found(rows, project.query("SELECT * FROM sales_rejects ORDER BY source_file, source_line"))


def read_in_full(project: SourceProject) -> Found:
    """What reading every file of the archive gives."""
    [spec] = project.deployment.project.sources
    rejects: list[pa.Table] = []
    days = {DAY: archive.archived(project.data / "archive", spec, DAY)}
    rows = raw_rows.rows(spec, days, rejects, lambda *_: None, project.data, None).read_all()
    every = [tuple(row.values()) for table in rejects for row in table.to_pylist()]
    return Found(rows, sorted(every, key=lambda row: row[1:3]))


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.long)])
def test_a_day_whose_rows_are_carried_over_is_what_reading_every_file_gives(
    project: SourceProject, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    draw, find = random.Random(seed), carried.find
    found: list[Carried | None] = []
    monkeypatch.setattr(carried, "find", lambda *a, **k: found.append(find(*a, **k)) or found[-1])
    names = ["a", "ä", "b/c", "b", "z\n", "0", "B", "c", "-"]
    for step in range(4):
        for name in draw.sample(names, 7 if step == 0 else draw.choice([1, 1, 2])):
            project.drop(f"{DAY}/{name}.jsonl", records(draw, draw.choice([1, 2, 9])))
        assert not project.drain().failed
        assert there(project) == read_in_full(project)
    assert sum(one is not None for one in found) >= 2
    assert all(one.files for one in found if one is not None)


def take_in(project: SourceProject, name: str, text: str) -> archive.Archived:
    """The archive of the day after one more file, of which nothing is built yet."""
    [spec] = project.deployment.project.sources
    configured = project.deployment.project.settings
    project.drop(f"{DAY}/{name}.jsonl", text)
    waiting = scan.scan(configured.incoming / spec.name, spec, now()).waiting
    admit.receive_all(waiting, spec, configured.incoming, configured.archive, configured.quarantine)
    return archive.archived(configured.archive, spec, DAY)


def edit_rows(project: SourceProject) -> None:
    """Another value in the file of raw rows, under the same record."""
    [file] = (project.data / "lake" / "raw_sales").rglob("*.parquet")
    table, footer = pq.read_table(file, partitioning=None), pq.read_metadata(file).metadata
    edited = table.set_column(0, table.schema.field(0), pa.array([*table["id"].to_pylist()[:-1], 4711], pa.int64()))
    pq.write_table(edited.replace_schema_metadata({k: v for k, v in footer.items() if k != b"ARROW:schema"}), file)


def damage_rows(project: SourceProject) -> None:
    """The disk has lost what stands before the footer."""
    [file] = (project.data / "lake" / "raw_sales").rglob("*.parquet")
    content = file.read_bytes()
    kept = int.from_bytes(content[-8:-4], "little") + 8
    file.write_bytes(content[:4] + b"\xff" * (len(content) - 4 - kept) + content[-kept:])


def in_the_warehouse(sql: str) -> Callable[[SourceProject], object]:
    return lambda project: project.query(sql)


BEHIND_ITS_BACK = {
    "a raw row was edited": edit_rows,
    "the raw rows cannot be read": damage_rows,
    "a reject was removed": in_the_warehouse(
        "DELETE FROM sales_rejects WHERE source_line = (SELECT min(source_line) FROM sales_rejects)"
    ),
    "the rejects have no record": in_the_warehouse("DELETE FROM etl_commits WHERE asset = 'sales_rejects'"),
    "the rejects are of other inputs": in_the_warehouse(
        "UPDATE etl_commits SET input_hash = 'other' WHERE asset = 'sales_rejects'"
    ),
    "the rejects are of other code": in_the_warehouse(
        "UPDATE etl_commits SET code_version = 'other' WHERE asset = 'sales_rejects'"
    ),
    "there is no table of rejects": in_the_warehouse("DROP TABLE sales_rejects"),
}


def find(project: SourceProject, archived: archive.Archived, code_version: str | None = None, **changes: Any) -> Any:
    [spec] = project.deployment.project.sources
    commit = lake(project.deployment.project.settings).last_commits(["raw_sales"])["raw_sales", str(DAY)]
    changed = dataclasses.replace(spec, **changes)
    return carried.find(
        changed, project.deployment.project.settings, DAY, archived, code_version or str(commit.code_version)
    )


@pytest.fixture
def built(project: SourceProject) -> SourceProject:
    """A day of three files; the second has a reject."""
    draw = random.Random(7)
    for name, count in (("a", 1), ("b", 30), ("c", 1)):
        project.drop(f"{DAY}/{name}.jsonl", records(draw, count))
    assert not project.drain().failed
    assert project.query("SELECT count(*) FROM sales_rejects WHERE source_file LIKE '%b.jsonl'")[0][0]
    return project


def test_every_file_is_read_where_what_is_committed_is_not_what_was_written(
    built: SourceProject, tmp_path: Path
) -> None:
    archived = take_in(built, "d", records(random.Random(8), 1))
    good = find(built, archived)
    assert good is not None
    # The file with a reject is read again: nothing but reading it tells what is wrong with its record.
    assert {one.name.rpartition("/")[2] for one in good.files} == {"a.jsonl", "c.jsonl"}
    kept = shutil.copytree(built.data, tmp_path / "kept")
    for what, change in BEHIND_ITS_BACK.items():
        change(built)
        assert find(built, archived) is None, what
        shutil.rmtree(built.data)
        shutil.copytree(kept, built.data)
        assert find(built, archived).files == good.files, f"{what}: put right again"


def test_every_file_is_read_for_other_code_other_settings_and_the_same_inputs_once_more(built: SourceProject) -> None:
    [spec] = built.deployment.project.sources
    assert find(built, archive.archived(built.data / "archive", spec, DAY)) is None
    archived = take_in(built, "d", records(random.Random(8), 1))
    assert find(built, archived) is not None
    assert find(built, archived, code_version="another") is None
    assert find(built, archived, rows=dataclasses.replace(spec.rows, footer_lines=1)) is None


def test_every_file_is_read_where_the_database_is_held_by_another_process(
    built: SourceProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    archived = take_in(built, "d", records(random.Random(8), 1))

    def busy(*_: object, **__: object) -> None:
        raise carried.StoreBusy("held")

    monkeypatch.setattr(DuckDBStore, "last_commits", busy)
    assert find(built, archived) is None
