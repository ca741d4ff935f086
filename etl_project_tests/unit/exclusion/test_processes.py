"""A process is known by more than its pid, and the dead are told from the living."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from etl_project.exclusion.processes import Owner, is_alive, same_host, this_process

PRINT_OWNER = (
    "from etl_project.exclusion.processes import this_process; print(this_process().to_json(), flush=True); input()"
)


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "600"]) as process:
        yield process
        process.kill()


def owner_of(pid: int) -> Owner:
    """The owner record that the process with this pid would write about itself."""
    fields = open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()  # noqa: SIM115, PTH123
    return dataclasses.replace(this_process(), pid=pid, started_at=fields[19])


def test_this_process_is_alive_and_says_the_same_twice() -> None:
    assert is_alive(this_process())
    assert this_process() == this_process()


def test_an_owner_survives_json() -> None:
    assert Owner.from_json(this_process().to_json()) == this_process()


@pytest.mark.parametrize("text", ["", "null", "[]", "{}", '{"pid": 1}', '"x"'])
def test_any_other_text_is_not_an_owner(text: str) -> None:
    with pytest.raises(ValueError, match="Not the record of a process"):
        Owner.from_json(text)


def test_a_process_tells_others_who_it_is() -> None:
    command = [sys.executable, "-c", PRINT_OWNER]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        owner = Owner.from_json(process.stdout.readline())
        assert owner.pid == process.pid
        assert owner == owner_of(process.pid)
        assert is_alive(owner)
        process.kill()
        process.wait()
        assert not is_alive(owner)


def test_a_zombie_is_dead(sleeper: subprocess.Popen[bytes]) -> None:
    owner = owner_of(sleeper.pid)
    assert is_alive(owner)
    sleeper.kill()
    os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)  # Dead, and nobody has collected it.
    assert not is_alive(owner)


def test_another_process_with_the_same_pid_is_not_the_owner(sleeper: subprocess.Popen[bytes]) -> None:
    owner = owner_of(sleeper.pid)
    assert not is_alive(dataclasses.replace(owner, started_at=str(int(owner.started_at) - 1)))


def test_a_pid_reused_by_a_thread_is_not_the_owner() -> None:
    known, done = threading.Event(), threading.Event()
    identity = []

    def body() -> None:
        identity.append(threading.get_native_id())
        known.set()
        done.wait()

    thread = threading.Thread(target=body)
    thread.start()
    known.wait()
    assert not is_alive(dataclasses.replace(this_process(), pid=identity[0], started_at="1"))
    done.set()
    thread.join()


def test_a_process_name_with_brackets_and_spaces_is_read(tmp_path: object) -> None:
    script = "import ctypes; ctypes.CDLL(None).prctl(15, b') R 1 (x'); print('named', flush=True); input()"
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        young = dataclasses.replace(this_process(), pid=process.pid, started_at="1")
        assert not is_alive(young)
        started = open(f"/proc/{process.pid}/stat").read().split(") ")[-1].split()[19]  # noqa: SIM115, PTH123
        assert is_alive(dataclasses.replace(young, started_at=started))
        process.kill()


@pytest.mark.parametrize("field", ["host", "pid_namespace"])
def test_a_process_of_another_boot_or_namespace_does_not_run_here(field: str) -> None:
    stranger = dataclasses.replace(this_process(), **{field: "another"})
    assert not same_host(stranger)
    assert not is_alive(stranger)


def test_a_forked_child_is_somebody_else() -> None:
    parent = this_process()
    pid = os.fork()
    if pid == 0:
        os._exit(0 if this_process().pid == os.getpid() and this_process() != parent and is_alive(parent) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_a_process_hidden_by_proc_counts_as_alive(sleeper: subprocess.Popen[bytes]) -> None:
    owner = owner_of(sleeper.pid).to_json()
    code = "import sys; from etl_project.exclusion.processes import *; print(is_alive(Owner.from_json(sys.argv[1])))"
    hide = f'mount -t tmpfs none /proc/{sleeper.pid} && exec "$0" -c "$1" "$2"'
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", hide, sys.executable, code, owner]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    if ran.returncode != 0:
        pytest.skip(f"no user namespaces here: {ran.stderr.strip()}")
    assert ran.stdout.strip() == "True"


def test_a_proc_of_another_namespace_is_refused() -> None:
    code = "from etl_project.exclusion.processes import *; this_process()"
    command = ["unshare", "--user", "--map-root-user", "--pid", "--fork", sys.executable, "-c", code]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    if "unshare:" in ran.stderr:
        pytest.skip(f"no user namespaces here: {ran.stderr.strip()}")
    assert "mount /proc inside the namespace" in ran.stderr
