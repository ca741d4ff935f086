"""Instance: Dagster's own storage under the data folder, and how runs and commands log."""

from etl_project.instance.home import *  # noqa: F403
