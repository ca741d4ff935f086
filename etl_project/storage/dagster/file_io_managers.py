"""The IO managers of files: a DuckDB file with tables, and Parquet files in a folder or a bucket.

Belongs here: their settings, and what of them two assets must not have in common. What they do is `io_manager`'s.
"""

from __future__ import annotations

import os
from collections.abc import Hashable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import dagster as dg
from pydantic import Field, field_validator

from etl_project.storage.contract import Store, Table
from etl_project.storage.dagster.io_manager import PartitionIOManager
from etl_project.storage.engines.duckdb_file import DuckDBStore
from etl_project.storage.lake import address, names
from etl_project.storage.lake.store import ParquetStore
from etl_project.storage.places import UnknownPlace, local_path


class DuckDBPartitionIOManager(PartitionIOManager):
    """Tables in a DuckDB file: one transaction a write, constraints kept, commit records inside."""

    url: str = Field(description="Path of the DuckDB file, with or without `duckdb:///` before it.")
    schema_: str | None = Field(default=None, alias="schema", description="Schema of the tables; `main` by default.")
    wait_seconds: float = Field(default=60.0, description="How long to wait for another process that holds the file.")
    memory_limit_mb: int | None = Field(default=None, description="What DuckDB may hold at once; its own default.")

    @field_validator("url", mode="after")
    @classmethod
    def _names_a_path(cls, url: str) -> str:
        """A wrong url is an error where it is written; what an environment variable holds is known later."""
        return url if isinstance(url, dg.EnvVar) else _checked(url, "url", "data/warehouse.duckdb")

    def store(self) -> DuckDBStore:
        """The DuckDB file."""
        limit: dict[str, str | int] = (
            {} if self.memory_limit_mb is None else {"memory_limit": f"{self.memory_limit_mb}MB"}
        )
        return DuckDBStore(self.url, self.wait_seconds, limit)

    def kept_open(self, store: Store, to_read: bool = False) -> AbstractContextManager[None]:
        """The file is opened once for the write and what it shows afterwards, and for all that an input reads."""
        return store.kept_open(to_read) if isinstance(store, DuckDBStore) else nullcontext()

    def default_schema(self) -> str | None:
        """The configured schema."""
        return self.schema_

    def place_of(self, table: Table) -> Hashable:
        """The table in the file. DuckDB tells names not apart by their case."""
        return _path(self.url), (table.schema or "main").lower(), table.name.lower()

    def shows(self, resource: Any) -> bool:
        """Whether it opens the same file."""
        path = Path(str(getattr(resource, "database", "")).removeprefix("duckdb:///"))
        own = Path(self.store().identity)
        return path.is_file() and own.is_file() and path.samefile(own)


class ParquetPartitionIOManager(PartitionIOManager):
    """Parquet files, one a partition: one rename or conditional PUT each, the commit record in the footer."""

    root: str = Field(description="Folder of the files, or `s3://bucket/prefix`.")
    wait_seconds: float = Field(default=60.0, description="How long to wait for another writer of a partition.")
    cache: str | None = Field(
        default=None,
        description="Folder for the commit records of unchanged files, so that a look at all of them opens none. "
        "It may be deleted at any time.",
    )
    memory_limit_mb: int | None = Field(
        default=None,
        description="What a write or a read may hold at once; 805 MB, or 268 for each core if that is more.",
    )

    @field_validator("root", mode="after")
    @classmethod
    def _names_a_path(cls, root: str) -> str:
        """A wrong root is an error where it is written; what an environment variable holds is known later."""
        if isinstance(root, dg.EnvVar):
            return root
        try:
            return address.of(root).url if address.is_bucket(root) else _checked(root, "root", "data/lake")
        except UnknownPlace as error:
            raise ValueError(str(error)) from error

    def store(self) -> ParquetStore:
        """The folder or the bucket."""
        cache = None if self.cache is None else Path(self.cache)
        return ParquetStore(self.root, self.wait_seconds, cache, self.memory_limit_mb)

    def place_of(self, table: Table) -> Hashable:
        """The folder of the asset. Some file systems tell names not apart by their case."""
        return self.root if address.is_bucket(self.root) else _path(self.root), names.encoded(table.asset).lower()


def _path(setting: str) -> Hashable:
    """The path, through links; an environment variable stands for what it will hold."""
    if isinstance(setting, dg.EnvVar):
        return "env", setting.env_var_name
    return os.path.realpath(local_path(setting, "url", "w.duckdb"))


def _checked(value: str, setting: str, example: str) -> str:
    try:
        local_path(value, setting, example)
    except UnknownPlace as error:
        raise ValueError(str(error)) from error
    return value
