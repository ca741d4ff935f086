"""The former place of `daily_table`, for the `assets.py` of existing pipelines; new ones use `etl_project.declare`."""

from etl_project.declare import daily_partitions, daily_table, single_run, table_contract

__all__ = ["daily_partitions", "daily_table", "single_run", "table_contract"]
