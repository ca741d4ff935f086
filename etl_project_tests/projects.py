"""Help for tests with sources of their own: a whole project made of pipeline folders that the test writes.

Everything runs in the test's process, as recorded Dagster runs of the real jobs, in a data folder of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

import dagster as dg
import yaml

from etl_project import settings
from etl_project.definitions import wire
from etl_project.due.attempts import DAYS_JOB, MANY_DAYS_JOB, REFUSE_JOB
from etl_project.due.drain import Deployment, Drained, drain
from etl_project.due.snapshot import Project, nodes
from etl_project.http_out import settings as delivery_settings
from etl_project.http_out.resource import Delivery
from etl_project.sources import assets as incoming_assets
from etl_project.sources.component import FileSource
from etl_project.storage import DuckDBStore


class SourceProject:
    """A project with one declared source; `data` is its data folder."""

    def __init__(self, data: Path, deployment: Deployment, definitions: dg.Definitions) -> None:
        self.data = data
        self.deployment = deployment
        self.definitions = definitions

    def drop(self, name: str, text: str) -> None:
        """Put a file into the drop folder of the source, settled."""
        [spec] = self.deployment.project.sources
        path = self.data / "incoming" / spec.name / name
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_name(f".{path.name}.tmp")
        aside.write_text(text)
        aside.rename(path)

    def drain(self) -> Drained:
        """Run what is pending until nothing is."""
        return drain(self.deployment)

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """Rows of a query on the warehouse."""
        with DuckDBStore(self.data / "warehouse.duckdb").connect() as connection:
            connection.execute("set timezone = 'UTC'")
            return connection.execute(sql).fetchall()

    def checks(self, first: date, last: date, *names: str) -> dict[str, bool]:
        """The named asset checks, run over these days on their own."""
        job = dg.define_asset_job("checks", selection=dg.AssetSelection.all_asset_checks())
        resolved = dg.Definitions.merge(self.definitions, dg.Definitions(jobs=[job])).resolve_job_def("checks")
        done = resolved.execute_in_process(instance=self.deployment.instance)
        return {e.check_name: e.passed for e in done.get_asset_check_evaluations() if e.check_name in names}


@contextmanager
def source_project(
    folder: Path, defs: Mapping[str, Any], contract: str, monkeypatch: Any, **environment: str
) -> Iterator[SourceProject]:
    """A project whose only pipeline has these `attributes` in its defs.yaml and this contract.sql."""
    pipeline = folder / "pipelines" / str(defs["name"])
    pipeline.mkdir(parents=True, exist_ok=True)
    (pipeline / "contract.sql").write_text(contract)
    (pipeline / "defs.yaml").write_text(yaml.safe_dump({"type": "FileSource", "attributes": dict(defs)}))
    for name, value in {"ETL_DATA_DIR": str(folder / "data"), "ETL_SETTLE_SECONDS": "0", **environment}.items():
        monkeypatch.setenv(name, value)
    component = FileSource(**defs)
    spec = component.spec(pipeline)
    configured = settings.load()
    delivery = Delivery(delivery_settings.outgoing(), configured.data_dir / "delivery.sqlite")
    own = component._limited(incoming_assets.definitions(spec, component.contract(pipeline), component, pipeline))
    assets = dg.Definitions.merge(own, dg.Definitions(resources={"delivery": delivery}))
    project = Project(configured, (spec,), nodes(assets))
    definitions = wire(project, assets, weekly_checks=False)
    with dg.DagsterInstance.ephemeral() as instance:
        names = (DAYS_JOB, REFUSE_JOB, *([MANY_DAYS_JOB] if spec.day_from is not None else []))
        jobs = {name: definitions.resolve_job_def(name) for name in names}
        yield SourceProject(folder / "data", Deployment(project, jobs, instance), definitions)
