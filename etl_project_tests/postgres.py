"""A PostgreSQL server for tests: ETL_TEST_POSTGRES says how to reach one as a role that may create databases.

Belongs here: a database of its own for each folder that a test works in, so that a folder is all that a process needs
to be told. Databases are dropped with `drop_databases`; `.ci/run` drops the whole server.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote, urlencode

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

SERVER = os.environ.get("ETL_TEST_POSTGRES", "")
PREFIX = "etl_test_"
needed = pytest.mark.skipif(
    not SERVER,
    reason="needs a PostgreSQL server: ETL_TEST_POSTGRES='host=... user=... password=...' (deploy/postgres/start.sh)",
)


def admin(database: str = "postgres") -> psycopg.Connection[tuple[object, ...]]:
    """A connection for what tests do behind the back of the code."""
    return psycopg.connect(make_conninfo(SERVER, dbname=database), autocommit=True)


def database_of(folder: Path) -> str:
    """The name of the folder's database; it is made when it is asked for first.

    The number of the folder is part of it: pytest takes a name again once the folder of a passed test is gone.
    """
    folder.mkdir(parents=True, exist_ok=True)
    name = PREFIX + hashlib.sha256(f"{folder} {folder.stat().st_ino}".encode()).hexdigest()[:16]
    made = folder / ".database"
    if not made.exists():
        with admin() as connection, suppress(psycopg.errors.DuplicateDatabase, psycopg.errors.UniqueViolation):
            connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))
        made.touch()
    return name


@contextmanager
def role_of(folder: Path, *grants: str) -> Iterator[dict[str, str]]:
    """A role that may do what `grants` say in the folder's database, and make nothing there: libpq's words for it."""
    role = f"role_{database_of(folder)}"
    with admin(database_of(folder)) as db:
        db.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'sec-ret'").format(sql.Identifier(role)))
        try:
            db.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
            for grant in grants:
                db.execute(f"GRANT {grant} TO {role}".encode())
            yield {"user": role, "password": "sec-ret"}
        finally:
            db.execute(sql.SQL("DROP OWNED BY {0}; DROP ROLE {0}").format(sql.Identifier(role)))


def url_of(folder: Path, **parts: str) -> str:
    """The warehouse of a folder, as a setting says it; `parts` replace some of libpq's."""
    return f"ducklake:postgres:{make_conninfo(SERVER, **{'dbname': database_of(folder), **parts})}"


def plain_url_of(folder: Path, **parts: str) -> str:
    """The database of a folder, as a setting says it that takes a URL; `parts` replace some of libpq's."""
    told = conninfo_to_dict(make_conninfo(SERVER, **{"dbname": database_of(folder), **parts}))
    user, password, host, port, name = (
        quote(str(told.pop(part, "")), safe="") for part in ("user", "password", "host", "port", "dbname")
    )
    return f"postgresql://{user}:{password}@{host}:{port}/{name}" + (f"?{urlencode(told)}" if told else "")
