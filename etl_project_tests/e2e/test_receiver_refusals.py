"""A real receiver and everything that may not come in: each is refused with its reason, and nothing is left behind."""

from __future__ import annotations

import base64
import hashlib
import json
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from etl_project_tests import steady
from etl_project_tests.unit.http_in.servers import OTHER_TOKEN, TOKEN, ReceiverProcess, headers, running

LIMIT = 256 * 1024


@pytest.fixture(scope="module")
def receiver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReceiverProcess]:
    data_dir = tmp_path_factory.mktemp("refusals") / "data"
    with running(data_dir, ETL_RECEIVER_MAX_BYTES=str(LIMIT)) as started:
        yield started


@pytest.fixture(autouse=True)
def nothing_is_left(receiver: ReceiverProcess) -> Iterator[None]:
    yield
    assert receiver.temporaries() == []
    assert receiver.take() == []


def put(receiver: ReceiverProcess, path: str, body: bytes = b"x", **options: object) -> httpx2.Response:
    return steady.put(f"{receiver.url}{path}", content=body, **options)  # type: ignore[arg-type]


def refused(response: httpx2.Response, status: int, kind: str) -> dict[str, object]:
    """The problem, if it is that one."""
    problem = response.json()
    assert (response.status_code, problem["type"]) == (status, f"urn:etl-project:problem:{kind}")
    assert response.headers["content-type"] == "application/problem+json"
    assert problem["status"] == status
    assert problem["title"]
    assert problem["detail"]
    return problem


def raw(receiver: ReceiverProcess, *pieces: bytes, close: bool = False) -> bytes:
    """Send bytes as they are and read until the receiver closes."""
    with socket.create_connection(("127.0.0.1", receiver.port), timeout=240) as connection:
        for piece in pieces:
            connection.sendall(piece)
        if close:
            connection.shutdown(socket.SHUT_WR)
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
        return answer


def head(
    key: str, length: int | None, path: str = "/v1/incoming/orders/a-2026-01-05.csv", *, close: bool = False
) -> bytes:
    size = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    end = "Connection: close\r\n" if close else ""
    return (
        f"PUT {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n"
        f'Idempotency-Key: "{key}"\r\n{size}\r\n{end}\r\n'
    ).encode()


def test_a_request_without_a_known_token_is_401(receiver: ReceiverProcess) -> None:
    for authorization in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {TOKEN}"}):
        response = put(
            receiver, "/v1/incoming/orders/a-2026-01-05.csv", headers={"Idempotency-Key": '"k"', **authorization}
        )
        refused(response, 401, "token")
        assert response.headers["www-authenticate"].startswith("Bearer")


def test_a_source_of_somebody_else_is_403_whether_it_exists_or_not(receiver: ReceiverProcess) -> None:
    incoming = receiver.data_dir / "incoming"
    before = set(incoming.rglob("*"))
    for source in ("payments", "no-such", "Orders", "orders%20"):
        refused(put(receiver, f"/v1/incoming/{source}/a.csv", headers=headers("k", OTHER_TOKEN)), 403, "source")
    for source in ("..", "%2e%2e", "..%2f..", "%2e%2e%2f"):
        assert raw(receiver, head("k", 1, f"/v1/incoming/{source}/a.csv", close=True), b"x").startswith(
            b"HTTP/1.1 403 "
        )
    assert set(incoming.rglob("*")) == before


@pytest.mark.parametrize(
    "name",
    [
        "..%2fa.csv",
        "%2e%2e%2fa.csv",
        "..%2f..%2fetc%2fpasswd",
        "%2fetc%2fpasswd",
        "a%2fb.csv",
        "a%5cb",
        "a%00",
        "a%0a",
        "a%0ab",
        ".hidden",
        "a.tmp",
        "a.part",
        "a~",
        "a%20b",
        "%c3%bc.csv",
        "%ff",
        "%2e",
        "%2e%2e",
    ],
)
def test_traversal_and_odd_names_are_400(receiver: ReceiverProcess, name: str) -> None:
    response = raw(
        receiver,
        head("k", 1, f"/v1/incoming/orders/{name}", close=True),
        b"x",
    )
    assert response.startswith(b"HTTP/1.1 400 "), response
    assert b"application/problem+json" in response


