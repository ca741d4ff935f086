"""Queue: writers of one table wait for each other in PostgreSQL, on a connection of their own.

Belongs here: the session advisory lock that is held from before the transaction until after its COMMIT, and the clock
of the server. The lock is for patience only: with it nobody does work that a conflict would throw away. That two
writers never both win is the guard's (`engine`), which is part of the transaction. So a lock that is lost, because the
server was restarted, costs a retry and nothing else. A kill ends the session, and the lock with it.
"""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta

from etl_project import utc
from etl_project.storage.contract import StoreBusy, StoreUnavailable
from etl_project.storage.engines.server.address import Server, missing
from etl_project.storage.engines.server.errors import of_server
from etl_project.utc import UTC

try:
    import psycopg
    from psycopg.conninfo import make_conninfo
except ImportError as error:
    raise missing(error) from None

MOST_CLOCK_SECONDS = 300.0
"""A machine whose clock is off by more takes the wrong days for open or overdue."""
_KEEPALIVE = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3}
"""A server, or a way to it, that is gone is found out in half a minute; Linux would take two hours."""


@contextmanager
def turn(address: Server, what: str, wait_seconds: float) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    """Nobody else writes `what` for as long as the block lasts, as long as they ask here. Gives the connection.

    Raises StoreBusy (retrying helps) when somebody has the turn for longer than `wait_seconds`, naming them;
    StoreUnavailable (it does) without a server, and where the clocks of the two machines are too far apart.
    """
    connection = connected(address, what)
    try:
        _wait(address, connection, what, wait_seconds)
        _compare_clocks(address, connection)
        yield connection
    finally:
        # The session ends with the connection, and the lock with the session. What is committed stays committed.
        with suppress(psycopg.Error):
            connection.close()


def clock_difference(address: Server) -> timedelta:
    """How far this machine's clock is ahead of the server's. Raises as `turn` does."""
    connection = connected(address, "the clock")
    try:
        return _ahead(address, connection)
    finally:
        connection.close()


def connected(address: Server, what: str) -> psycopg.Connection[tuple[object, ...]]:
    """A connection of its own, for `what`; whoever asks for it closes it. Raises as `turn` does."""
    # Who waits in vain is told who is in the way: by this name.
    name = f"etl {platform.node()}:{os.getpid()} {what}"
    try:
        told = make_conninfo(address.connection_string, application_name=name[:63], **_KEEPALIVE)
        return psycopg.connect(told, autocommit=True)
    except psycopg.Error as error:
        raise of_server(address, str(error)) from None


def _wait(address: Server, connection: psycopg.Connection[tuple[object, ...]], what: str, wait_seconds: float) -> None:
    key = _key(what)
    try:
        if wait_seconds <= 0:
            found = connection.execute("SELECT pg_try_advisory_lock(%s)", [key]).fetchone()
            if found != (True,):
                raise _busy(address, connection, what, key, wait_seconds)
            return
        connection.execute(
            "SELECT set_config('lock_timeout', %s, false), set_config('statement_timeout', '0', false)",
            [f"{max(1, round(wait_seconds * 1000))}ms"],
        )
        connection.execute("SELECT pg_advisory_lock(%s)", [key])
    except psycopg.errors.LockNotAvailable:
        raise _busy(address, connection, what, key, wait_seconds) from None
    except psycopg.Error as error:
        raise of_server(address, str(error)) from None


def _busy(
    address: Server, connection: psycopg.Connection[tuple[object, ...]], what: str, key: int, wait_seconds: float
) -> StoreBusy:
    held = "somebody else is writing it"
    with suppress(psycopg.Error):
        found = connection.execute(
            "SELECT application_name, pid FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE granted "
            "AND locktype = 'advisory' AND ((classid::bigint << 32) | objid::bigint) = %s",
            [key],
        ).fetchone()
        held = f"held by {found[0]!r} (PostgreSQL process {found[1]})" if found is not None else held
    return StoreBusy(
        f"The table {what} in {address.shown} is {held}; waited {wait_seconds:g} s. Nothing was changed; retrying "
        "helps once it is done there."
    )


def _compare_clocks(address: Server, connection: psycopg.Connection[tuple[object, ...]]) -> None:
    ahead = _ahead(address, connection).total_seconds()
    if abs(ahead) > MOST_CLOCK_SECONDS:
        raise StoreUnavailable(
            f"The clock of this machine is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} that of the "
            f"server of {address.shown}: days would be judged by the wrong time. Nothing was changed; retrying helps "
            "once both follow a time server (NTP)."
        )


def _ahead(address: Server, connection: psycopg.Connection[tuple[object, ...]]) -> timedelta:
    """By how much this clock is ahead, as far as the way there and back lets us know."""
    before = utc.now()
    try:
        found = connection.execute("SELECT extract(epoch FROM clock_timestamp())::float8").fetchone()
    except psycopg.Error as error:
        raise of_server(address, str(error)) from None
    after = utc.now()
    assert found is not None and isinstance(found[0], float)  # A number: how a moment is written is a setting there.
    there = datetime.fromtimestamp(found[0], UTC)
    return max(before - there, timedelta(0)) or min(after - there, timedelta(0))


def _key(what: str) -> int:
    """The lock's number; two tables that share one would only wait for each other."""
    return int.from_bytes(hashlib.sha256(f"etl_project {what}".encode()).digest()[:8], "big") >> 1
