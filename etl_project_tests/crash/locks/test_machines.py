"""The task lock of several machines: leases that run out, processes that were stopped, a server that goes away."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from etl_project.exclusion import processes
from etl_project.exclusion.jobs import LockBusy, LockLost
from etl_project.exclusion.keeper import locks_at
from etl_project.failures import EtlError
from etl_project_tests import postgres
from etl_project_tests.crash.locks.holders import MONDAY, TUESDAY, Child, holding, is_free
from etl_project_tests.crash.locks.places import LONG_LEASE_SECONDS, Database

pytestmark = postgres.needed

OTHER_MACHINE = "UPDATE task_lock_holder SET host = 'another boot', machine = 'other.example.com'"
RUN_OUT = "UPDATE task_lock_holder SET expires_at = clock_timestamp() - interval '1 second'"


@pytest.fixture
def place(tmp_path_factory: pytest.TempPathFactory) -> Database:
    return Database.of(tmp_path_factory.getbasetemp() / "locks")


def until(met: Callable[[], bool]) -> None:
    """Wait for what has to come; the test's own time limit ends the wait."""
    while not met():
        time.sleep(0.02)


def test_the_pid_of_another_machine_means_nothing_and_its_lease_keeps_its_jobs(place: Database) -> None:
    lock = place.locks()
    with lock.take("theirs", [MONDAY], 0) as lease:
        place.change(f"{OTHER_MACHINE}, started_at = '1'")  # Here such a process would be known to be dead.
        with pytest.raises(LockBusy, match=r"held by run theirs \(process \d+ on other.example.com, since "):
            lock.take("ours", [MONDAY], 0)
        lease.check()
        place.change(RUN_OUT)
        for _ in range(2):
            lock.take("ours", [MONDAY], 0).release()
        with pytest.raises(LockLost):
            lease.check()


def test_a_lease_that_ran_out_stays_with_its_holder_until_somebody_comes(place: Database) -> None:
    lock = place.locks()
    with lock.take("one", [MONDAY], 0) as lease:
        place.change(RUN_OUT)
        lease.check()  # And it is good for a whole lease again.
        assert not is_free(lock, MONDAY)


def test_a_process_whose_lease_was_taken_is_fenced_though_its_run_goes_on(place: Database) -> None:
    lock = place.locks()
    with lock.take("one", [MONDAY], 0) as stopped, lock.take("one", [MONDAY], 0) as other:
        place.change(f"{RUN_OUT} WHERE token = '{stopped._token}'")  # type: ignore[attr-defined]
        assert is_free(lock, TUESDAY)  # Whoever comes sweeps.
        other.check()
        with pytest.raises(LockLost):
            stopped.check()


def test_a_holder_renews_its_lease_by_itself(place: Database) -> None:
    with Database(place.url, lease_seconds=2).locks().take("one", [MONDAY], 0):
        [before] = place.rows("SELECT expires_at FROM task_lock_holder")
        until(lambda: place.rows("SELECT expires_at FROM task_lock_holder") > [before])


def test_a_process_stopped_past_its_lease_is_fenced_when_it_goes_on(
    place: Database, start: Callable[..., Child]
) -> None:
    holder = start(holding(Database(place.url, lease_seconds=2), "one", [MONDAY]))
    assert holder.says() == "held"
    assert holder.process.pid is not None
    os.kill(holder.process.pid, signal.SIGSTOP)
    os.waitid(os.P_PID, holder.process.pid, os.WSTOPPED)
    with place.locks().take("two", [MONDAY], 60) as lease:
        os.kill(holder.process.pid, signal.SIGCONT)
        holder.tell("stale")
        assert str(holder.says()).startswith("stale: Run one no longer holds")
        holder.tell("release")
        assert holder.says() == "released"
        lease.check()
        assert not is_free(place.locks(), MONDAY)


