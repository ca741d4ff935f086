"""Promise 11: no name means anything to SQL or to a file system."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from etl_project.storage.contract import Scope, Table
from etl_project_tests.contracts.conftest import DAY, Bench, day

HOSTILE = [
    'quo"te',
    "it's",
    "select",
    "with space",
    "naïve_ünïcode_🙂",
    "..",
    "../../escape",
    "a/b\\c",
    "semi; DROP TABLE orders; --",
    "$1",
    "%2E%2E",
    ".hidden",
    "*?[x]",
    "new\nline",
]


@pytest.mark.parametrize("name", HOSTILE[:1])
def test_a_hostile_name_is_only_a_name_when_written_twice(bench: Bench, name: str) -> None:
    written_under(bench, name)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_is_only_a_name(once: Bench, name: str) -> None:
    written_under(once, name)


def written_under(bench: Bench, name: str) -> None:
    """The name as asset, table, schema, partition column and part of columns, over a change of columns."""
    table = Table(asset=name, name=name, schema=name, partition_column=name)
    column = f"{name} too"
    data = pa.table({name: pa.array([DAY], pa.date32()), column: [1]})
    bench.replace(data, day(DAY), table)
    more = pa.table({name: pa.array([DAY], pa.date32()), column: [2], f"{name} three": [3]})
    bench.replace(more, day(DAY), table)
    assert bench.rows(day(DAY), table, [name, column]) == [(DAY, 2)]
    assert bench.history("2024-03-05", name)[-1].rows == 1
    assert escaped_from(bench.folder) == []


def test_hostile_keys_are_only_values(bench: Bench) -> None:
    table = Table("orders", "orders", partition_column="region")
    every = pa.table({"region": HOSTILE, "n": [1] * len(HOSTILE)})
    bench.replace(every, Scope.keys(HOSTILE), table)
    for key in (HOSTILE[0], HOSTILE[1], HOSTILE[6]):
        bench.replace(pa.table({"region": [key], "n": [2]}), Scope.keys([key]), table)
        assert bench.rows(Scope.keys([key]), table) == [(key, 2)]
    assert sum(row[1] for row in bench.rows(Scope.keys(HOSTILE), table)) == len(HOSTILE) + 3
    assert escaped_from(bench.folder) == []


def escaped_from(folder: Path) -> list[Path]:
    """Anything beside the bench, up to two floors above it, that a name may have created there."""
    around = folder.parent
    return [path for path in (*around.iterdir(), *around.parent.iterdir()) if path not in (folder, around)]
