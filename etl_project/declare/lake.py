"""Lake: the store of the raw files that the settings name.

Belongs here: the one place that knows how it is opened. What it remembers of its files lies in the data folder.
"""

from __future__ import annotations

from etl_project.settings import Settings
from etl_project.storage import ParquetStore


def lake(configured: Settings) -> ParquetStore:
    """The raw files and their commit records, in a folder or a bucket. Nothing is opened.

    Raises UnknownPlace and ExtraMissing (retrying does not help).
    """
    return ParquetStore(configured.lake, configured.wait_seconds, cache=configured.cache)