def test_a_process_stopped_in_the_middle_of_a_take_keeps_nobody_else_out_for_long(place: Database) -> None:
    place.locks().take("before", [MONDAY], 0).release()
    with place._connected() as stopped:  # Where it was stopped it holds the queue of all takers.
        stopped.execute("BEGIN; SET LOCAL idle_in_transaction_session_timeout = '500ms'")
        stopped.execute("SELECT pg_advisory_xact_lock(hashtext('etl_locks'))")
        place.locks().take("two", [MONDAY], 0).release()
        with pytest.raises(psycopg.errors.IdleInTransactionSessionTimeout):
            stopped.execute("COMMIT")


@contextmanager
def way_to(url: str) -> Iterator[tuple[str, Callable[[], None], Callable[[], None]]]:
    """The address of a way to the server that can be cut and mended."""
    parts = conninfo_to_dict(url)
    target, is_open, pairs = (str(parts["host"]), int(str(parts["port"]))), threading.Event(), []
    is_open.set()

    def pump(source: socket.socket, sink: socket.socket) -> None:
        with closing(source), closing(sink):
            try:
                while data := source.recv(65536):
                    sink.sendall(data)
            except OSError:
                pass

    def serve(listener: socket.socket) -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            if not is_open.is_set():
                near.close()
                continue
            far = socket.create_connection(target)
            pairs.extend((near, far))
            for one, other in ((near, far), (far, near)):
                threading.Thread(target=pump, args=(one, other), daemon=True).start()

    def cut() -> None:
        is_open.clear()
        for each in pairs:
            with closing(each), suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    with socket.create_server(("localhost", 0)) as listener:
        threading.Thread(target=serve, args=(listener,), daemon=True).start()
        port = listener.getsockname()[1]
        yield url.replace(f":{target[1]}/", f":{port}/"), cut, is_open.set


def test_a_way_that_was_cut_and_mended_costs_no_lock(place: Database) -> None:
    with way_to(place.url) as (url, cut, mend):
        lock = locks_at(url, Path(), LONG_LEASE_SECONDS)
        lease = lock.take("one", [MONDAY], 0)
        cut()
        for _ in range(2):
            with pytest.raises(EtlError, match="retrying helps once the server answers") as said:
                lease.check()
            assert said.value.retryable and not said.value.splits
        mended = threading.Timer(0.3, mend)
        mended.start()
        with lock.take("one", [TUESDAY], 60) as more:  # It waits for the server as it does for a run.
            more.check()
        lease.check()
        cut()
        lease.release()  # It falls with its lease, which nobody renews.
    assert not is_free(place.locks(), MONDAY)
    place.change(RUN_OUT)
    assert is_free(place.locks(), MONDAY)


def test_sessions_that_the_server_ends_cost_no_lock(place: Database) -> None:
    """What a restart does to those who are connected."""
    lock = place.locks()
    over = threading.Event()

    def end_all() -> None:
        with postgres.admin() as db:
            while not over.is_set():
                db.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s",
                    [str(conninfo_to_dict(place.url)["dbname"])],
                )

    with lock.take("one", [MONDAY], 0) as lease:
        ending = threading.Thread(target=end_all)
        ending.start()
        refused = 0
        while refused < 3:
            try:
                lock.take("two", [TUESDAY], 0).release()
                lease.check()
            except EtlError as error:
                assert error.retryable, error
                refused += 1
        over.set()
        ending.join()
        lease.check()
        place.change(f"{RUN_OUT} WHERE run_id = 'two'")  # Of a take whose answer was lost nothing stays for longer.
        assert is_free(lock, TUESDAY) and not is_free(lock, MONDAY)


