"""Promise 11: no name means anything to SQL or to a file system."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from etl_project.storage.base import Scope, Table
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


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_is_only_a_name(bench: Bench, name: str) -> None:
    table = Table(asset=name, name=name, schema=name, partition_column=name)
    column = f"{name} too"
    data = pa.table({name: pa.array([DAY], pa.date32()), column: [1]})
    bench.replace(data, day(DAY), table)
    more = pa.table({name: pa.array([DAY], pa.date32()), column: [2], f"{name} three": [3]})
    bench.replace(more, day(DAY), table)
    assert bench.rows(day(DAY), table, [name, column]) == [(DAY, 2)]
    assert bench.history("2024-03-05", name)[-1].rows == 1
    assert escaped_from(bench.folder) == []


@pytest.mark.parametrize("key", HOSTILE)
def test_a_hostile_key_is_only_a_value(bench: Bench, key: str) -> None:
    table = Table("orders", "orders", partition_column="region")
    for n in (1, 2):
        bench.replace(pa.table({"region": [key], "n": [n]}), Scope.keys([key]), table)
    bench.replace(pa.table({"region": ["other"], "n": [9]}), Scope.keys(["other"]), table)
    assert bench.rows(Scope.keys([key]), table) == [(key, 2)]
    assert escaped_from(bench.folder) == []


def escaped_from(folder: Path) -> list[Path]:
    """Anything beside the test's own folder that a name may have created."""
    return [path for path in folder.parent.iterdir() if path.name.startswith(("escape", "data", "DROP"))]
