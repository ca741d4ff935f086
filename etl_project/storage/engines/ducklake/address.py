"""Address: which DuckLake a setting names, and what of it may be shown.

Belongs here: taking `ducklake:postgres:...` apart. The password goes one way: into the connection. Everything else that
is made from the address (messages, metadata, the catalog's own path) is made without it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from etl_project.storage.engines.server.address import missing
from etl_project.storage.places import UnknownPlace, local_path

PREFIX = "ducklake:postgres:"
EXAMPLE = f"{PREFIX}dbname=warehouse host=db.example.com user=etl"
_CONNECT_SECONDS = "10"
"""A server that does not answer is told apart from a slow one after so long, unless the address says otherwise."""
_BUCKET = re.compile(r"\As3://[^/\s]+")


@dataclass(frozen=True)
class Address:
    """A catalog in PostgreSQL and where its files lie. `catalog` has no password; `password` is shown nowhere."""

    catalog: str
    data: str
    password: str | None = field(repr=False, default=None)

    @property
    def shown(self) -> str:
        """The address for messages: two with the same one have the same rows."""
        return PREFIX + self.catalog

    @property
    def connection_string(self) -> str:
        """What libpq takes, password included: for its connection alone, never for a message."""
        if self.password is None:
            return self.catalog
        from psycopg.conninfo import make_conninfo  # noqa: PLC0415  # An extra: only who uses it needs it.

        return make_conninfo(self.catalog, password=self.password)

    @property
    def is_remote(self) -> bool:
        """Whether the files lie on an object store."""
        return _BUCKET.match(self.data) is not None


def address_of(url: str, data: str | Path) -> Address:
    """The address that the two settings give.

    Raises UnknownPlace for what is none, ExtraMissing without the extra `ducklake` (retrying does not help).
    """
    if not is_ducklake(url):
        raise UnknownPlace(f"The warehouse is no DuckLake with a catalog in PostgreSQL. Write it like {EXAMPLE}.")
    try:
        from psycopg import Error  # noqa: PLC0415  # An extra: only who uses it needs it.
        from psycopg.conninfo import conninfo_to_dict, make_conninfo  # noqa: PLC0415
    except ImportError as error:
        raise missing(error) from None
    try:
        parts: dict[str, Any] = conninfo_to_dict(url.removeprefix(PREFIX))
        password = parts.pop("password", None)
        catalog = make_conninfo(**{"connect_timeout": _CONNECT_SECONDS, **parts})
    except Error:
        # What libpq says about an address quotes it, password included.
        raise UnknownPlace(
            f"The address of the warehouse after {PREFIX} is none that PostgreSQL understands. Retrying does not help. "
            f"Write it like {EXAMPLE}."
        ) from None
    if "dbname" not in parts:
        raise UnknownPlace(f"The address of the warehouse names no database (dbname=...). Write it like {EXAMPLE}.")
    return Address(catalog, _folder(str(data)), None if password is None else str(password))


def is_ducklake(url: str) -> bool:
    """Whether a setting names a DuckLake with a catalog in PostgreSQL."""
    return url.startswith(PREFIX)


def _folder(data: str) -> str:
    """Where the files lie, ending in a slash, as DuckLake keeps it."""
    if _BUCKET.match(data):
        return data.rstrip("/") + "/"
    return f"{local_path(data, 'data', '/mnt/warehouse or s3://bucket/prefix')}/"
