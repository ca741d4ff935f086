"""The IO manager of a PostgreSQL database: the storage contract for runs on more than one machine.

Belongs here: its settings, and nothing else. What it needs beside (the extra `postgres`) is loaded with its store, so
that definitions which only name it load without.

    from etl_project.storage import PostgresPartitionIOManager
    PostgresPartitionIOManager(url=dg.EnvVar("WAREHOUSE"))
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import Field

from etl_project.storage.contract import Table
from etl_project.storage.dagster.io_manager import PartitionIOManager

if TYPE_CHECKING:
    from etl_project.storage.engines.postgres.engine import PostgresStore


class PostgresPartitionIOManager(PartitionIOManager):
    """Tables in a PostgreSQL database: one transaction a write, commit records inside."""

    url: str = Field(
        description="`postgresql://user@host:port/database`. With a password in it, give it as an EnvVar: Dagster "
        "shows the others. PGPASSWORD and ~/.pgpass work as well."
    )
    schema_: str | None = Field(default=None, alias="schema", description="Schema of the tables; `public` by default.")
    wait_seconds: float = Field(default=60.0, description="How long to wait for other writers of a table.")
    memory_limit_mb: int | None = Field(default=None, description="What DuckDB may hold at once; its own default.")
    scratch: str | None = Field(default=None, description="Where what exceeds it goes; the system's temporary folder.")

    def store(self) -> PostgresStore:
        """The database. Raises UnknownPlace and ExtraMissing (retrying does not help)."""
        from etl_project.storage.engines.postgres.engine import PostgresStore  # noqa: PLC0415  # Needs an extra.

        limit: dict[str, str | int] = (
            {} if self.memory_limit_mb is None else {"memory_limit": f"{self.memory_limit_mb}MB"}
        )
        return PostgresStore(self.url, self.wait_seconds, limit, self.scratch, self._writer())

    def default_schema(self) -> str | None:
        """The configured schema."""
        return self.schema_

    def shows(self, resource: Any) -> bool:
        """Whether it opens the same database."""
        return getattr(resource, "url", None) == self.url

    def place_of(self, table: Table) -> Hashable:
        """The table in the database. An environment variable stands for what it will hold."""
        url = ("env", self.url.env_var_name) if isinstance(self.url, dg.EnvVar) else self.url
        return url, (table.schema or "public").lower(), table.name.lower()
