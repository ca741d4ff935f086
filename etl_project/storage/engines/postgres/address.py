"""Address: which PostgreSQL database a setting names, and what of it may be shown.

Belongs here: taking `postgresql://user:password@host:port/database` apart. The password goes one way: into the
connection. Everything else that is made from the address is made without it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from etl_project.storage.engines.server.address import missing
from etl_project.storage.places import UnknownPlace

PREFIXES = ("postgresql://", "postgres://")
EXAMPLE = "postgresql://etl@db.example.com/warehouse"
_CONNECT_SECONDS = "10"
"""A server that does not answer is told apart from a slow one after so long, unless the address says otherwise."""
_SESSION = "-c timezone=UTC -c datestyle=ISO,MDY"
"""What SQL that the server runs itself depends on."""


@dataclass(frozen=True)
class PostgresAddress:
    """One database. `catalog` is what libpq takes, without the password; `password` is shown nowhere."""

    catalog: str
    shown: str
    password: str | None = field(repr=False, default=None)

    @property
    def connection_string(self) -> str:
        """What libpq takes, password included: for its connection alone, never for a message."""
        from psycopg.conninfo import make_conninfo  # noqa: PLC0415  # An extra: only who uses it needs it.

        return make_conninfo(self.catalog, **({} if self.password is None else {"password": self.password}))

    def session(self, wait_seconds: float) -> str:
        """The same, without the password, for sessions in UTC that wait so long for somebody else's lock."""
        from psycopg.conninfo import conninfo_to_dict, make_conninfo  # noqa: PLC0415

        parts: dict[str, Any] = conninfo_to_dict(self.catalog)
        wait = f"-c lock_timeout={max(1, round(wait_seconds * 1000))}ms"
        return make_conninfo(**{**parts, "options": f"{parts.get('options', '')} {_SESSION} {wait}".strip()})


def is_postgres(url: str) -> bool:
    """Whether a setting names a PostgreSQL database."""
    return url.startswith(PREFIXES)


def address_of(url: str) -> PostgresAddress:
    """The address that the setting gives.

    Raises UnknownPlace for what is none, ExtraMissing without the extra `postgres` (retrying does not help).
    """
    if not is_postgres(url):
        raise UnknownPlace(f"The warehouse is no PostgreSQL database. Write it like {EXAMPLE}.")
    try:
        from psycopg import Error  # noqa: PLC0415  # An extra: only who uses it needs it.
        from psycopg.conninfo import conninfo_to_dict, make_conninfo  # noqa: PLC0415
    except ImportError as error:
        raise missing(error) from None
    try:
        parts: dict[str, Any] = conninfo_to_dict(url)
        password = parts.pop("password", None)
        catalog = make_conninfo(**{"connect_timeout": _CONNECT_SECONDS, **parts})
    except Error:
        # What libpq says about an address quotes it, password included.
        raise UnknownPlace(
            "The address of the warehouse is none that PostgreSQL understands (special characters of a password are "
            f"written as %40 and the like). Retrying does not help. Write it like {EXAMPLE}."
        ) from None
    if "dbname" not in parts:
        raise UnknownPlace(f"The address of the warehouse names no database. Write it like {EXAMPLE}.")
    user = f"{parts['user']}@" if "user" in parts else ""
    port = f":{parts['port']}" if "port" in parts else ""
    shown = f"postgresql://{user}{parts.get('host', '')}{port}/{parts['dbname']}"
    return PostgresAddress(catalog, shown, None if password is None else str(password))