def test_what_the_server_refuses_is_one_line_without_the_password(place: Database) -> None:
    place.locks().take("one", [MONDAY], 0).release()
    parts = conninfo_to_dict(place.url)
    secret, name, port = (str(parts[part]) for part in ("password", "dbname", "port"))
    reader = f"reader_{name}"
    with postgres.admin(name) as db:
        db.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'geheim42'").format(sql.Identifier(reader)))
        db.execute(sql.SQL("GRANT USAGE ON SCHEMA etl_locks TO {}").format(sql.Identifier(reader)))
        db.execute(sql.SQL("GRANT SELECT ON ALL TABLES IN SCHEMA etl_locks TO {}").format(sql.Identifier(reader)))
    user = str(parts["user"])
    cases = {
        place.url.replace(secret, "wrong77"): (False, "password authentication failed"),
        place.url.replace(f":{port}/", ":1/"): (True, "Connection refused"),
        place.url.replace("localhost", "nowhere.invalid"): (True, "nowhere.invalid"),
        place.url.replace(f"/{name}", "/nowhere"): (False, "CREATE DATABASE"),
        place.url.replace(f"{user}:{secret}", f"{reader}:geheim42"): (False, "permission denied"),
        f"{place.url}?options=-c%20default_transaction_read_only%3Don": (False, "read-only"),
        f"postgresql://etl:{secret}@@x:y/": (False, "no address of a database"),
        f"postgresql://etl:{secret}@localhost": (False, "no address of a database"),
    }
    for url, (retryable, words) in cases.items():
        for _ in range(2):
            with pytest.raises(EtlError, match=words) as said:
                locks_at(url, Path()).take("one", [MONDAY], 0)
            assert said.value.retryable is retryable, said.value
            assert "\n" not in str(said.value) and "etrying" in str(said.value)
            assert not any(word in str(said.value) for word in (secret, "wrong77", "geheim42"))


def test_tables_of_another_version_are_refused_and_tables_that_went_away_are_a_lost_lock(place: Database) -> None:
    lease = place.locks().take("one", [MONDAY], 0)
    place.change("UPDATE version SET version = 2")
    for _ in range(2):
        with pytest.raises(EtlError, match="are of version 2; this machine knows 1") as said:
            place.locks().take("two", [TUESDAY], 0)
        assert not said.value.retryable
    place.change("DROP TABLE task_lock")
    with pytest.raises(EtlError, match="are not those of this version"):
        lease.check()
    place.change("DROP SCHEMA etl_locks CASCADE")
    for _ in range(2):
        with pytest.raises(LockLost, match="are gone"):
            lease.check()
    lease.release()
    place.locks().take("two", [MONDAY], 0).release()


def test_a_run_of_another_machine_is_at_work_for_as_long_as_it_says_so(place: Database) -> None:
    lock, elsewhere = place.locks(), [processes.Owner("another boot", "pid:[1]", 1, "1")]
    here = processes.this_process()
    assert lock.may_be_at_work("never announced", [here])
    assert not lock.may_be_at_work("run", elsewhere)
    with lock.announced("run", 0):
        assert lock.may_be_at_work("run", elsewhere)
        dead = processes.Owner(here.host, here.pid_namespace, here.pid, "1")
        assert not lock.may_be_at_work("run", [dead])  # What this machine knows of its own processes counts.
    assert lock.may_be_at_work("run", elsewhere)  # Between two processes of a run nobody is there for a moment.
    with lock.take("run", [MONDAY], 0) as lease:
        place.change("UPDATE run_at_work SET expires_at = clock_timestamp() - interval '1 second'")
        lease.check()
        assert lock.may_be_at_work("run", elsewhere)
        place.change(f"{RUN_OUT}; UPDATE run_at_work SET expires_at = clock_timestamp() - interval '1 second'")
        assert not lock.may_be_at_work("run", elsewhere)
        with pytest.raises(LockLost):  # Who is said to be dead changes nothing any more.
            lease.check()


def test_where_nobody_answers_a_run_of_another_machine_may_be_at_work(place: Database) -> None:
    nobody = locks_at(place.url.replace(f":{conninfo_to_dict(place.url)['port']}/", ":1/"), Path())
    assert nobody.may_be_at_work("run", [processes.Owner("another boot", "pid:[1]", 1, "1")])
