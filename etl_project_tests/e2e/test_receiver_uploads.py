"""A real receiver at work: uploads arrive whole, once, whoever repeats them and however many at a time."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import signal
import socket
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx2
import psutil
import pytest

from etl_project_tests import steady
from etl_project_tests.unit.http_in.servers import (
    OTHER_TOKEN,
    PATIENCE_SECONDS,
    TOKEN,
    ReceiverProcess,
    headers,
    running,
)

NDJSON = {"Content-Type": "application/x-ndjson"}


@pytest.fixture(scope="module")
def receiver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReceiverProcess]:
    with running(tmp_path_factory.mktemp("uploads") / "data") as started:
        yield started


def put(receiver: ReceiverProcess, name: str, body: bytes, key: str, token: str = TOKEN) -> httpx2.Response:
    return steady.put(f"{receiver.url}/v1/incoming/orders/{name}", content=body, headers=headers(key, token))


def test_an_upload_is_stored_and_its_repetition_is_the_first_answer_marked(receiver: ReceiverProcess) -> None:
    first = put(receiver, "orders-2026-01-01.csv", b"a,b\n", "first")
    assert first.status_code == 201
    assert first.json() == {
        "source": "orders",
        "name": "orders-2026-01-01.csv",
        "size_bytes": 4,
        "sha256": hashlib.sha256(b"a,b\n").hexdigest(),
    }
    assert "idempotency-replayed" not in first.headers
    assert receiver.take() == [b"a,b\n"]
    for _ in range(2):
        again = put(receiver, "orders-2026-01-01.csv", b"a,b\n", "first")
        assert (again.status_code, again.content) == (201, first.content)
        assert again.headers["idempotency-replayed"] == "true"
    assert receiver.take() == []


def test_keys_are_scoped_by_client(receiver: ReceiverProcess) -> None:
    assert put(receiver, "a-2026-01-05.csv", b"of acme", "shared").status_code == 201
    other = put(receiver, "b-2026-01-05.csv", b"of other", "shared", OTHER_TOKEN)
    assert other.status_code == 201
    assert "idempotency-replayed" not in other.headers
    assert receiver.take() == [b"of acme", b"of other"]


def test_a_key_without_quotes_is_the_same_key(receiver: ReceiverProcess) -> None:
    url = f"{receiver.url}/v1/incoming/orders/bare-2026-01-05.csv"
    for key, replayed in (("ab-1.2:3", False), ('"ab-1.2:3"', True), ("ab-1.2:3", True)):
        response = steady.put(url, content=b"x", headers={**headers("k"), "Idempotency-Key": key})
        assert response.status_code == 201
        assert ("idempotency-replayed" in response.headers) is replayed
    assert receiver.take() == [b"x"]


def test_a_client_may_have_its_keys_in_a_header_of_another_name(tmp_path: Path) -> None:
    with running(tmp_path / "data", ETL_RECEIVER_KEY_HEADER_ACME="X-Idempotency-Key") as receiver:
        url = f"{receiver.url}/v1/incoming/orders/a-2026-01-05.csv"
        sent = {"Authorization": f"Bearer {TOKEN}", "X-Idempotency-Key": "order/7@{x}"}
        for replayed in (False, True):
            response = steady.put(url, content=b"x", headers=sent)
            assert response.status_code == 201
            assert ("idempotency-replayed" in response.headers) is replayed
        assert steady.put(url, content=b"x", headers=headers("k")).json()["type"].endswith(":key-missing")
        assert put(receiver, "b-2026-01-05.csv", b"y", "k", OTHER_TOKEN).status_code == 201
        assert receiver.take() == [b"x", b"y"]


def test_an_empty_file_is_a_file(receiver: ReceiverProcess) -> None:
    for replayed in (False, True):
        response = put(receiver, "empty-2026-01-05.csv", b"", "empty")
        assert response.status_code == 201
        assert ("idempotency-replayed" in response.headers) is replayed
    assert receiver.take() == [b""]


def test_json_lines_become_one_file_named_after_day_and_key(receiver: ReceiverProcess) -> None:
    url = f"{receiver.url}/v1/incoming/payments?day=2026-01-02"
    for _ in range(2):
        response = steady.post(url, content=b'{"a": 1}\n{"a": 2}\n', headers=headers("l", **NDJSON))
        assert response.status_code == 201
    [path] = receiver.files()
    assert path.name == response.json()["name"]
    assert path.name.startswith("payments-2026-01-02-")
    assert path.name.endswith(".jsonl")
    [stored] = receiver.take()
    assert stored.startswith(b'{"a": 1}\n{"a": 2}') and stored.endswith(b"\n")
    assert [json.loads(line) for line in stored.splitlines()] == [{"a": 1}, {"a": 2}]


def test_an_upload_of_many_pieces_arrives_whole(receiver: ReceiverProcess) -> None:
    body = bytes(range(256)) * 4096 * 20
    pieces = (body[start : start + 100_000] for start in range(0, len(body), 100_000))
    response = steady.put(
        f"{receiver.url}/v1/incoming/orders/big-2026-01-05.bin", content=pieces, headers=headers("big")
    )
    assert response.json()["sha256"] == hashlib.sha256(body).hexdigest()
    assert receiver.take() == [body]


def test_a_long_upload_that_turns_out_wrong_leaves_nothing(receiver: ReceiverProcess) -> None:
    url = f"{receiver.url}/v1/incoming/orders/wrong-2026-01-05.bin"
    digest = {"Content-Digest": f"sha-256=:{'A' * 43}=:"}
    response = steady.put(url, content=b"x" * 3_000_000, headers=headers("wrong", **digest))
    assert response.status_code == 400
    with begin_upload(receiver, "wrong-2026-01-05.bin", "wrong", 3_000_001) as connection:
        connection.sendall(b"x" * 3_000_000)
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(100).startswith(b"HTTP/1.1 400 ")
    assert receiver.files() == []
    assert receiver.temporaries() == []


def test_of_200_requests_at_once_with_one_key_one_has_an_effect(receiver: ReceiverProcess) -> None:
    async def all_at_once() -> list[httpx2.Response]:
        limits = httpx2.Limits(max_connections=None)
        async with httpx2.AsyncClient(limits=limits, timeout=240) as client:
            url = f"{receiver.url}/v1/incoming/orders/many-2026-01-05.csv"
            tries = [client.put(url, content=b"many", headers=headers("many")) for _ in range(200)]
            return await asyncio.gather(*tries)

    for repeated in (False, True):
        responses = asyncio.run(all_at_once())
        kinds = Counter((r.status_code, "idempotency-replayed" in r.headers) for r in responses)
        assert kinds[201, False] == (0 if repeated else 1), kinds
        assert set(kinds) <= {(201, False), (201, True), (409, False)}
        assert all("retry-after" in r.headers for r in responses if r.status_code == 409)
        assert receiver.take() == ([] if repeated else [b"many"])
    assert receiver.temporaries() == []


def test_a_second_request_while_the_first_streams_is_409(receiver: ReceiverProcess) -> None:
    with begin_upload(receiver, "streaming-2026-01-05.csv", "streaming", 10) as connection:
        connection.sendall(b"12345")
        while (response := put(receiver, "streaming-2026-01-05.csv", b"1234567890", "streaming")).status_code != 409:
            assert response.status_code == 422, "the key was free although its upload had begun"
        assert response.headers["retry-after"] == "1"
        connection.sendall(b"67890")
        assert connection.recv(100).startswith(b"HTTP/1.1 201 ")
    assert receiver.take() == [b"1234567890"]


def begin_upload(receiver: ReceiverProcess, name: str, key: str, length: int) -> socket.socket:
    """The head of an upload; the answer to Expect says that its key is held."""
    connection = socket.create_connection(("127.0.0.1", receiver.port), timeout=240)
    connection.sendall(
        f"PUT /v1/incoming/orders/{name} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n"
        f'Idempotency-Key: "{key}"\r\nContent-Length: {length}\r\nExpect: 100-continue\r\n\r\n'.encode()
    )
    assert connection.recv(100).startswith(b"HTTP/1.1 100 ")
    return connection


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_restart_in_the_middle_of_an_upload_leaves_nothing(tmp_path: Path, how: signal.Signals) -> None:
    with running(tmp_path / "data") as receiver:
        with begin_upload(receiver, "half-2026-01-05.csv", "half", 5_000_000) as connection:
            connection.sendall(b"x" * 2_000_000)
            wait_until(lambda: receiver.temporaries() != [])
            receiver.send(how)
            if how == signal.SIGTERM:
                # It lets running uploads end; this one ends by its sender's going away.
                connection.close()
            receiver.process.join(240)  # type: ignore[union-attr]
        assert receiver.files() == []
        receiver.start()
        assert receiver.temporaries() == []
        assert receiver.files() == []
        assert put(receiver, "half-2026-01-05.csv", b"whole", "half").status_code == 201
        assert receiver.take() == [b"whole"]


def test_a_full_disk_is_507_and_leaves_nothing_and_the_key_free(tmp_path: Path) -> None:
    receiver = ReceiverProcess(tmp_path / "data")
    try:
        receiver.start("receiver.synced:1=full")
        full = put(receiver, "a-2026-01-05.csv", b"x", "k")
        assert full.status_code == 507
        assert full.headers["content-type"] == "application/problem+json"
        assert receiver.files() == []
        assert receiver.temporaries() == []
        assert put(receiver, "a-2026-01-05.csv", b"x", "k").status_code == 201
    finally:
        receiver.stop()


def test_health_and_the_document_are_open_to_all(receiver: ReceiverProcess) -> None:
    assert steady.get(f"{receiver.url}/healthz").json() == {"status": "ok"}
    document = steady.get(f"{receiver.url}/openapi.json").json()
    assert document["openapi"] == "3.1.0"
    assert "7 days" in document["info"]["description"]


def test_no_token_is_ever_printed(receiver: ReceiverProcess) -> None:
    put(receiver, "a-2026-01-05.csv", b"x", "printed")
    put(receiver, "a-2026-01-05.csv", b"y", "printed")
    receiver.take()
    assert "key-reused" in receiver.log()
    assert TOKEN not in receiver.log()


def test_small_uploads_at_full_speed_are_all_there_and_memory_is_flat(receiver: ReceiverProcess) -> None:
    process = psutil.Process(receiver.process.pid)  # type: ignore[union-attr]

    async def upload(count: int, prefix: str) -> list[int]:
        async with httpx2.AsyncClient(limits=httpx2.Limits(max_connections=16), timeout=240) as client:
            url = f"{receiver.url}/v1/incoming/orders"

            async def one(number: int) -> int:
                name = f"{prefix}-{number}-2026-01-05.csv"
                response = await client.put(f"{url}/{name}", content=name.encode(), headers=headers(name))
                return response.status_code

            return await asyncio.gather(*(one(number) for number in range(count)))

    asyncio.run(upload(300, "warm"))
    before = process.memory_info().rss
    assert set(asyncio.run(upload(900, "load"))) == {201}
    grown = process.memory_info().rss - before
    names = sorted(receiver.take())
    assert names == sorted(
        [f"warm-{n}-2026-01-05.csv".encode() for n in range(300)]
        + [f"load-{n}-2026-01-05.csv".encode() for n in range(900)]
    )
    assert grown < 20 << 20, f"{grown} bytes more after 900 uploads"


def wait_until(condition: object, seconds: float = PATIENCE_SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_name_that_a_folder_has_is_400_and_stops_neither_this_receiver_nor_the_next(tmp_path: Path) -> None:
    with running(tmp_path / "data") as receiver:
        folder = receiver.data_dir / "incoming" / "orders" / "2026-01-05.csv"
        folder.mkdir(parents=True)
        for _ in range(2):
            response = put(receiver, folder.name, b"x", "folder")
            assert response.status_code == 400
            assert "folder" in response.json()["detail"]
        receiver.kill()
        receiver.start()
        assert receiver.temporaries() == []
        folder.rmdir()
        assert put(receiver, folder.name, b"x", "folder").status_code == 201


def test_a_folder_that_takes_the_name_while_the_file_comes_stops_no_start_and_the_file_is_there_in_the_end(
    tmp_path: Path,
) -> None:
    with running(tmp_path / "data") as receiver:
        folder = receiver.data_dir / "incoming" / "orders" / "2026-01-05.csv"
        with begin_upload(receiver, folder.name, "race", 4) as connection:
            connection.sendall(b"ab")
            receiver.wait_for_uploads(1)
            folder.mkdir(parents=True)
            connection.sendall(b"cd")
            assert connection.recv(100).startswith(b"HTTP/1.1 500 ")
        for _ in range(2):
            receiver.kill()
            receiver.start()
            assert put(receiver, "other-2026-01-06.csv", b"y", "other").status_code == 201
        folder.rmdir()
        assert put(receiver, folder.name, b"abcd", "race").headers["idempotency-replayed"] == "true"
        assert receiver.take() == [b"abcd", b"y"]


def test_one_client_that_holds_all_its_uploads_open_keeps_no_other_from_sending(tmp_path: Path) -> None:
    with running(tmp_path / "data", ETL_RECEIVER_MAX_UPLOADS="3") as receiver, contextlib.ExitStack() as held:
        for number in range(3):
            connection = held.enter_context(begin_upload(receiver, f"{number}-2026-01-05.csv", f"held-{number}", 100))
            connection.sendall(b"x")
        receiver.wait_for_uploads(3)
        assert put(receiver, "a-2026-01-05.csv", b"x", "one-more").status_code == 503
        assert put(receiver, "a-2026-01-05.csv", b"x", "one-more", OTHER_TOKEN).status_code == 201
        held.close()
        deadline = time.monotonic() + 240
        while put(receiver, "a-2026-01-05.csv", b"x", "one-more").status_code != 201:
            assert time.monotonic() < deadline
            time.sleep(0.1)
