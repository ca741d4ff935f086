"""dbt with DuckDB: two incremental models with the microbatch strategy, as its page on microbatch says."""

from __future__ import annotations

from datetime import date, timedelta

from common import Asked, aggregate, asked, tell, typed
from dbt.cli.main import dbtRunner

_PROJECT = """
name: backlog
version: "1.0"
profile: backlog
model-paths: [models]
flags: {send_anonymous_usage_stats: false}
"""
_PROFILE = """
backlog:
  target: dev
  outputs:
    dev: {{type: duckdb, path: "{warehouse}", threads: 1, settings: {{TimeZone: UTC}}}}
"""
_CONFIG = """
{{{{ config(materialized='incremental', incremental_strategy='microbatch', event_time='batch_date', batch_size='day',
            begin='{first}', concurrent_batches=false) }}}}
"""


def main() -> None:
    work = asked()
    if work.everything:
        _project(work)
    following = (date.fromisoformat(work.last) + timedelta(days=1)).isoformat()
    where = ["--project-dir", str(work.folder), "--profiles-dir", str(work.folder), "--quiet"]
    outcome = dbtRunner().invoke(["run", *where, "--event-time-start", work.first, "--event-time-end", following])
    if not outcome.success:
        raise SystemExit(f"dbt: {outcome.exception or [str(one.message) for one in outcome.result or []]}")
    tell(work.warehouse, "main.orders", "main.daily_sales")


def _project(work: Asked) -> None:
    """The files as a view with the day as its event time: what a batch reads is filtered by dbt."""
    models = work.folder / "models"
    models.mkdir()
    config = _CONFIG.format(first=work.first)
    files = f"'{work.folder}/files/*.csv'"
    arrived = "{{ config(materialized='view', event_time='batch_date') }}"
    (models / "arrived.sql").write_text(arrived + typed(files))
    (models / "orders.sql").write_text(config + "SELECT * FROM {{ ref('arrived') }}")
    (models / "daily_sales.sql").write_text(config + aggregate("{{ ref('orders') }}"))
    events = "models:\n" + "".join(
        f"  - name: {name}\n    config: {{event_time: batch_date}}\n" for name in ("orders",)
    )
    (models / "models.yml").write_text("version: 2\n" + events)
    (work.folder / "dbt_project.yml").write_text(_PROJECT)
    (work.folder / "profiles.yml").write_text(_PROFILE.format(warehouse=work.warehouse))


if __name__ == "__main__":
    main()
