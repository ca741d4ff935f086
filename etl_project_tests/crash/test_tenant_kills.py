"""Kills while it is noted, or taken over, whose a table is: it is one deployment's after that, which works on."""

from __future__ import annotations

import os
import signal
from datetime import date
from pathlib import Path

import pyarrow as pa
import pytest

pytest.importorskip("psycopg", reason="needs the extra `postgres`")

from etl_project.storage.contract import Request, Scope, Table
from etl_project.storage.deployment import Deployment
from etl_project.storage.engines.ducklake.engine import DuckLakeStore
from etl_project.storage.engines.postgres.engine import PostgresStore
from etl_project.storage.engines.server.tenants import AnothersTable
from etl_project.storage.tables.store import TableStore
from etl_project_tests import postgres
from etl_project_tests.contracts import world

pytestmark = [pytest.mark.servers, postgres.needed]

DAY = date(2024, 3, 5)
SCOPE = Scope.days(DAY, DAY)
ASSETS = ("orders", "payments")
HERE, THERE = "here", "there"
KINDS = ["postgres", "ducklake"]


def opened(kind: str, folder: Path, who: str) -> TableStore:
    def writer() -> Deployment:
        return Deployment((who,), f"machine-{who}", f"/srv/{who}")

    if kind == "postgres":
        return PostgresStore(postgres.plain_url_of(folder), scratch=folder, writer=writer)
    return DuckLakeStore(postgres.url_of(folder), folder / "files", scratch=folder, writer=writer)


def put(kind: str, folder: Path, who: str, n: int, fault: str = "") -> None:
    if fault:
        os.environ["ETL_FAULT"] = fault
    data = pa.table({"batch_date": pa.array([DAY], pa.date32()), "n": [n]})
    for asset in ASSETS:
        opened(kind, folder, who).replace(Table(asset, asset), SCOPE, data, Request("a run"))


def take_over(kind: str, folder: Path, who: str, fault: str) -> None:
    os.environ["ETL_FAULT"] = fault
    store = opened(kind, folder, who)
    deployment = Deployment((who,), f"machine-{who}", f"/srv/{who}")
    store.engine.take_over(ASSETS, deployment)


def found(kind: str, folder: Path, asset: str = "orders") -> list[object]:
    store = opened(kind, folder, HERE)
    return [row["n"] for row in store.arrow(store.read(Table(asset, asset), SCOPE)).to_pylist()]


def noted(kind: str, folder: Path) -> dict[str, str]:
    return {asset: whose.id for asset, whose in opened(kind, folder, HERE).engine.tenants().items()}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("step", ["tenants.noted", "after_claim", "before_commit", "after_commit"])
def test_a_first_writer_killed_after_its_note_goes_on_and_another_deployment_is_refused(
    kind: str, step: str, tmp_path: Path
) -> None:
    fault = step if step.startswith("tenants.") else f"{kind}.{step}"
    assert world.finish(put, kind, tmp_path, HERE, 1, f"{fault}=kill") == -signal.SIGKILL
    assert noted(kind, tmp_path) == {"orders": HERE}
    with pytest.raises(AnothersTable, match="/srv/here on machine-here"):
        put(kind, tmp_path, THERE, 9)
    for _ in range(2):
        put(kind, tmp_path, HERE, 2)
        assert found(kind, tmp_path) == found(kind, tmp_path, "payments") == [2]
    assert noted(kind, tmp_path) == dict.fromkeys(ASSETS, HERE)


@pytest.mark.parametrize("kind", KINDS)
def test_one_killed_before_its_note_keeps_nobody_out(kind: str, tmp_path: Path) -> None:
    assert world.finish(put, kind, tmp_path, HERE, 1, "tenants.made=kill") == -signal.SIGKILL
    assert noted(kind, tmp_path) == {}
    put(kind, tmp_path, THERE, 9)
    with pytest.raises(AnothersTable, match="/srv/there on machine-there"):
        put(kind, tmp_path, HERE, 1)
    assert found(kind, tmp_path) == [9]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("step", "whose"),
    [("tenants.taking_over:1", HERE), ("tenants.taking_over:2", HERE), ("tenants.taken_over", THERE)],
)
def test_a_take_over_that_is_killed_takes_all_tables_or_none(kind: str, step: str, whose: str, tmp_path: Path) -> None:
    put(kind, tmp_path, HERE, 1)
    assert world.finish(take_over, kind, tmp_path, THERE, f"{step}=kill") == -signal.SIGKILL
    assert noted(kind, tmp_path) == dict.fromkeys(ASSETS, whose) and found(kind, tmp_path) == [1]
    other = THERE if whose == HERE else HERE
    with pytest.raises(AnothersTable, match=f"/srv/{whose} on machine-{whose}"):
        put(kind, tmp_path, other, 9)
    put(kind, tmp_path, whose, 2)
    assert found(kind, tmp_path) == found(kind, tmp_path, "payments") == [2]
