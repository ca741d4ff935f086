"""Attach: a DuckDB connection in memory that has the lake as its current database.

Belongs here: DuckDB's extensions, secrets, ATTACH, and telling a catalog that is not made yet from one that cannot be
reached. The extensions come from pinned Python packages (the extra `ducklake`), so nothing is downloaded and nothing is
written outside of the virtual environment; where there is no such package for a platform, DuckDB's own installed ones
are taken (`INSTALL ducklake`).

The password is a DuckDB secret: in the attached path it would be seen in `duckdb_databases()` and in every error.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import duckdb

from etl_project.storage.contract import StoreUnavailable
from etl_project.storage.engines.ducklake.address import Address
from etl_project.storage.engines.server import extensions
from etl_project.storage.scratch import scratch_folder
from etl_project.storage.sql import quote, text

LAKE = "lake"
"""The name of the attached catalog."""
_SECRET = "etl_catalog"
_EXTENSIONS = {**extensions.POSTGRES, "ducklake": "ducklake"}
_REMOTE_EXTENSIONS = {"httpfs": "httpfs", **_EXTENSIONS}
"""httpfs first: whatever would load it by itself must find it."""
_NOT_MADE = "does not exist - and creating a new DuckLake is explicitly disabled"


@contextmanager
def opened(address: Address, settings: Mapping[str, str | int], beside: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection with extensions and secrets, in UTC, to which the lake is not yet attached.

    What does not fit into memory goes into a folder of its own in `beside`, which is gone with the block.
    Raises ExtraMissing (retrying does not help) where the extensions are not installed.
    """
    # The packages are checked by whoever installs them. DuckDB would hash 80 MB of them for each connection.
    connection = duckdb.connect(config={"allow_unsigned_extensions": "true", "custom_user_agent": "dagster"})
    try:
        extensions.load(connection, _REMOTE_EXTENSIONS if address.is_remote else _EXTENSIONS)
        connection.execute("SET TimeZone = 'UTC'")
        for name, value in settings.items():
            connection.execute(f"SET {quote(name)} = ?", [value])
        _keep_secrets(connection, address)
        with scratch_folder(beside) as scratch:
            connection.execute("SET temp_directory = ?", [str(scratch)])
            yield connection
            connection.close()
    finally:
        connection.close()


def attach(connection: duckdb.DuckDBPyConnection, address: Address, *, make: bool, read_only: bool = False) -> bool:
    """Attach the lake and make it the current database; False when there is none yet and none is to be made.

    Raises duckdb.Error as DuckDB says it.
    """
    options = [f"META_SECRET {text(_SECRET)}", "DATA_INLINING_ROW_LIMIT 0", f"DATA_PATH {text(address.data)}"]
    options += ["READ_ONLY"] if read_only else []
    options += [] if make else ["CREATE_IF_NOT_EXISTS false"]
    try:
        connection.execute(f"ATTACH {text(address.shown)} AS {LAKE} ({', '.join(options)})")
    except duckdb.InvalidInputException as error:
        if not make and _NOT_MADE in str(error):
            return False
        raise
    connection.execute(f"USE {LAKE}")
    return True


def detach(connection: duckdb.DuckDBPyConnection) -> None:
    """Let go of the lake with all its connections to PostgreSQL; what else the connection holds stays."""
    connection.execute("USE memory")
    connection.execute(f"DETACH DATABASE IF EXISTS {LAKE}")


def _keep_secrets(connection: duckdb.DuckDBPyConnection, address: Address) -> None:
    """What opens the catalog and the object store, out of sight of paths and messages."""
    statements = []
    password = "" if address.password is None else f", PASSWORD {text(address.password)}"
    statements.append(f"CREATE SECRET {_SECRET} (TYPE postgres{password})")
    if address.is_remote:
        given = {name: os.environ.get(variable) for name, variable in _STORE_VARIABLES.items()}
        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
        if endpoint:
            scheme, _, host = endpoint.rpartition("://")
            given |= {"ENDPOINT": host.rstrip("/"), "URL_STYLE": "path", "USE_SSL": str(scheme != "http").lower()}
        options = "".join(f", {name} {text(value)}" for name, value in given.items() if value)
        statements.append(f"CREATE SECRET etl_files (TYPE s3{options})")
    try:
        for statement in statements:
            connection.execute(statement)
    except duckdb.Error:
        # DuckDB would quote the statement.
        raise StoreUnavailable(
            f"{address.shown}: DuckDB does not take the password, or what AWS_ variables say. Nothing was changed; "
            "retrying helps once they are right."
        ) from None


_STORE_VARIABLES = {
    "KEY_ID": "AWS_ACCESS_KEY_ID",
    "SECRET": "AWS_SECRET_ACCESS_KEY",
    "SESSION_TOKEN": "AWS_SESSION_TOKEN",
    "REGION": "AWS_REGION",
}
"""The variables that every client of S3 reads."""
