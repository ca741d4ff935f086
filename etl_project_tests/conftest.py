"""What every test starts from."""

from __future__ import annotations

import gc
import os

from hypothesis import settings

from etl_project_tests.deployments import FIRST_DAY, SHOP

# No test depends on what somebody has set for the project's own use, nor on the pipelines that users replace.
for _name in [name for name in os.environ if name.startswith("ETL_") and not name.startswith("ETL_TEST_")]:
    del os.environ[_name]
os.environ.pop("DAGSTER_HOME", None)
os.environ["ETL_PIPELINES"] = SHOP
# The assets of a process all have the days of the setting that was there when they were loaded, so one for all tests.
os.environ["ETL_START_DATE"] = FIRST_DAY

# The same tests must give the same answer twice: by default every property is tried on a fixed set of examples.
# `make long` draws new ones and prints the seed that gives them again.
settings.register_profile("fixed", derandomize=True, database=None, deadline=None, print_blob=False)
settings.register_profile("drawn", derandomize=False, database=None, deadline=None, print_blob=True)
settings.load_profile("fixed")


def pytest_collection_finish() -> None:
    """Leave what is imported by now to itself: the collector would walk through all of Dagster again and again."""
    gc.collect()
    gc.freeze()
