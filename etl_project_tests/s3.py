"""An S3 server for tests: ETL_TEST_S3 names a bucket on it, AWS_ENDPOINT_URL and its like the way there.

Belongs here: a prefix of its own for each folder that a test works in, so that a folder is all that a process needs to
be told. Nothing is removed: `.ci/run` throws the whole server away.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from etl_project.storage.lake import address
from etl_project.storage.lake.store import ParquetStore

BUCKET = os.environ.get("ETL_TEST_S3", "")
WAIT_SECONDS = 240
"""For others that are in the way: for as long as any of them may need on a busy machine."""
needed = pytest.mark.skipif(
    not BUCKET, reason="needs an S3 server: ETL_TEST_S3=s3://bucket, and the AWS_ variables (deploy/s3/start.sh)"
)


def url_of(folder: Path) -> str:
    """The lake of a folder, as empty as the folder is when it is made.

    pytest takes the name of a folder again once a test has passed and its folder is gone; its number in the file system
    is another one then (in memory always, where the tests work).
    """
    folder.mkdir(parents=True, exist_ok=True)
    which = f"{folder} {folder.stat().st_ino}"
    return f"{BUCKET}/{hashlib.sha256(which.encode()).hexdigest()[:16]}"


def lake_of(folder: Path) -> ParquetStore:
    """The lake of a folder, with its copies in it."""
    return ParquetStore(url_of(folder), wait_seconds=WAIT_SECONDS, cache=folder / "cache")


def objects_of(folder: Path):  # type: ignore[no-untyped-def]  # Its type needs the extra.
    """What the lake of a folder is made of, for what tests do behind the back of the code."""
    from etl_project.storage.lake.objects import Objects  # noqa: PLC0415

    return Objects(address.of(url_of(folder)))
