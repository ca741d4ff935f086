"""A receiver with a certificate: real TLS clients that check it, uploads and refusals as without."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from etl_project_tests import steady
from etl_project_tests.unit.http_in.servers import TOKEN, ReceiverProcess, headers, running

NAME = "a-2026-01-05.csv"
BIG = b"x" * (8 << 20)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("tls")
    certificate, key = folder / "cert.pem", folder / "key.pem"
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=etl -addext subjectAltName=IP:127.0.0.1"
    subprocess.run([*command.split(), "-keyout", key, "-out", certificate], capture_output=True, check=True)
    return certificate, key


@pytest.fixture(scope="module")
def receiver(certificate: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReceiverProcess]:
    environ = {
        "ETL_RECEIVER_TLS_CERTIFICATE": str(certificate[0]),
        "ETL_RECEIVER_TLS_KEY": str(certificate[1]),
        "ETL_RECEIVER_MAX_BYTES": str(4 << 20),
    }
    with running(tmp_path_factory.mktemp("with-tls") / "data", certificate=certificate[0], **environ) as started:
        yield started


@pytest.fixture
def trusting(certificate: tuple[Path, Path]) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(certificate[0]))


def test_an_upload_over_tls_is_stored_and_replayed(receiver: ReceiverProcess, trusting: ssl.SSLContext) -> None:
    body = BIG[: 3 << 20]
    for replayed in (False, True):
        response = steady.put(
            f"{receiver.url}/v1/incoming/orders/{NAME}", content=body, headers=headers("k"), verify=trusting
        )
        assert response.status_code == 201
        assert ("idempotency-replayed" in response.headers) is replayed
    assert receiver.take() == [body]


def test_a_client_that_does_not_know_the_certificate_sends_nothing(receiver: ReceiverProcess) -> None:
    with pytest.raises(httpx2.ConnectError, match="certificate"):
        steady.put(f"{receiver.url}/v1/incoming/orders/{NAME}", content=b"x", headers=headers("k"))


def test_plain_http_is_not_answered(receiver: ReceiverProcess) -> None:
    with pytest.raises(httpx2.TransportError):
        steady.get(f"http://127.0.0.1:{receiver.port}/healthz")


def test_early_refusals_reach_fast_and_slow_senders_over_tls(
    receiver: ReceiverProcess, certificate: tuple[Path, Path], trusting: ssl.SSLContext, tmp_path: Path
) -> None:
    url = f"{receiver.url}/v1/incoming/orders/{NAME}"
    for more in ({}, {"Connection": "close"}):
        unknown = {"Idempotency-Key": '"k"', **more}
        assert steady.put(url, content=BIG, headers=unknown, verify=trusting).status_code == 401
        assert steady.put(url, content=BIG, headers=headers("k", **more), verify=trusting).status_code == 413
        head = "".join(f"{name}: {value}\r\n" for name, value in {**more, "Content-Length": str(1 << 20)}.items())
        with socket.create_connection(("127.0.0.1", receiver.port), timeout=240) as plain:
            connection = trusting.wrap_socket(plain, server_hostname="127.0.0.1")
            connection.sendall(f"PUT /v1/incoming/orders/{NAME} HTTP/1.1\r\nHost: x\r\n{head}\r\n".encode())
            for _ in range(12):
                connection.sendall(b"x" * 1000)
                time.sleep(0.3)
            assert connection.recv(65536).startswith(b"HTTP/1.1 401 ")
    if shutil.which("curl"):
        body = tmp_path / "body"
        body.write_bytes(BIG)
        command = ["curl", "-sS", "--cacert", str(certificate[0]), "-T", str(body), "-o", "-", "-w", "\n%{http_code}"]
        done = subprocess.run([*command, "-H", "Expect:", url], check=False, capture_output=True, timeout=240)
        assert done.stdout.endswith(b"\n401"), done.stderr
    assert receiver.take() == []


def test_no_secret_and_no_key_is_in_the_log(receiver: ReceiverProcess) -> None:
    assert TOKEN not in receiver.log()
    assert "Traceback" not in receiver.log()