def test_an_empty_and_an_endless_name_are_400(receiver: ReceiverProcess) -> None:
    for name in ("", "x" * 201):
        refused(put(receiver, f"/v1/incoming/orders/{name}", headers=headers("k")), 400, "name")


def test_a_missing_or_malformed_key_is_400(receiver: ReceiverProcess) -> None:
    authorization = {"Authorization": f"Bearer {TOKEN}"}
    response = put(receiver, "/v1/incoming/orders/a-2026-01-05.csv", headers=authorization)
    refused(response, 400, "key-missing")
    assert 'rel="describedby"' in response.headers["link"]
    for key in ("two words", "a,b", '""', '"a', 'a"', "x" * 256, '"' + "x" * 300 + '"'):
        malformed = put(
            receiver, "/v1/incoming/orders/a-2026-01-05.csv", headers={**authorization, "Idempotency-Key": key}
        )
        refused(malformed, 400, "key-malformed")


def test_a_large_body_is_413_before_it_is_read_and_while_it_streams(receiver: ReceiverProcess) -> None:
    big = b"x" * (LIMIT + 1)
    refused(put(receiver, "/v1/incoming/orders/a-2026-01-05.csv", big, headers=headers("big")), 413, "too-large")
    pieces = iter([big[:LIMIT], big[LIMIT:]])
    streamed = steady.put(f"{receiver.url}/v1/incoming/orders/a-2026-01-05.csv", content=pieces, headers=headers("big"))
    refused(streamed, 413, "too-large")
    answer = raw(receiver, head("huge", 10**15), close=True)
    assert answer.startswith(b"HTTP/1.1 413 ")


def test_a_wrong_digest_is_400_and_the_key_stays_free(receiver: ReceiverProcess) -> None:
    right = base64.b64encode(hashlib.sha256(b"x").digest()).decode()
    wrong = base64.b64encode(hashlib.sha256(b"y").digest()).decode()
    for digest in (f"sha-256=:{wrong}:", "sha-256=nonsense", "md5=:AAAA:"):
        response = put(
            receiver, "/v1/incoming/orders/a-2026-01-05.csv", headers=headers("d", **{"Content-Digest": digest})
        )
        refused(response, 400, "digest")
    response = put(
        receiver,
        "/v1/incoming/orders/a-2026-01-05.csv",
        headers=headers("d", **{"Content-Digest": f"sha-256=:{right}:"}),
    )
    assert response.status_code == 201
    assert receiver.take() == [b"x"]


def test_a_body_shorter_than_announced_is_400(receiver: ReceiverProcess) -> None:
    answer = raw(receiver, head("short", 100), b"only this", close=True)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["type"].endswith(":cut-short")


def test_a_chunked_body_without_its_end_is_400(receiver: ReceiverProcess) -> None:
    answer = raw(receiver, head("chunked", None), b"5\r\nhello\r\n", close=True)
    assert answer.startswith(b"HTTP/1.1 400 ")


def test_a_sender_that_vanishes_leaves_nothing_and_its_key_is_free(receiver: ReceiverProcess) -> None:
    with socket.create_connection(("127.0.0.1", receiver.port)) as connection:
        connection.sendall(head("gone", 100) + b"half")
    again = raw(receiver, head("gone", 4, close=True), b"full")
    while again.startswith(b"HTTP/1.1 409 "):
        again = raw(receiver, head("gone", 4, close=True), b"full")
    assert again.startswith(b"HTTP/1.1 201 ")
    assert receiver.take() == [b"full"]


def test_a_sender_that_closes_its_side_after_a_whole_request_is_answered(receiver: ReceiverProcess) -> None:
    assert raw(receiver, head("half-closed", 1), b"x", close=True).startswith(b"HTTP/1.1 201 ")
    assert receiver.take() == [b"x"]


