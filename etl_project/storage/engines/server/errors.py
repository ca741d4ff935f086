"""Errors: what a PostgreSQL server and DuckDB's extensions say of it, in one line, and whether retrying helps.

Belongs here: the texts by which the one kind is told from the other. They are all there is: libpq gives no code when it
cannot connect, and DuckDB hands texts on. A text that is not known counts as the machine's fault: retrying helps.
"""

from __future__ import annotations

import re

from etl_project.failures import EtlError
from etl_project.storage.contract import StoreUnavailable, WriteRefused
from etl_project.storage.engines.server.address import Server
from etl_project.storage.judging.messages import more_memory

_CONFLICT = re.compile(
    r"transaction conflict|could not serialize access|maximum retry count|duplicate key value|deadlock detected"
    r"|concurrent(?:ly)? (?:update|delete)",
    re.IGNORECASE,
)
_PERMANENT = {
    r"password authentication failed|no password supplied|authentication failed": "Correct the user or the password "
    "(in ETL_WAREHOUSE, PGPASSWORD or ~/.pgpass).",
    r'role "[^"]*" does not exist': "Correct the user, or make it: CREATE ROLE.",
    r'database "[^"]*" does not exist': "Correct the database's name, or make it: CREATE DATABASE.",
    r"no pg_hba.conf entry": "Let this machine in: pg_hba.conf of the server.",
    r"invalid (?:connection option|URI|port|sslmode)|missing \"=\" after": "Correct the address of the warehouse.",
    r"permission denied|read-only (?:mode|transaction)|must be owner": "Give the role rights to write there: "
    "SELECT, INSERT, UPDATE and DELETE on the tables, and CREATE on the schema for those that are to be made.",
    r"no schema has been selected|schema \"[^\"]*\" does not exist|Schema with name": "Make the schema `public` "
    "in that database, or let the role use it.",
    r"catalog version mismatch|unsupported DuckLake|newer version of DuckLake": "Use the version of DuckLake that made "
    "the catalog on every machine; all of them have to move to another one together (docs/which-deployment.md).",
    r"does not match existing data path": "Set ETL_WAREHOUSE_DATA to the path with which the catalog was made.",
}
_RESULT_LINE = re.compile(r"\s*\n\s*")
_ATTACHING = re.compile(r"\A.*Unable to connect to Postgres at \"[^\"]*\": ", re.DOTALL)
_STATEMENT = re.compile(r"Failed to execute query \".*\": (?=\S)", re.DOTALL)
"""What DuckLake sends to its catalog is long, and says nothing to whoever reads it."""
_MIGRATION = re.compile(r"\. To automatically migrate, .*?attaching", re.DOTALL)
"""DuckLake's advice to one machine, which would leave all others behind."""
_PASSWORD = re.compile(r"(password\s*=\s*)('(?:[^'\\]|\\.)*'|\S+)|(//[^:/@\s]*:)[^@\s]*(?=@)", re.IGNORECASE)


def is_conflict(said: str) -> bool:
    """Whether somebody else was in the way: the same transaction may go through the next time."""
    return _CONFLICT.search(said) is not None


def of_server(address: Server, said: str) -> EtlError:
    """What an error of the server means for whoever wanted to work with the lake."""
    line = clean(address, said)
    for pattern, advice in _PERMANENT.items():
        if re.search(pattern, said.replace(address.catalog, ""), re.IGNORECASE):
            return WriteRefused(f"{address.shown}: {line}. Nothing was changed; retrying does not help. {advice}")
    return StoreUnavailable(
        f"{address.shown}: {line}. Nothing was changed; retrying helps once the cause is gone.{more_memory(said)}"
    )


def clean(address: Server, said: str) -> str:
    """The text in one line, without any password."""
    line = _RESULT_LINE.sub(" ", said.partition("\n\nStack Trace")[0]).strip().rstrip(".")
    line = _ATTACHING.sub("", line)
    line = _MIGRATION.sub("", line)
    line = _STATEMENT.sub("Failed to execute its query: ", line)
    if address.password:
        line = line.replace(address.password, "***")
    return _PASSWORD.sub(lambda found: f"{found[1] or found[3]}***", line)
