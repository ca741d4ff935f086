"""The sensor `openlineage`: tells of every run that has ended. A thin shell over `telling`."""

# No `from __future__ import annotations` here: Dagster reads the annotation of `context` as it stands.

from collections.abc import Sequence
from importlib.util import find_spec

import dagster as dg

from etl_project.openlineage import telling
from etl_project.settings import OPENLINEAGE_URL, Settings
from etl_project.storage import ExtraMissing


def sensors(configured: Settings, specs: Sequence[dg.AssetSpec]) -> list[dg.SensorDefinition]:
    """The sensor where ETL_OPENLINEAGE_URL names a receiver, else none. Raises ExtraMissing: retrying does not help."""
    if configured.openlineage_url is None:
        return []
    if find_spec("openlineage") is None:
        raise ExtraMissing(
            f"{OPENLINEAGE_URL} is set, and OpenLineage's client is not installed; run "
            "pip install 'etl-project[openlineage]', or unset it."
        )
    columns = telling.columns_of(specs)

    @dg.sensor(
        name="openlineage",
        minimum_interval_seconds=30,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Tells ETL_OPENLINEAGE_URL of every run that has ended: what it read and wrote.",
    )
    def tell(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        found = telling.tell(context.instance, configured, columns)
        for problem in found.problems:
            context.log.error(problem)
        left = f", {found.left} left for the next tick; the tick's log says why" if found.left else ""
        return dg.SkipReason(f"{found.runs} runs told{left}")

    return [tell]
