"""Any interleaving of writes, crashes, retries and drift ends as the last successful write of each day."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import suppress
from dataclasses import replace
from datetime import date, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from etl_project import faults
from etl_project.failures import EtlError
from etl_project.storage.contract import ReadRefused, Request, Scope, WriteRefused
from etl_project_tests.contracts.backends import BACKENDS, open_store
from etl_project_tests.contracts.conftest import ORDERS, in_order

LAKE = "ducklake"
FIRST = date(2024, 1, 1)
DAYS = st.lists(st.integers(0, 3), min_size=1, max_size=4, unique=True).map(sorted)
VALUES = st.lists(st.integers(-5, 5), max_size=4)
STEPS = {
    "duckdb": ["after_claim", "between_delete_and_insert", "before_commit"],
    "duckdb-lost-commit-answer": ["after_claim", "between_delete_and_insert", "before_commit"],
    "ducklake": ["after_claim", "between_delete_and_insert", "before_commit"],
    "postgres": ["after_claim", "between_delete_and_insert", "before_commit"],
    "parquet": ["half_written", "before_rename"],
    "bucket": ["before_put"],
}


class AnyOrder(RuleBasedStateMachine):
    """The model is a dictionary: day -> rows."""

    backend = ""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="etl-any-order-"))
        self.model: dict[int, list[tuple[Any, ...]]] = {}
        self.columns = ["batch_date", "n"]

    def teardown(self) -> None:
        shutil.rmtree(self.folder)

    def scope(self, days: list[int]) -> Scope:
        return Scope(tuple(Scope.days(FIRST + timedelta(n), FIRST + timedelta(n)).partitions[0] for n in days))

    def data(self, days: list[int], values: list[int], extra: bool) -> pa.Table:
        rows = [(day, value) for day in days for value in values]
        columns: dict[str, Any] = {
            "batch_date": pa.array([FIRST + timedelta(day) for day, _ in rows], pa.date32()),
            "n": pa.array([value for _, value in rows], pa.int32()),
        }
        if extra:
            columns["extra"] = pa.array([str(value) for _, value in rows], pa.string())
        return pa.table(columns)

    @rule(days=DAYS, values=VALUES, extra=st.booleans(), stream=st.booleans(), again=st.booleans())
    def write(self, days: list[int], values: list[int], extra: bool, stream: bool, again: bool) -> None:
        """A successful write, perhaps repeated, perhaps with a column that drifts in."""
        data = self.data(days, values, extra)
        for _ in range(1 + again):
            made = data.to_reader(max_chunksize=2) if stream else data
            open_store(self.backend, self.folder).replace(ORDERS, self.scope(days), made, Request("r"))
        for day in days:
            self.model[day] = [(FIRST + timedelta(day), value, str(value) if extra else None) for value in values]

    @rule(days=DAYS, values=VALUES, step=st.integers(0, 2))
    def crash(self, days: list[int], values: list[int], step: int) -> None:
        """A write that stops in the middle of its first partition: nothing may change."""
        steps = STEPS[self.backend]
        os.environ["ETL_FAULT"] = f"{self.backend.split('-')[0]}.{steps[step % len(steps)]}=error"
        faults._reached = count(1)
        try:
            with suppress(EtlError, OSError):
                store = open_store(self.backend, self.folder)
                store.replace(ORDERS, self.scope(days[:1]), self.data(days[:1], [*values, 77], False), Request("r"))
                raise AssertionError("the fault was not reached")
        finally:
            del os.environ["ETL_FAULT"]

    @rule(days=DAYS, bad=st.sampled_from(["foreign", "kind", "frozen"]))
    def refused(self, days: list[int], bad: str) -> None:
        """A write that breaks the contract: nothing may change."""
        data = self.data([*days, 9] if bad == "foreign" else days, [1], False)
        table = ORDERS
        if bad == "kind":
            data = data.set_column(1, "n", pa.array([["no"]] * len(data)))
        if bad == "frozen":
            table, data = replace(ORDERS, drift="freeze"), data.append_column("new", pa.array(["x"] * len(data)))
        if not self.model:
            return
        with pytest.raises(WriteRefused):
            open_store(self.backend, self.folder).replace(table, self.scope(days), data, Request("r"))

    @invariant()
    def every_day_holds_its_last_successful_write(self) -> None:
        store = open_store(self.backend, self.folder)
        try:
            table = store.arrow(store.read(ORDERS, self.scope([0, 1, 2, 3])))
        except ReadRefused:
            assert not self.model
            return
        if "extra" not in table.column_names:
            table = table.append_column("extra", pa.nulls(len(table), pa.string()))
        found = [tuple(row.values()) for row in table.select(["batch_date", "n", "extra"]).to_pylist()]
        assert in_order(found) == in_order([row for rows in self.model.values() for row in rows])
        records = {key: commit.rows for (_, key), commit in store.last_commits().items()}
        assert records == {(FIRST + timedelta(day)).isoformat(): len(rows) for day, rows in self.model.items()}


def test_any_interleaving_ends_as_the_last_successful_write_of_each_day(backend: str) -> None:
    machine = type(f"AnyOrder_{backend}", (AnyOrder,), {"backend": backend})
    # Every step in a lake is a dozen questions to a server: fewer of them here, as many in the next test.
    run_state_machine_as_test(machine, settings=settings_of(examples=2 if backend == LAKE else 3))


@pytest.mark.long
def test_more_interleavings_in_a_lake_end_as_the_last_successful_write_of_each_day() -> None:
    if LAKE not in BACKENDS:
        pytest.skip("there is no lake without a PostgreSQL server")
    machine = type(f"AnyOrder_{LAKE}", (AnyOrder,), {"backend": LAKE})
    run_state_machine_as_test(machine, settings=settings_of(examples=6))


@pytest.mark.stress
@pytest.mark.timeout(1800)
def test_many_interleavings_end_as_the_last_successful_write_of_each_day(backend: str) -> None:
    machine = type(f"AnyOrder_{backend}", (AnyOrder,), {"backend": backend})
    run_state_machine_as_test(machine, settings=settings_of(examples=150))


def settings_of(examples: int) -> settings:
    return settings(
        max_examples=examples,
        stateful_step_count=8,
        deadline=None,
        derandomize=examples < 100,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
