"""A refusal is sent before its body was read, and reaches every kind of sender: fast, slow, polite or not."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

import httpx2
import pytest

from etl_project_tests import steady
from etl_project_tests.unit.http_in.servers import TOKEN, ReceiverProcess, headers, serve

SIZE, ROOM, NO_ROOM, LIMIT = 4 << 20, 6 << 20, 7 << 20, 7 << 20
BIG = b"x" * (8 << 20)
NDJSON = {"Content-Type": "application/x-ndjson"}
NAME = "a-2026-01-05.csv"


class Refused(NamedTuple):
    """A request that is refused by its head alone, and the status."""

    status: int
    method: str
    path: str
    headers: dict[str, str]
    size: int = SIZE


# Each has a key of its own: of two requests with one key, at once, the second is told that the first is in progress.
AUTHORIZED = {"Authorization": f"Bearer {TOKEN}"}
REFUSED = {
    "no-token": Refused(401, "PUT", f"/v1/incoming/orders/{NAME}", {"Idempotency-Key": '"k"'}),
    "not-my-source": Refused(403, "PUT", f"/v1/incoming/others/{NAME}", headers("not-my-source")),
    "no-such-path": Refused(404, "PUT", "/v2", headers("no-such-path")),
    "wrong-method": Refused(405, "PATCH", f"/v1/incoming/orders/{NAME}", headers("wrong-method")),
    "in-progress": Refused(409, "PUT", f"/v1/incoming/orders/{NAME}", headers("held")),
    "too-large": Refused(413, "PUT", f"/v1/incoming/orders/{NAME}", headers("too-large"), len(BIG)),
    "not-lines": Refused(
        415, "POST", "/v1/incoming/payments?day=2026-01-05", headers("not-lines", **{"Content-Type": "a/b"})
    ),
    "key-reused": Refused(422, "PUT", f"/v1/incoming/orders/b-{NAME}", headers("used")),
    "disk-full": Refused(507, "PUT", f"/v1/incoming/orders/{NAME}", headers("disk-full"), NO_ROOM),
    "no-key": Refused(400, "PUT", f"/v1/incoming/orders/{NAME}", AUTHORIZED),
    "odd-name": Refused(400, "PUT", "/v1/incoming/orders/a%0ab", headers("odd-name")),
    "bad-line": Refused(400, "POST", "/v1/incoming/payments?day=2026-01-05", headers("bad-line", **NDJSON)),
}
every_refusal = pytest.mark.parametrize("refused", REFUSED.values(), ids=REFUSED)


def _serve_on_a_small_disk() -> None:
    """What `test_receiver_full_disk` does on a real one, for which the tests have to be allowed to mount it."""
    with patch("etl_project.http_in.sink.free_bytes", lambda folder: ROOM):
        serve()


class SmallDisk(ReceiverProcess):
    """A receiver whose disk has room for what is refused for another reason, and for no more."""

    serve = staticmethod(_serve_on_a_small_disk)


@pytest.fixture(scope="module")
def receiver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReceiverProcess]:
    environ = {"ETL_RECEIVER_MAX_BYTES": str(LIMIT), "ETL_RECEIVER_IDLE_SECONDS": "600"}
    started = SmallDisk(tmp_path_factory.mktemp("early") / "data", **environ)
    try:
        started.start()
        assert steady.put(f"{started.url}/v1/incoming/orders/{NAME}", headers=headers("used")).status_code == 201
        started.take()
        with socket.create_connection(("127.0.0.1", started.port)) as holder:
            holder.sendall(_head(Refused(0, "PUT", f"/v1/incoming/orders/{NAME}", headers("held"), 100)) + b"part")
            started.wait_for_uploads(1)
            yield started
    finally:
        started.stop()


@pytest.fixture(autouse=True)
def nothing_arrives(receiver: ReceiverProcess) -> Iterator[None]:
    yield
    assert receiver.take() == []


def _head(refused: Refused, *more: str) -> bytes:
    lines = [
        f"{refused.method} {refused.path} HTTP/1.1",
        "Host: x",
        f"Content-Length: {refused.size}",
        *(f"{name}: {value}" for name, value in refused.headers.items()),
        *more,
    ]
    return "\r\n".join([*lines, "", ""]).encode()


def _status(connection: socket.socket) -> int:
    """The status of the answer, once it has been read whole."""
    answer = b""
    while not answer.endswith(b"}"):
        piece = connection.recv(65536)
        assert piece, f"the connection ended with {answer!r}"
        answer += piece
    assert b"application/problem+json" in answer
    return int(answer.split()[1])


@every_refusal
@pytest.mark.parametrize("close", [False, True], ids=["open", "close"])
def test_a_sender_that_sends_all_before_it_reads_sees_the_refusal(
    receiver: ReceiverProcess, refused: Refused, close: bool
) -> None:
    with socket.create_connection(("127.0.0.1", receiver.port), timeout=240) as connection:
        connection.sendall(_head(refused, *(["Connection: close"] if close else [])))
        connection.sendall(BIG[: refused.size])
        assert _status(connection) == refused.status


@pytest.mark.parametrize("close", [False, True], ids=["open", "close"])
def test_a_sender_that_dribbles_for_longer_than_the_answer_takes_sees_every_refusal(
    receiver: ReceiverProcess, close: bool
) -> None:
    def dribble(refused: Refused) -> int:
        with socket.create_connection(("127.0.0.1", receiver.port), timeout=240) as connection:
            connection.sendall(_head(refused, *(["Connection: close"] if close else [])))
            for _ in range(13):
                connection.sendall(b"x\n" * 500)
                time.sleep(0.3)
            return _status(connection)

    with ThreadPoolExecutor(len(REFUSED)) as pool:
        found = dict(zip(REFUSED, pool.map(dribble, REFUSED.values()), strict=True))
    assert found == {name: refused.status for name, refused in REFUSED.items()}


@every_refusal
def test_httpx_sees_the_refusal(receiver: ReceiverProcess, refused: Refused) -> None:
    for more in ({}, {"Connection": "close"}):
        response = steady.request(
            refused.method,
            f"{receiver.url}{refused.path}",
            content=BIG[: refused.size],
            headers={**refused.headers, **more},
            timeout=240,
        )
        assert response.status_code == refused.status
        assert response.json()["status"] == refused.status


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@every_refusal
def test_curl_sees_the_refusal(receiver: ReceiverProcess, tmp_path: Path, refused: Refused) -> None:
    body = tmp_path / "body"
    body.write_bytes(BIG[: refused.size])
    named = [part for name, value in refused.headers.items() for part in ("-H", f"{name}: {value}")]
    for more in ([], ["-H", "Expect:"], ["-H", "Expect: 100-continue"], ["-H", "Connection: close", "-H", "Expect:"]):
        command = ["curl", "-sS", "-X", refused.method, "--data-binary", f"@{body}", "-o", "-", "-w", "\n%{http_code}"]
        done = subprocess.run(
            [*command, *named, *more, f"{receiver.url}{refused.path}"], check=False, capture_output=True, timeout=240
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines()[-1] == str(refused.status).encode(), more


def test_a_refused_sender_that_waits_for_100_continue_gets_no_second_request_mixed_up(
    receiver: ReceiverProcess,
) -> None:
    with socket.create_connection(("127.0.0.1", receiver.port), timeout=240) as connection:
        connection.sendall(_head(REFUSED["no-token"], "Expect: 100-continue"))
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
    assert answer.startswith(b"HTTP/1.1 401 ")
    assert b"connection: close" in answer.lower()


def test_a_connection_goes_on_after_a_refused_body_was_read_away(receiver: ReceiverProcess) -> None:
    with httpx2.Client(timeout=steady.PATIENCE_SECONDS) as client:
        url = f"{receiver.url}/v1/incoming/orders/{NAME}"
        assert client.put(url, content=BIG[:SIZE], headers={"Idempotency-Key": '"k"'}).status_code == 401
        assert client.get(f"{receiver.url}/healthz").status_code == 200


@pytest.mark.long
def test_a_sender_that_never_stops_is_cut_off(receiver: ReceiverProcess) -> None:
    """The rest that is read away is bounded: by time, however fast it comes. The test's own time-out is the end."""
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", receiver.port), timeout=240) as connection:
        connection.sendall(_head(REFUSED["no-token"]._replace(size=10**15), "Connection: close"))
        with pytest.raises(OSError, match=r"reset|pipe"):
            while True:
                connection.sendall(b"x" * 1000)
                time.sleep(0.2)
    assert time.monotonic() - began > 20