def test_a_body_that_pauses_too_long_is_408_and_cut_off(tmp_path: Path) -> None:
    with running(tmp_path / "data", ETL_RECEIVER_IDLE_SECONDS="0.5") as impatient:
        answer = raw(impatient, head("slow", 100), b"a little")
        assert impatient.temporaries() == impatient.files() == []
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"connection: close" in answer.lower()


@pytest.mark.parametrize(
    ("body", "content_type", "status", "kind"),
    [
        (b"", "application/x-ndjson", 400, "line"),
        (b"{}\nnot json\n", "application/x-ndjson", 400, "line"),
        (b"[1]\n", "application/jsonl", 400, "line"),
        (b"{}\n", "text/csv", 415, "media-type"),
        (b"{}\n", "", 415, "media-type"),
    ],
)
def test_what_is_not_json_lines_is_refused(
    receiver: ReceiverProcess, body: bytes, content_type: str, status: int, kind: str
) -> None:
    response = steady.post(
        f"{receiver.url}/v1/incoming/orders",
        content=body,
        headers=headers("lines", **({"Content-Type": content_type} if content_type else {})),
    )
    refused(response, status, kind)


def test_a_name_that_the_source_would_not_read_is_400_at_once(receiver: ReceiverProcess) -> None:
    for name, reason in (("a.csv", "match"), ("a-2026-02-30.csv", "exist"), ("a-2999-01-01.csv", "ahead")):
        problem = refused(put(receiver, f"/v1/incoming/orders/{name}", headers=headers("undated")), 400, "name")
        assert reason in str(problem["detail"])
    lines = headers("lines", **{"Content-Type": "application/x-ndjson"})
    for day in ("2999-01-01", "1999-01-01"):
        response = steady.post(f"{receiver.url}/v1/incoming/payments?day={day}", content=b"{}", headers=lines)
        refused(response, 400, "day")


def test_an_odd_day_is_400(receiver: ReceiverProcess) -> None:
    for query in ("day=yesterday", "day=2026-02-30", "day=2026-01-01&day=2026-01-02"):
        response = steady.post(
            f"{receiver.url}/v1/incoming/orders?{query}",
            content=b"{}",
            headers=headers("day", **{"Content-Type": "application/x-ndjson"}),
        )
        refused(response, 400, "day")


def test_encoded_and_partial_bodies_are_400(receiver: ReceiverProcess) -> None:
    for name, value in (("Content-Encoding", "gzip"), ("Content-Range", "bytes 0-0/2")):
        response = put(receiver, "/v1/incoming/orders/a-2026-01-05.csv", headers=headers("part", **{name: value}))
        refused(response, 400, name.lower())


def test_unknown_paths_and_methods_are_problems_too(receiver: ReceiverProcess) -> None:
    refused(steady.get(f"{receiver.url}/v2"), 404, "request")
    wrong_method = steady.request("DELETE", f"{receiver.url}/v1/incoming/orders/a-2026-01-05.csv", headers=headers("k"))
    refused(wrong_method, 405, "request")
    assert wrong_method.headers["allow"] == "PUT"


