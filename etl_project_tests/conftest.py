"""What every test starts from."""

from __future__ import annotations

import os

from etl_project_tests.deployments import FIRST_DAY

# The assets of a process all have the days of the setting that was there when they were loaded, so one for all tests.
os.environ.setdefault("ETL_START_DATE", FIRST_DAY)
