"""A real receiver and senders of webhooks: what is signed becomes one line once, and nothing else comes in."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Iterator

import httpx2
import pytest

from etl_project_tests import steady
from etl_project_tests.unit.http_in.servers import ReceiverProcess, running

SECRET = "a-secret-of-the-shop"
STANDARD_SECRET = base64.b64encode(b"another secret of 24 byt").decode()


@pytest.fixture(scope="module")
def receiver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReceiverProcess]:
    environ = {
        "ETL_RECEIVER_SECRET_SHOP": SECRET,
        "ETL_RECEIVER_SIGNATURE_SHOP": "X-Shop-Signature=hex",
        "ETL_RECEIVER_KEY_FIELD_SHOP": "event.id",
        "ETL_RECEIVER_SOURCES_SHOP": "payments",
        "ETL_RECEIVER_SECRET_BANK": f"whsec_{STANDARD_SECRET}",
        "ETL_RECEIVER_SIGNATURE_BANK": "standard",
        "ETL_RECEIVER_SOURCES_BANK": "payments",
    }
    with running(tmp_path_factory.mktemp("webhooks") / "data", **environ) as started:
        yield started


@pytest.fixture(autouse=True)
def nothing_is_left(receiver: ReceiverProcess) -> Iterator[None]:
    yield
    assert receiver.temporaries() == []
    assert receiver.take() == []


def shop(
    receiver: ReceiverProcess, body: bytes, *, secret: str = SECRET, path: str = "shop/payments"
) -> httpx2.Response:
    signature = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    return steady.post(
        f"{receiver.url}/v1/webhooks/{path}", content=body, headers={"X-Shop-Signature": f"sha256={signature}"}
    )


def bank(receiver: ReceiverProcess, body: bytes, message: str, at: float) -> httpx2.Response:
    signed = f"{message}.{int(at)}.".encode() + body
    signature = base64.b64encode(hmac.new(base64.b64decode(STANDARD_SECRET), signed, hashlib.sha256).digest()).decode()
    sent = {"webhook-id": message, "webhook-timestamp": str(int(at)), "webhook-signature": f"v1,{signature}"}
    return steady.post(f"{receiver.url}/v1/webhooks/bank/payments", content=body, headers=sent)


def event(number: object, **more: object) -> bytes:
    return json.dumps({"event": {"id": number}, **more}, indent=2).encode()


def test_a_signed_message_is_one_line_of_todays_file_and_its_repetition_changes_nothing(
    receiver: ReceiverProcess,
) -> None:
    body = event("e-1", amount=1.10, text="two\nlines")
    for replayed in (False, True, True):
        response = shop(receiver, body)
        assert response.status_code == 201, response.text
        assert ("idempotency-replayed" in response.headers) is replayed
    [path] = receiver.files()
    assert path.name == response.json()["name"]
    [line] = receiver.take()
    assert line.count(b"\n") == 1
    assert json.loads(line) == json.loads(body)
    assert b"1.1" in line


def test_messages_with_keys_of_their_own_are_files_of_their_own(receiver: ReceiverProcess) -> None:
    for number in (1, 2, "1x"):
        assert shop(receiver, event(number)).status_code == 201
    assert [json.loads(line)["event"]["id"] for line in receiver.take()] != []


def test_the_same_key_with_another_message_is_422(receiver: ReceiverProcess) -> None:
    assert shop(receiver, event("twice")).status_code == 201
    assert shop(receiver, event("twice", changed=True)).status_code == 422
    assert len(receiver.take()) == 1


@pytest.mark.parametrize("path", ["shop/payments", "acme/payments", "nobody/payments", "bank/payments"])
def test_what_is_not_signed_by_that_sender_is_401(receiver: ReceiverProcess, path: str) -> None:
    response = shop(receiver, event("e"), secret="a-guess-at-the-secret", path=path)
    assert response.status_code == 401
    assert response.json()["type"].endswith(":signature")
    assert shop(receiver, event("e"), secret=SECRET, path="shop/orders").status_code == 403


@pytest.mark.parametrize(
    "body", [b"", b"no", b"[1]", b'{"a": NaN}', b"\xff", b'{"event": {}}', b'{"event": {"id": true}}']
)
def test_what_is_signed_and_of_no_use_is_400(receiver: ReceiverProcess, body: bytes) -> None:
    assert shop(receiver, body).status_code == 400


def test_a_message_of_more_than_a_line_is_413(receiver: ReceiverProcess) -> None:
    assert shop(receiver, event("big", text="x" * (1 << 20))).status_code == 413


def test_a_message_that_is_sent_again_much_later_is_401_and_an_own_key_is_taken_from_its_header(
    receiver: ReceiverProcess,
) -> None:
    now = time.time()
    for replayed in (False, True):
        response = bank(receiver, b'{"a": 1}', "m-1", now)
        assert response.status_code == 201, response.text
        assert ("idempotency-replayed" in response.headers) is replayed
    assert bank(receiver, b'{"a": 1}', "m-2", now - 600).status_code == 401
    assert [json.loads(line) for line in receiver.take()] == [{"a": 1}]


def test_two_messages_that_say_the_same_are_two_files_with_contents_of_their_own(receiver: ReceiverProcess) -> None:
    for message in ("same-1", "same-2", "same-1", "same-2"):
        assert bank(receiver, b'{"a": 1}', message, time.time()).status_code == 201
    lines = receiver.take()
    assert len(lines) == len(set(lines)) == 2
    assert [json.loads(line) for line in lines] == [{"a": 1}] * 2
