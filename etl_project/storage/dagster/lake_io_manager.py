"""The IO manager of a DuckLake: the storage contract for runs on more than one machine.

Belongs here: its settings, and nothing else. What it needs beside (the extra `ducklake`) is loaded with its store, so
that definitions which only name it load without.

    from etl_project.storage import DuckLakePartitionIOManager
    DuckLakePartitionIOManager(url=dg.EnvVar("WAREHOUSE"), data="s3://bucket/warehouse")
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import Field

from etl_project.storage.contract import Table
from etl_project.storage.dagster.io_manager import PartitionIOManager

if TYPE_CHECKING:
    from etl_project.storage.engines.ducklake.engine import DuckLakeStore


class DuckLakePartitionIOManager(PartitionIOManager):
    """Tables in a DuckLake with its catalog in PostgreSQL: one transaction a write, commit records inside."""

    url: str = Field(
        description="`ducklake:postgres:` and what libpq takes: `dbname=... host=...`. With a password in it, give it "
        "as an EnvVar: Dagster shows the others. PGPASSWORD and ~/.pgpass work as well."
    )
    data: str = Field(description="Where the files lie: a folder that every machine sees, or `s3://bucket/prefix`.")
    schema_: str | None = Field(default=None, alias="schema", description="Schema of the tables; `main` by default.")
    wait_seconds: float = Field(default=60.0, description="How long to wait for other writers of a table.")
    memory_limit_mb: int | None = Field(default=None, description="What DuckDB may hold at once; its own default.")
    scratch: str | None = Field(default=None, description="Where what exceeds it goes; the system's temporary folder.")

    def store(self) -> DuckLakeStore:
        """The lake. Raises UnknownPlace and ExtraMissing (retrying does not help)."""
        from etl_project.storage.engines.ducklake.engine import DuckLakeStore  # noqa: PLC0415  # Needs an extra.

        limit: dict[str, str | int] = (
            {} if self.memory_limit_mb is None else {"memory_limit": f"{self.memory_limit_mb}MB"}
        )
        return DuckLakeStore(self.url, self.data, self.wait_seconds, limit, self.scratch, self._writer())

    def default_schema(self) -> str | None:
        """The configured schema."""
        return self.schema_

    def shows(self, resource: Any) -> bool:
        """Whether it opens the same lake."""
        return (getattr(resource, "url", None), getattr(resource, "data", None)) == (self.url, self.data)

    def place_of(self, table: Table) -> Hashable:
        """The table in the lake. An environment variable stands for what it will hold."""
        url = ("env", self.url.env_var_name) if isinstance(self.url, dg.EnvVar) else self.url
        return url, (table.schema or "main").lower(), table.name.lower()
