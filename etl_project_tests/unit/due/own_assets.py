"""A project made of assets of a test's own, on real stores and runs: what tests of drains over them work with."""

# No `from __future__ import annotations` here: Dagster reads the annotation of `context` as it stands.

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import pytest

from etl_project import settings, utc
from etl_project.definitions import wire
from etl_project.due import sensor
from etl_project.due.attempts import DAYS_JOB, REFUSE_JOB
from etl_project.due.drain import Drained, Wish, drain
from etl_project.due.execution import Deployment
from etl_project.due.following import nodes
from etl_project.due.snapshot import Project, look
from etl_project.http_out import settings as delivery_settings
from etl_project.http_out.resource import Delivery
from etl_project.storage import DuckDBStore

DAYS = dg.DailyPartitionsDefinition("2025-03-01", timezone="UTC", end_offset=1)
WEEKS = dg.WeeklyPartitionsDefinition("2025-03-02", timezone="UTC")
MARCH = [f"2025-03-{n:02}" for n in range(1, 32)]


class World:
    """A project made of some assets; `amounts` are what the first asset gives for a day."""

    def __init__(self, deployment: Deployment, definitions: dg.Definitions) -> None:
        self.deployment, self.definitions = deployment, definitions
        self.amounts: dict[str, int] = {}

    def build(self, asset: str, *days: str, **tags: str) -> bool:
        """Build an asset by hand, one run a day; whether all went well."""
        job = self.deployment.jobs[DAYS_JOB if asset != "week" else "build_weeks"]
        made = [
            job.execute_in_process(
                instance=self.deployment.instance,
                asset_selection=[dg.AssetKey(asset)],
                tags={**({utc.PARTITION_TAG: day} if day else {}), **tags},
                raise_on_error=False,
            )
            for day in days
        ]
        return all(one.success for one in made)

    def drain(self, **wish: Any) -> Drained:
        return drain(self.deployment, wish=Wish(**wish))

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        with DuckDBStore(self.deployment.project.settings.warehouse).connect() as connection:
            return connection.execute(sql).fetchall()

    def waits(self) -> list[str]:
        """What the sensor says of what it does not ask for."""
        found = look(self.deployment.project, utc.now(), self.deployment.instance)
        return sensor.decide(self.deployment.project, found, self.deployment.instance)[1]


@contextmanager
def world(
    folder: Path, monkeypatch: pytest.MonkeyPatch, assets: Sequence[Any], checks: Sequence[Any] = ()
) -> Iterator[World]:
    environment = {"ETL_DATA_DIR": str(folder), "ETL_START_DATE": "2025-03-01", "ETL_WAIT_SECONDS": "1"}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    configured = settings.load()
    delivery = Delivery(delivery_settings.outgoing(), configured.data_dir / "delivery.sqlite")
    declared = dg.Definitions(assets=assets, asset_checks=checks, resources={"delivery": delivery})
    project = Project(configured, (), nodes(declared))
    definitions = wire(project, declared, weekly_checks=False)
    with dg.DagsterInstance.ephemeral() as instance:
        jobs = {name: definitions.resolve_job_def(name) for name in {*(node.job for node in project.nodes), REFUSE_JOB}}
        yield World(Deployment(project, jobs, instance), definitions)


def amounts_of(made: "dict[str, World]") -> dg.AssetsDefinition:
    """An asset `moves` with one row a day: what its world says."""

    @dg.asset(partitions_def=DAYS)
    def moves(context: dg.AssetExecutionContext) -> pd.DataFrame:
        day = context.partition_key
        amount = made["world"].amounts.get(day, 1)
        return pd.DataFrame({"batch_date": [pd.Timestamp(day).date()], "amount": [amount]})

    return moves


def copy(name: str, partitions: Any = DAYS, **options: Any) -> dg.AssetsDefinition:
    @dg.asset(name=name, partitions_def=partitions, metadata={"partition_column": "batch_date"}, **options)
    def body(moves: pd.DataFrame) -> pd.DataFrame:
        return moves

    return body
