"""Rights: whether a role may write into the warehouse of a server, asked before any run is told that it may not.

Belongs here: one question to PostgreSQL's catalog. Nothing is changed, and no table is made to try it.
"""

from __future__ import annotations

from contextlib import closing

from etl_project.storage.engines.server.address import Server, missing
from etl_project.storage.engines.server.errors import of_server
from etl_project.storage.engines.server.queue import connected

try:
    import psycopg
except ImportError as error:
    raise missing(error) from None

_ASKED = """
SELECT pg_is_in_recovery() OR current_setting('transaction_read_only')::bool, CASE
    WHEN to_regclass(%(made)s) IS NOT NULL THEN has_table_privilege(to_regclass(%(made)s), 'INSERT')
    WHEN to_regnamespace('public') IS NULL THEN true
    ELSE has_schema_privilege('public', 'CREATE') END
"""


def refusal(address: Server, made: str) -> str | None:
    """Why the role of this address may not write there, in one line; None where it may.

    `made` is the table in the schema `public` that every write adds to. Where it is not there yet, it has to be made.
    Raises StoreUnavailable (retrying helps) and WriteRefused (it does not).
    """
    with closing(connected(address, "rights")) as connection:
        try:
            found = connection.execute(_ASKED, {"made": f"public.{made}"}).fetchone()
        except psycopg.Error as error:
            raise of_server(address, str(error)) from None
    assert found is not None
    if found[0]:
        said = "the server, or the role, is set to read only (read-only transaction)"
    elif not found[1]:
        said = "permission denied: the role may only read"
    else:
        return None
    return str(of_server(address, said))
