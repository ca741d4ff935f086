"""Real processes for tests, forked from one that has everything imported: half the price of a start from nothing.

Belongs here: the one fork server of a test process. There can be no second: what was last said to be loaded holds for
all, so every test takes its processes from here.
"""

from __future__ import annotations

import multiprocessing

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["etl_project_tests.warm"])
