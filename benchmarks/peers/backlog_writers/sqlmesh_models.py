"""SQLMesh with DuckDB: two models of kind INCREMENTAL_BY_TIME_RANGE; the corrected day restated, as its docs say."""

from __future__ import annotations

import os

os.environ["SQLMESH__DISABLE_ANONYMIZED_ANALYTICS"] = "true"

from common import Asked, aggregate, asked, tell, typed
from sqlmesh import Context

_CONFIG = """
gateways:
  local:
    connection: {{type: duckdb, database: "{warehouse}", connector_config: {{TimeZone: UTC}}}}
default_gateway: local
model_defaults: {{dialect: duckdb, start: "{first}"}}
"""
_MODEL = """
MODEL (name main_data.{name}, kind INCREMENTAL_BY_TIME_RANGE (time_column batch_date), start '{first}');
SELECT * FROM ({query}) AS found WHERE batch_date BETWEEN @start_ds AND @end_ds
"""


def main() -> None:
    work = asked()
    if work.everything:
        _project(work)
    context = Context(paths=[str(work.folder)])
    if work.everything:
        context.plan(auto_apply=True, no_prompts=True)
    else:
        context.plan(
            auto_apply=True, no_prompts=True, restate_models=["main_data.orders"], start=work.first, end=work.last
        )
    context.close()
    tell(work.warehouse, "main_data.orders", "main_data.daily_sales")


def _project(work: Asked) -> None:
    models = work.folder / "models"
    models.mkdir()
    (work.folder / "config.yaml").write_text(_CONFIG.format(warehouse=work.warehouse, first=work.first))
    queries = {"orders": typed(f"'{work.folder}/files/*.csv'"), "daily_sales": aggregate("main_data.orders")}
    for name, query in queries.items():
        (models / f"{name}.sql").write_text(_MODEL.format(name=name, first=work.first, query=query))


if __name__ == "__main__":
    main()
