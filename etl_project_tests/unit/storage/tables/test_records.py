"""Commit records as rows: what is written is what is read, wherever the process runs."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import duckdb
import pytest

from etl_project.storage.contract import Commit, Deviation, Restored
from etl_project.storage.tables.records import Records

PLAIN = Commit("orders", None, 1, "a run", None, "inputs", "rows", 0, 0, None, None, None, False, datetime.now(UTC), ())
SUMMER_TIME = [
    datetime(2025, 3, 9, 6, 59, 59, 999999, UTC),
    datetime(2025, 3, 9, 7, 0, 0, 1, UTC),
    datetime(2025, 11, 2, 5, 30, 0, 123456, UTC),
    datetime(2025, 11, 2, 6, 30, 0, 654321, UTC),
]
FULL = replace(
    PLAIN,
    asset="it's [ä]",
    partition='["$v_0"]',
    code_version="v7",
    rows=2**62,
    rows_added=2**40,
    rows_removed=0,
    rows_kept=1,
    changed=True,
    schema_changes=("added a", "it's, [b]"),
    deviation=Deviation("before", ("a",), (), 'a "note"', 2),
)
BACK = replace(FULL, asset="back", restored=Restored(3, None, "v6", "it's wrong"))


@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Shanghai"])
@pytest.mark.parametrize(
    "commits",
    [
        [PLAIN],
        [replace(PLAIN, partition=f"{n}") for n in range(3)],  # Columns of NULLs, and lists of nothing.
        [replace(PLAIN, partition=f"{n}", committed_at=moment) for n, moment in enumerate(SUMMER_TIME)],
        [FULL, PLAIN],
        [PLAIN, BACK, FULL],
    ],
    ids=["one", "empty", "moments", "full", "restored"],
)
def test_records_are_read_as_they_were_written(commits: list[Commit], zone: str) -> None:
    with duckdb.connect() as connection:
        connection.execute(f"SET TimeZone = '{zone}'")
        records = Records(connection)
        records.prepare()
        records.claim(commits)
        expected = {(one.asset, one.partition): one for one in commits}
        assert records.last() == expected
        for key, one in expected.items():
            assert records.last([key[0]], [key[1]]) == {key: one}  # One value is compared with, several are joined.
            assert records.last([key[0], "nothing"], [key[1], "nowhere"]) == {key: one}
        assert records.last([]) == records.last(None, []) == records.last(["nothing"]) == {}
        assert records.pinned({one.asset for one in commits}) == [one for one in commits if one.restored]