def test_bytes_that_are_not_http_are_400(receiver: ReceiverProcess) -> None:
    answer = raw(receiver, b"\x16\x03\x01 hello\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"application/problem+json" in answer


def test_nonsense_behind_a_good_request_is_400_and_no_fault_of_the_one_before(receiver: ReceiverProcess) -> None:
    for good in (b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", head("behind", 1, "/v2") + b"x"):
        for _ in range(10):
            assert b"HTTP/1.1 400 " in raw(receiver, good + b"\x00 nonsense\r\n\r\n", close=True)
    assert "Traceback" not in receiver.log()


def test_a_head_of_more_than_64_kib_is_431_whether_it_ends_or_not(receiver: ReceiverProcess) -> None:
    endless = b"".join(f"X-{number}: {'x' * 1000}\r\n".encode() for number in range(10_000))
    for head in (
        endless,
        b"X: " + b"x" * 10_000_000,
        b"X: " + b"x" * 70_000 + b"\r\n\r\n",
        endless[:70_000] + b"\r\n\r\n",
    ):
        answer = raw(receiver, b"GET /healthz HTTP/1.1\r\n" + head, close=True)
        assert answer.startswith(b"HTTP/1.1 431 ")
        assert answer.count(b"HTTP/1.1") == 1
        assert b"application/problem+json" in answer
    answer = raw(receiver, b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\n\r\n", close=True)
    assert answer.startswith(b"HTTP/1.1 431 ")
    longest = b"GET /healthz HTTP/1.1\r\nConnection: close\r\nX: " + b"x" * 65_000 + b"\r\n\r\n"
    assert raw(receiver, longest).startswith(b"HTTP/1.1 200 ")


HOSTILE = (
    b"\xff\xfe\x80",
    b"",
    b'"\\"',
    b"-1",
    b"5, 5",
    b"9" * 400,
    b"a\x00b",
    b":AA:",
    b"sha-256=:!:",
    b"chunked",
    b"Bearer \xff",
)
HEADERS = (
    *(b"Authorization", b"Idempotency-Key", b"Content-Length", b"Transfer-Encoding", b"Content-Type"),
    *(b"Content-Encoding", b"Content-Range", b"Repr-Digest", b"Content-Digest", b"Digest", b"Expect", b"Connection"),
    *(b"Upgrade", b"Host", b"X-Forwarded-For", b"Range", b"TE", b"webhook-id", b"webhook-timestamp"),
)


def test_no_value_of_any_header_is_answered_with_500_or_not_at_all(receiver: ReceiverProcess) -> None:
    ways = [(name, value, False) for name in HEADERS for value in HOSTILE]
    ways += [(name, value, True) for name in HEADERS[:3] for value in HOSTILE]  # Beside a good one of that name.
    for number, (name, value, is_added) in enumerate(ways):
        good = head(f"hostile-{number}", 1, close=True).removesuffix(b"\r\n\r\n").split(b"\r\n")
        lines = [line for line in good if is_added or not line.startswith(name + b":")]
        lines.insert(2, name + b": " + value)
        answer = raw(receiver, b"\r\n".join(lines) + b"\r\n\r\nx", close=True)
        assert answer[:13] in {b"HTTP/1.1 201 ", b"HTTP/1.1 400 ", b"HTTP/1.1 401 "}, (name, value, answer)
    assert "Traceback" not in receiver.log()
    assert set(receiver.take()) <= {b"x"}


def test_a_body_in_a_coding_that_is_not_undone_here_is_501_and_nothing_is_stored(receiver: ReceiverProcess) -> None:
    for coding in ("gzip, chunked", "deflate, chunked", "chunked, chunked"):
        coded = head("coded", None).replace(b"Transfer-Encoding: chunked", b"Transfer-Encoding: " + coding.encode())
        answer = raw(receiver, coded, b"5\r\nhello\r\n0\r\n\r\n", close=True)
        assert answer.startswith((b"HTTP/1.1 501 ", b"HTTP/1.1 400 ")), answer


def test_the_same_key_with_another_body_or_request_is_422(receiver: ReceiverProcess) -> None:
    assert put(receiver, "/v1/incoming/orders/a-2026-01-05.csv", b"one", headers=headers("once")).status_code == 201
    refused(put(receiver, "/v1/incoming/orders/a-2026-01-05.csv", b"two", headers=headers("once")), 422, "key-reused")
    refused(put(receiver, "/v1/incoming/orders/b-2026-01-05.csv", b"one", headers=headers("once")), 422, "key-reused")
    refused(
        put(receiver, "/v1/incoming/payments/a-2026-01-05.jsonl", b"one", headers=headers("once")), 422, "key-reused"
    )
    assert receiver.take() == [b"one"]
