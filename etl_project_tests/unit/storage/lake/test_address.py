"""The address of a lake in a bucket: what is none is refused where it is written, and no secret is shown."""

from __future__ import annotations

import subprocess
import sys

import dagster as dg
import pytest

from etl_project.storage import ParquetPartitionIOManager, ParquetStore
from etl_project.storage.lake import address
from etl_project.storage.places import UnknownPlace


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("s3://bucket", "s3://bucket"),
        ("s3a://bucket/a/b/", "s3://bucket/a/b"),
        ("S3://bucket/a b", "s3://bucket/a b"),
    ],
)
def test_a_bucket_and_its_prefix_are_told_apart(said: str, meant: str) -> None:
    assert address.is_bucket(said) and address.of(said).url == meant


@pytest.mark.parametrize(
    "said", ["data/lake", "gs://bucket/x", "az://account/box/x", "/s3://x", "md:x", "https://host/x", "s3:bucket"]
)
def test_other_places_are_no_buckets(said: str) -> None:
    assert not address.is_bucket(said)


@pytest.mark.parametrize(
    "said",
    [
        "s3://",
        "s3://k:hunter22@bucket/x",
        "s3://k:not/hunter22@bucket/x",
        "s3://k:hunter22/x",
        "s3://bucket/x?key=hunter22",
        "s3://bucket//x",
        "s3://bucket/../x",
    ],
)
def test_an_address_that_is_none_is_refused_where_it_is_written(said: str) -> None:
    for make in (ParquetStore, lambda root: ParquetPartitionIOManager(root=root)):
        with pytest.raises((UnknownPlace, ValueError), match="s3://bucket/prefix") as refusal:
            make(said)
        assert "hunter22" not in str(refusal.value)


def test_an_io_manager_names_a_bucket_and_opens_nothing() -> None:
    manager = ParquetPartitionIOManager(root="s3://bucket/lake/")
    assert manager.root == "s3://bucket/lake"
    assert isinstance(ParquetPartitionIOManager(root=dg.EnvVar("LAKE")).root, dg.EnvVar)


def test_a_missing_extra_is_one_line() -> None:
    script = (
        "import sys; sys.modules['obstore'] = None\n"
        "from etl_project.storage import ParquetPartitionIOManager\n"
        "manager = ParquetPartitionIOManager(root='s3://bucket/lake')\n"
        "try: manager.store()\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("ExtraMissing") and "pip install 'etl-project[s3]'" in done.stdout
    assert done.stdout.count("\n") == 1
