"""Promise 10: a range is one write; when some day's data is at fault, the good days are committed."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta

import pyarrow as pa
import pytest

from etl_project.storage.contract import PartlyCommitted, Scope, WriteRefused
from etl_project_tests.contracts.conftest import ORDERS, Bench, frame, in_order

FIRST = date(2024, 1, 1)
DAYS = [FIRST + timedelta(days=n) for n in range(9)]
FORTY = [FIRST + timedelta(days=n) for n in range(40)]
RANGE = Scope.days(DAYS[0], DAYS[-1])
BAD = DAYS[5]
CONTRACT = "CREATE TABLE orders (batch_date DATE, n INTEGER NOT NULL, PRIMARY KEY (batch_date, n))"


def halves(days: list[date]) -> pa.Table:
    """One row a day, n = 1; 1.5 on the bad day, which an INTEGER cannot hold."""
    values = [1.5 if day == BAD else 1.0 for day in days]
    return pa.table({"batch_date": pa.array(days, pa.date32()), "n": pa.array(values, pa.float64())})


def test_a_range_is_one_write(once: Bench) -> None:
    commits = once.replace(frame(*((day, 1) for day in DAYS)), RANGE)
    assert [commit.partition for commit in commits] == [day.isoformat() for day in DAYS]
    if once.backend not in ("parquet", "bucket"):
        assert len({commit.committed_at for commit in commits}) == 1


def test_one_bad_day_of_forty_leaves_thirty_nine_committed(once: Bench) -> None:
    scope = Scope.days(FORTY[0], FORTY[-1])
    once.replace(frame(*((day, 0) for day in FORTY)), scope)
    with pytest.raises(PartlyCommitted) as caught:
        once.replace(halves(FORTY), scope)
    assert list(caught.value.failures) == [BAD.isoformat()]
    assert "1.5" in str(caught.value) and "39 partitions are committed" in str(caught.value)
    assert [commit.partition for commit in caught.value.commits] == [d.isoformat() for d in FORTY if d != BAD]
    assert once.rows(scope) == [(day, 0 if day == BAD else 1) for day in FORTY]


def test_a_broken_key_on_one_day_leaves_the_others_committed(bench: Bench) -> None:
    if not bench.keeps_constraints:
        pytest.skip("files keep no constraints")
    table = replace(ORDERS, contract_sql=CONTRACT)
    with pytest.raises(PartlyCommitted) as caught:
        bench.replace(frame(*((day, 1) for day in DAYS), (BAD, 1)), RANGE, table)
    assert list(caught.value.failures) == [BAD.isoformat()]
    assert bench.rows(RANGE) == [(day, 1) for day in DAYS if day != BAD]
    bench.replace(frame(*((day, 1) for day in DAYS), (BAD, 2)), RANGE, table)
    assert len(bench.rows(RANGE)) == len(DAYS) + 1


def test_a_stream_with_a_bad_day_is_still_split(bench: Bench) -> None:
    bench.replace(frame(*((day, 0) for day in DAYS)), RANGE)
    with pytest.raises(PartlyCommitted):
        bench.replace(lambda: halves(DAYS).to_reader(max_chunksize=3), RANGE)
    assert bench.rows(RANGE) == [(day, 0 if day == BAD else 1) for day in DAYS]


def test_rows_outside_the_range_belong_to_no_day_and_refuse_it_all(bench: Bench) -> None:
    bench.replace(frame(*((day, 0) for day in DAYS)), RANGE)
    outside = (DAYS[-1] + timedelta(days=1), 5)
    with pytest.raises(WriteRefused) as caught:
        bench.replace(frame(*((day, 1) for day in DAYS), outside), RANGE)
    assert not isinstance(caught.value, PartlyCommitted)
    assert {row[1] for row in bench.rows(RANGE)} == {0}


def test_a_missing_column_is_no_single_days_fault(bench: Bench) -> None:
    table = replace(ORDERS, drift="freeze")
    bench.replace(frame(*((day, 0) for day in DAYS)), RANGE, table)
    with pytest.raises(WriteRefused) as caught:
        bench.replace(frame(*((day, 1) for day in DAYS))[["batch_date"]], RANGE, table)
    assert not isinstance(caught.value, PartlyCommitted)


def test_days_in_any_order_are_sorted_out(bench: Bench) -> None:
    mixed = [(day, n) for n in range(3) for day in reversed(DAYS)]
    bench.replace(lambda: pa.table(frame(*mixed)).to_reader(max_chunksize=7), RANGE)
    assert bench.rows(RANGE) == in_order(mixed)


def test_a_range_with_gaps_reads_and_writes_only_its_days(bench: Bench) -> None:
    bench.replace(frame(*((day, 0) for day in DAYS)), RANGE)
    some = Scope(RANGE.partitions[::3])
    bench.replace(frame(*((day, 1) for day in DAYS[::3])), some)
    assert bench.rows(some) == [(day, 1) for day in DAYS[::3]]
    assert [row[1] for row in bench.rows(RANGE)] == [1 if n % 3 == 0 else 0 for n in range(len(DAYS))]
