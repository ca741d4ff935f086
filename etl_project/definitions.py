"""All wiring, nothing else: pipelines, resources, jobs, sensor and schedule as one set of definitions."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping
from datetime import date
from functools import lru_cache  # noqa: TID251  # What it keeps, the process of a run keeps anyway, until it ends.
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import dagster as dg
from dagster._utils.warnings import disable_dagster_warnings

from etl_project import loading, openlineage, settings, utc
from etl_project.contract_change import contract_job
from etl_project.declare import LAKE, WAREHOUSE, code_version, days_from, warehouse_io_manager, warehouse_resource
from etl_project.due import (
    DAYS_JOB,
    Days,
    Project,
    asset_specs,
    at_most,
    closed_day_schedule,
    fetch_jobs,
    fetch_sensors,
    first_day,
    jobs_of,
    many_days_jobs,
    nodes,
    pending_sensor,
    refuse_job,
    say_by_hand,
)
from etl_project.exclusion import RunLock
from etl_project.http_out import Delivery, delivery_definitions
from etl_project.http_out import settings as delivery_settings
from etl_project.instance import json_logs
from etl_project.kafka import KafkaSource, Subscription
from etl_project.proofs import job as verify_job
from etl_project.proofs import reproducible, rollback_job, stored_assets
from etl_project.sources import MistakeInPipeline, Pipelines, buildable
from etl_project.storage import ParquetPartitionIOManager, checked
from etl_project.watch import alerts_sensor as alerts_sensor_module
from etl_project.watch import left_failed_checks, maintain

_BETA = ("owners` of initializer `SensorDefinition.__init__", "execution_type` of function `AssetsDefinition.__init__")
"""Dagster gives these itself when it copies sensors and checks, and warns of its own doing at every start."""


ROOT = Path(__file__).parent.parent


def build_defs(*, resources: Mapping[str, Any] | None = None) -> dg.Definitions:
    """Everything in `pipelines/`, wired up. `resources` replace or add to the default ones, by key."""
    for parameter in _BETA:
        warnings.filterwarnings("ignore", f"Parameter `{parameter}`", dg.BetaWarning)
    warnings.filterwarnings("ignore", "Specifying a partitions_def on an AssetCheckSpec", dg.PreviewWarning)
    return wire(*load_project(), resources=resources)


def wire(
    project: Project, assets: dg.Definitions, resources: Mapping[str, Any] | None = None, *, weekly_checks: bool = True
) -> dg.Definitions:
    """Assets, resources, jobs, sensor and schedule as one set.

    Without `weekly_checks` the definitions lack the checks that look at more than the days of a run: a run of selected
    assets takes along every check that is defined for them, whatever its job says.
    """
    resources = {**default_resources(project.settings), **(resources or {})}
    stored = stored_assets(checked(assets, resources), resources)
    verify = verify_job.checks(stored) if weekly_checks else []
    whole = [*verify, *(left_failed_checks(project) if weekly_checks else [])]
    left_out = dg.AssetSelection.checks(*(key for one in whole for key in one.check_keys))
    build = {
        name: dg.define_asset_job(
            name,
            selection=dg.AssetSelection.assets(*keys) - left_out if keys else dg.AssetSelection.all() - left_out,
            description="Any assets over any days." if name == DAYS_JOB else "Any assets over any of their partitions.",
        )
        for name, keys in jobs_of(asset_specs(assets)).items()
    }
    days = build[DAYS_JOB]
    without_days = [refuse_job(project), *many_days_jobs(project)]
    weekly, weekly_schedule = verify_job.weekly(verify)
    maintenance, maintenance_schedules = maintain.weekly(project)
    wiring = dg.Definitions(
        resources=resources,
        asset_checks=[*whole, *reproducible.checks(stored)],
        jobs=[
            *build.values(),
            *without_days,
            *fetch_jobs(project),
            weekly,
            *maintenance,
            contract_job(project, stored),
            *rollback_job.jobs(stored),
        ],
        sensors=[
            pending_sensor(project, [*build.values(), *without_days]),
            *fetch_sensors(project),
            alerts_sensor_module.alerts_sensor(project, (assets.resources or {})["delivery"]),
            *openlineage.sensors(project.settings, asset_specs(assets)),
        ],
        schedules=[closed_day_schedule(project, days), weekly_schedule, *maintenance_schedules],
        # In process: the assets are one query each, and a process a step would cost more than all of them.
        executor=dg.in_process_executor,
    )
    return dg.Definitions.merge(assets, wiring)


def load_project(earliest: date | None = None, *, strict: bool = True) -> tuple[Project, dg.Definitions]:
    """The sources and assets that `pipelines/` declares, before any wiring.

    Their days begin with the data, or on ETL_START_DATE; or on `earliest`, for who brings data of that day.
    Raises MistakeInPipeline (retrying does not help) where a `defs.yaml` or `contract.sql` cannot be used; if not
    `strict`, the project names it, and has everything else.
    """
    json_logs.use_json_lines()
    # Backfill policies and code references are marked beta or preview; the pinned version is the one that is tested.
    with disable_dagster_warnings(), loading.without_collections():
        project, assets = _load_project(earliest)
    if strict and project.broken:
        raise MistakeInPipeline("\n".join(project.broken))
    say_by_hand(project.nodes)
    return project, assets


def subscriptions(on_broken: Callable[[str], None]) -> tuple[Subscription, ...]:
    """What the Kafka sources in `pipelines/` land; a pipeline that cannot be used is told, in one line."""
    with disable_dagster_warnings():
        found = Pipelines(pipelines(), ROOT)
    for line in found.broken.values():
        on_broken(line)
    sources = ((one.folder, one.component) for one in found.sources)
    return tuple(source.subscription(folder) for folder, source in sources if isinstance(source, KafkaSource))


def pipelines() -> ModuleType:
    """The package whose folders are the pipelines. Raises SettingsError where ETL_PIPELINES names none."""
    name = settings.pipelines()
    try:
        package = import_module(name)
        problem = "" if package.__file__ else f"it has no __init__.py in {next(iter(package.__path__))}"
    except ImportError as error:
        problem = str(error)
    if problem:
        raise settings.SettingsError(
            f"ETL_PIPELINES={name!r} is no package of pipelines: {problem}; name one on the Python path, "
            "like shop.pipelines."
        )
    return package


def _load_project(earliest: date | None) -> tuple[Project, dg.Definitions]:
    found = Pipelines(pipelines(), ROOT)
    configured = settings.load()
    delivery = Delivery(delivery_settings.outgoing(), configured.data_dir / "delivery.sqlite")
    first = first_day.of(configured, [one.spec for one in found.sources], utc.now())
    first = min(first, earliest) if earliest else first
    with days_from(first):
        assets = dg.Definitions.merge(found.definitions(), delivery_definitions(delivery))
    waiting: list[str] = []
    if found.broken:
        assets, waiting = buildable(assets)
    assets = code_version.filled_in(assets)
    sources = tuple(one.spec for one in found.sources if one.folder not in found.broken)
    followed = at_most(nodes(assets, first if configured.begins_with_data else None), configured.days_per_run)
    first_day.remember_without_days(configured, {node.asset: isinstance(node.keys, Days) for node in followed})
    held = tuple(f"{name} waits: what it reads cannot be loaded" for name in waiting)
    return Project(configured, sources, followed, first, tuple(found.broken.values()), held), assets


def default_resources(configured: settings.Settings) -> dict[str, Any]:
    """The IO managers and the DuckDB resource on the files of the data folder."""
    lock = RunLock(
        state=str(configured.state),
        locks=dg.EnvVar(settings.LOCKS_URL) if configured.locks_url else None,
        lease_seconds=configured.lease_seconds,
        wait_seconds=configured.wait_seconds,
    )
    warehouse = warehouse_io_manager(configured, lock)
    return {
        WAREHOUSE: warehouse,
        "io_manager": warehouse,
        LAKE: ParquetPartitionIOManager(
            root=str(configured.lake),
            wait_seconds=configured.wait_seconds,
            cache=str(configured.cache),
            run_lock=lock,
            preview_rows=configured.preview_rows,
            keep_versions=configured.keep_versions,
            keep_versions_days=configured.keep_versions_days,
            record_inputs=configured.openlineage_url is not None,
            memory_limit_mb=configured.memory_limit_mb,
            pandas_dtypes="pyarrow",
        ),
        "run_lock": lock,
        "duckdb": warehouse_resource(configured),
    }


@dg.definitions
def defs() -> dg.Definitions:
    """What `dagster dev` and the run workers load."""
    # Definitions live as long as the process. Left to the collector, it walks through all of them again and again while
    # a tick looks at tens of thousands of commits: a third of the tick.
    with loading.without_collections():
        if not loading.is_for_a_run():
            _loaded.cache_clear()
        return _loaded(frozenset(os.environ.items()))


@lru_cache(maxsize=1)
def _loaded(_environ: frozenset[tuple[str, str]]) -> dg.Definitions:
    """The definitions of this process, loaded once until somebody asks for those that are there now.

    Dagster asks a code server twice as it starts, and the process of a run once for the whole job and once for the
    assets of it that the run is about: it remembers the definitions of one job only
    (`ReconstructableJob.get_definition`), so that every run of the sensor loaded the project twice.
    """
    return build_defs()
