"""Tenants: which deployment writes an asset's table, so that a second one does not build it over and over.

Belongs here: the table `etl_deployments` beside the commit records (of a DuckLake: beside its catalog), a row an asset,
and a writer's turn, which nobody but that deployment gets. Two of them on one table would each rebuild the days of the
other, from files of which each has a part. Tables of other assets may be another deployment's.

A warehouse from before has no rows: whoever writes first is noted. Where the role may not note it, nothing is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress

from etl_project import faults
from etl_project.storage.contract import Table, WriteRefused
from etl_project.storage.deployment import NOTES, Deployment, Tenant, Writer
from etl_project.storage.engines.server import queue
from etl_project.storage.engines.server.address import Server, missing
from etl_project.storage.engines.server.errors import of_server

try:
    import psycopg
except ImportError as error:
    raise missing(error) from None

_TABLE = f"public.{NOTES}"
_COLUMNS = "(asset text PRIMARY KEY, id text NOT NULL, machine text NOT NULL, folder text NOT NULL, since timestamptz)"
_NOTED = f"SELECT id, machine, folder, to_char(since AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI') FROM {_TABLE}"
_NOTE = f"INSERT INTO {_TABLE} VALUES (%s, %s, %s, %s, clock_timestamp()) ON CONFLICT (asset)"
_TAKEN = "UPDATE SET (id, machine, folder, since) = (EXCLUDED.id, EXCLUDED.machine, EXCLUDED.folder, EXCLUDED.since)"

_Connection = psycopg.Connection[tuple[object, ...]]


class AnothersTable(WriteRefused):
    """Another deployment writes the table. Nothing was changed; retrying does not help."""


@contextmanager
def turn(address: Server, table: Table, wait_seconds: float, writer: Writer) -> Iterator[None]:
    """Nobody else writes the table for as long as the block lasts, and it is this deployment's.

    A write that fails leaves no note of its own; a kill does, and its deployment goes on with the table. Raises as
    `queue.turn` does, and AnothersTable (retrying does not help).
    """
    with queue.turn(address, table.name.lower(), wait_seconds) as connection:
        deployment, is_new = None if writer is None else writer(), False
        if deployment is not None:
            try:
                is_new = _claim(address, connection, table.asset, deployment)
            except psycopg.Error as error:
                raise of_server(address, str(error)) from None
            faults.reach("tenants.noted")
        try:
            yield
        except BaseException:
            if deployment is not None and is_new:  # Whoever wrote nothing keeps nobody out.
                with suppress(psycopg.Error):
                    own = _values(table.asset, deployment)[:2]
                    connection.execute(f"DELETE FROM {_TABLE} WHERE (asset, id) = (%s, %s)", own)
            raise


def noted(address: Server) -> Mapping[str, Tenant]:
    """By asset whose table it is. Raises StoreUnavailable (retrying helps) and WriteRefused (it does not)."""
    with closing(queue.connected(address, NOTES)) as connection:
        try:
            found = connection.execute(_NOTED.replace("SELECT ", "SELECT asset, ", 1)).fetchall()
        except (psycopg.errors.UndefinedTable, psycopg.errors.InsufficientPrivilege):
            return {}
        except psycopg.Error as error:
            raise of_server(address, str(error)) from None
    return {str(asset): Tenant(*map(str, rest)) for asset, *rest in found}


def take_over(address: Server, assets: Iterable[str], deployment: Deployment) -> None:
    """From now on the tables of these assets are this deployment's; whoever had them is refused. Raises as `noted`.

    A kill leaves all of them whose they were, or all of them this deployment's.
    """
    with closing(queue.connected(address, NOTES)) as connection:
        try:
            _make(connection)
            with connection.transaction():
                for asset in assets:
                    connection.execute(f"{_NOTE} DO {_TAKEN}", _values(asset, deployment))
                    faults.reach("tenants.taking_over")
            faults.reach("tenants.taken_over")
        except psycopg.Error as error:
            raise of_server(address, str(error)) from None


def _claim(address: Server, connection: _Connection, asset: str, deployment: Deployment) -> bool:
    """Note that the asset's table is this deployment's, where nobody has it: then True. Raises AnothersTable."""
    try:
        known = tenant = _tenant(connection, asset)
        if tenant is None:
            _make(connection)
            connection.execute(f"{_NOTE} DO NOTHING", _values(asset, deployment))
            tenant = _tenant(connection, asset)
    except psycopg.errors.InsufficientPrivilege:
        return False  # The note is not this role's to make: it may write tables that others have made.
    if tenant is not None and tenant.id not in deployment.ids:
        raise AnothersTable(
            f"Asset {asset!r}: its table in {address.shown} is written by {tenant}, and this one is {deployment}: each "
            "would rebuild the days of the other. Nothing was changed; retrying does not help. Give this one a "
            "database of its own. If the two are machines of one deployment, set the same ETL_LOCKS on both; then, as "
            "when the other one is gone, or was this folder and has lost its deployment-id: `etl warehouse take-over`."
        )
    return known is None


def _tenant(connection: _Connection, asset: str) -> Tenant | None:
    try:
        found = connection.execute(f"{_NOTED} WHERE asset = %s", [asset]).fetchone()
    except psycopg.errors.UndefinedTable:
        return None
    return None if found is None else Tenant(*map(str, found))


def _make(connection: _Connection) -> None:
    """The table, where there is none. Writers of other tables may make it at the same moment."""
    try:
        there = connection.execute("SELECT to_regclass(%s)", [_TABLE]).fetchone()
        if there == (None,):
            connection.execute(f"CREATE TABLE IF NOT EXISTS {_TABLE} {_COLUMNS}")
            faults.reach("tenants.made")
    except (psycopg.errors.UniqueViolation, psycopg.errors.DuplicateTable):
        return


def _values(asset: str, deployment: Deployment) -> list[str]:
    return [asset, deployment.ids[0], deployment.machine, deployment.folder]
