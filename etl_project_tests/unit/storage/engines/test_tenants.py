"""Tenants: a table on a server is one deployment's, and nobody else's until it is taken over."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pyarrow as pa
import pytest

from etl_project.failures import Permanent
from etl_project.storage.contract import Request, Scope, Table, WriteRefused
from etl_project.storage.deployment import Deployment
from etl_project.storage.engines.duckdb_file import DuckDBStore
from etl_project.storage.engines.ducklake.engine import DuckLakeStore
from etl_project.storage.engines.postgres.engine import PostgresStore
from etl_project.storage.engines.server.tenants import AnothersTable
from etl_project.storage.tables.store import TableStore
from etl_project_tests import postgres

pytestmark = [pytest.mark.servers, postgres.needed]

DAY = date(2024, 3, 5)
HERE, THERE = Deployment(("a",), "one", "/srv/a"), Deployment(("b",), "two", "/srv/b")


def opened(kind: str, folder: Path, who: Deployment | None, **parts: str) -> TableStore:
    def writer() -> Deployment | None:
        return who

    if kind == "postgres":
        return PostgresStore(postgres.plain_url_of(folder, **parts), scratch=folder, writer=writer)
    return DuckLakeStore(postgres.url_of(folder, **parts), folder / "files", scratch=folder, writer=writer)


def put(store: TableStore, n: int, asset: str = "orders") -> None:
    data = pa.table({"batch_date": pa.array([DAY], pa.date32()), "n": [n]})
    store.replace(Table(asset, asset), Scope.days(DAY, DAY), data, Request("a run"))


def found(store: TableStore) -> list[object]:
    piece = store.read(Table("orders", "orders"), Scope.days(DAY, DAY))
    return [row["n"] for row in store.arrow(piece).to_pylist()]


@pytest.mark.parametrize("kind", ["postgres", "ducklake"])
def test_a_table_is_the_deployments_that_wrote_it_first_until_another_takes_it_over(kind: str, tmp_path: Path) -> None:
    here, there = opened(kind, tmp_path, HERE), opened(kind, tmp_path, THERE)
    put(here, 1)
    put(here, 2)
    whose = r"the deployment in /srv/a on one \(since .* UTC\).*/srv/b on two"
    with pytest.raises(AnothersTable, match=whose) as refused:
        put(there, 3)
    assert isinstance(refused.value, Permanent) and "\n" not in str(refused.value)
    assert postgres.conninfo_to_dict(postgres.SERVER)["password"] not in str(refused.value)
    assert found(here) == [2]
    put(there, 3, "payments")
    assert {asset: whose.folder for asset, whose in there.engine.tenants().items()} == {
        "orders": "/srv/a",
        "payments": "/srv/b",
    }
    there.engine.take_over(["orders"], THERE)
    put(there, 4)
    with pytest.raises(AnothersTable, match="/srv/b on two"):
        put(here, 5)
    assert found(here) == [4]


def test_what_was_noted_under_a_former_id_is_the_same_deployments(tmp_path: Path) -> None:
    put(opened("postgres", tmp_path, HERE), 1)
    shared = Deployment(("locks", "a"), "one", "/srv/a")
    put(opened("postgres", tmp_path, shared), 2)
    assert found(opened("postgres", tmp_path, None)) == [2]


@pytest.mark.parametrize("kind", ["postgres", "ducklake"])
def test_a_warehouse_from_before_is_adopted_by_whoever_writes_first(kind: str, tmp_path: Path) -> None:
    put(opened(kind, tmp_path, None), 1)
    assert opened(kind, tmp_path, None).engine.tenants() == {}
    put(opened(kind, tmp_path, THERE), 2)
    with pytest.raises(AnothersTable):
        put(opened(kind, tmp_path, HERE), 3)


@pytest.mark.parametrize("kind", ["postgres", "ducklake"])
def test_a_first_write_that_is_refused_keeps_nobody_out_and_a_later_one_stays_whose_it_is(
    kind: str, tmp_path: Path
) -> None:
    here, there = opened(kind, tmp_path, HERE), opened(kind, tmp_path, THERE)
    elsewhere = pa.table({"batch_date": pa.array([date(2020, 1, 1)], pa.date32()), "n": [9]})

    def refused(store: TableStore) -> None:
        with pytest.raises(WriteRefused):
            store.replace(Table("orders", "orders"), Scope.days(DAY, DAY), elsewhere, Request("a run"))

    refused(there)
    put(here, 1)
    refused(here)
    assert [whose.folder for whose in there.engine.tenants().values()] == ["/srv/a"]


def test_a_role_that_may_not_make_the_note_writes_as_before(tmp_path: Path) -> None:
    put(opened("postgres", tmp_path, None), 1)
    with postgres.role_of(tmp_path, "SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public") as role:
        less = opened("postgres", tmp_path, HERE, **role)
        put(less, 2)
        assert found(less) == [2] and less.engine.tenants() == {}
        put(opened("postgres", tmp_path, THERE), 3)
        put(less, 4)
        with pytest.raises(WriteRefused, match="permission denied"):
            less.engine.take_over(["orders"], HERE)


def test_a_file_is_nobodys_to_take_over(tmp_path: Path) -> None:
    engine = DuckDBStore(tmp_path / "w.duckdb").engine
    assert engine.tenants() == {}
    with pytest.raises(WriteRefused, match="no database on a server"):
        engine.take_over(["orders"], HERE)
