"""Address: what is known of a PostgreSQL server, whichever engine stands on it."""

from __future__ import annotations

from typing import Protocol

from etl_project.storage.places import ExtraMissing


class Server(Protocol):
    """How a database is reached, and what of it may be shown."""

    @property
    def catalog(self) -> str:
        """What libpq takes, without the password."""

    @property
    def password(self) -> str | None:
        """Shown nowhere."""

    @property
    def shown(self) -> str:
        """The address for messages."""

    @property
    def connection_string(self) -> str:
        """What libpq takes, password included: for its connection alone, never for a message."""


def missing(error: ImportError) -> ExtraMissing:
    """What to say where a package is not installed."""
    return ExtraMissing(
        f"The warehouse needs an extra ({error.name} is not installed): pip install 'etl-project[ducklake]' for a "
        "DuckLake, 'etl-project[postgres]' for tables in PostgreSQL."
    )
