"""What every test starts from."""

from __future__ import annotations

import os

from hypothesis import settings

from etl_project_tests.deployments import FIRST_DAY

# The assets of a process all have the days of the setting that was there when they were loaded, so one for all tests.
os.environ.setdefault("ETL_START_DATE", FIRST_DAY)

# The same tests must give the same answer twice: by default every property is tried on a fixed set of examples.
# `make long` draws new ones and prints the seed that gives them again.
settings.register_profile("fixed", derandomize=True, database=None, deadline=None, print_blob=False)
settings.register_profile("drawn", derandomize=False, database=None, deadline=None, print_blob=True)
settings.load_profile("fixed")
