"""What the tests of HTTP out and in share: a real receiver process, a client, a proxy that drops connections."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sqlite3
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import date
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import httpx2

from etl_project import settings
from etl_project.http_in import receiver
from etl_project.http_in import settings as delivery_settings
from etl_project.http_in.database import Database
from etl_project.http_out.client import DeliveryClient
from etl_project.http_out.records import Deliveries
from etl_project.http_out.settings import Outgoing
from etl_project_tests import steady
from etl_project_tests.forks import FORKS
from etl_project_tests.steady import PATIENCE_SECONDS

TOKEN = "correct-horse-battery"
OTHER_TOKEN = "another-horse-battery"

Answer = tuple[int, dict[str, str], bytes]


def spawn(target: Callable[..., None], *arguments: object, log: Path, **environ: str) -> ForkServerProcess:
    """Run `target` in a process of its own, with these environment variables, printing to `log`."""
    process = FORKS.Process(target=_run, args=(target, arguments, log, environ))
    process.start()
    return process


def _run(target: Callable[..., None], arguments: tuple[object, ...], log: Path, environ: dict[str, str]) -> None:
    with log.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.environ.update(environ)
    target(*arguments)


def serve() -> None:
    """What `etl receive-http` does."""
    receiver.serve(settings.load(), delivery_settings.receiver())


def deliver(folder: Path, url: str) -> None:
    """One delivery with the records in the folder."""
    with client(folder, outgoing(url, attempts=2000)) as (sender, _):
        sender.deliver("report", date(2026, 3, 1), {"revenue": "12.30"})


class ReceiverProcess:
    """A receiver in a process of its own, to be killed and started again on the same data and port."""

    serve = staticmethod(serve)
    """What the process does."""

    def __init__(self, data_dir: Path, certificate: Path | None = None, **environ: str) -> None:
        self.data_dir = data_dir
        self.port = steady.ports()
        self.url = f"{'https' if certificate else 'http'}://127.0.0.1:{self.port}"
        self._verify = ssl.create_default_context(cafile=str(certificate) if certificate else None)
        self._environ = {
            "ETL_DATA_DIR": str(data_dir),
            "ETL_PIPELINES": "etl_project_tests.receiver_pipelines",
            "ETL_RECEIVER_PORT": str(self.port),
            "ETL_RECEIVER_TOKEN_ACME": TOKEN,
            "ETL_RECEIVER_SOURCES_ACME": "orders, payments",
            "ETL_RECEIVER_TOKEN_OTHER": OTHER_TOKEN,
            "ETL_RECEIVER_SOURCES_OTHER": "orders",
            **environ,
        }
        self._log = data_dir.parent / "receiver.log"
        self.process: ForkServerProcess | None = None

    def start(self, fault: str | None = None, health: int = 200) -> ReceiverProcess:
        """Start it, armed to kill itself if `fault` says so, and wait until it answers with that health."""
        environ = self._environ | ({"ETL_FAULT": fault} if fault else {})
        self.process = spawn(self.serve, log=self._log, **environ)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            assert self.process.is_alive(), f"exit code {self.process.exitcode}: {self.log()}"
            try:
                if steady.get(f"{self.url}/healthz", timeout=5, verify=self._verify).status_code == health:
                    return self
                time.sleep(0.02)
            except httpx2.TransportError:
                time.sleep(0.02)
        raise AssertionError(self.log())

    def wait_for_death(self) -> None:
        """Wait until the armed fault has killed it."""
        assert self._ended() == -signal.SIGKILL, self.log()

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        assert self.process is not None
        assert self.process.pid is not None
        os.kill(self.process.pid, number)

    def kill(self) -> None:
        """SIGKILL, and wait for the end."""
        self.send(signal.SIGKILL)
        self._ended()

    def stop(self) -> None:
        """SIGTERM, as a supervisor would."""
        if self.process is not None and self.process.is_alive():
            self.send(signal.SIGTERM)
            self._ended()

    def _ended(self) -> int | None:
        assert self.process is not None
        self.process.join(PATIENCE_SECONDS)
        return self.process.exitcode

    def log(self) -> str:
        """What it has printed."""
        return self._log.read_text(errors="replace")

    def files(self) -> list[Path]:
        """Everything below incoming that a scan would look at."""
        return sorted(path for path in self._everything() if not path.name.startswith("."))

    def temporaries(self) -> list[Path]:
        """What unfinished uploads have left."""
        return sorted(path for path in self._everything() if path.name.startswith("."))

    def wait_for_uploads(self, number: int) -> None:
        """Wait until so many uploads have begun and are not finished: a small one has no file before its end."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        with closing(sqlite3.connect(self.data_dir / "delivery.sqlite")) as db:
            while db.execute("SELECT count(*) FROM claims WHERE state = 'receiving'").fetchone()[0] < number:
                assert time.monotonic() < deadline, self.log()
                time.sleep(0.02)

    def take(self) -> list[bytes]:
        """Take the files away, as the pipeline does: an effect that happens twice shows as a file that is back."""
        contents = [path.read_bytes() for path in self.files()]
        for path in self.files():
            path.unlink()
        return contents

    def _everything(self) -> list[Path]:
        return [path for path in (self.data_dir / "incoming").rglob("*") if path.is_file()]


@contextmanager
def running(data_dir: Path, certificate: Path | None = None, **environ: str) -> Iterator[ReceiverProcess]:
    """A receiver that is stopped at the end; with a certificate, one that is asked over TLS."""
    receiver = ReceiverProcess(data_dir, certificate, **environ)
    try:
        yield receiver.start()
    finally:
        receiver.stop()


def headers(key: str, token: str = TOKEN, **more: str) -> dict[str, str]:
    """The headers of a well-formed upload."""
    return {"Authorization": f"Bearer {token}", "Idempotency-Key": f'"{key}"', **more}


def outgoing(url: str, **changes: object) -> Outgoing:
    """Settings of an impatient client with many attempts."""
    values: dict[str, object] = {
        "token": TOKEN,
        "connect_seconds": 5.0,
        "read_seconds": 60.0,
        "attempts": 40,
        "total_seconds": 240.0,
        "first_wait_seconds": 0.05,
        "longest_wait_seconds": 0.2,
    }
    return Outgoing(url, **(values | changes))  # type: ignore[arg-type]


@contextmanager
def client(data_dir: Path, sending: Outgoing) -> Iterator[tuple[DeliveryClient, Deliveries]]:
    """A client in this process and its records."""
    database = Database(data_dir / "delivery.sqlite")
    try:
        deliveries = Deliveries(database)
        yield DeliveryClient(sending, deliveries, logging.getLogger("test")), deliveries
    finally:
        database.close()


class Script:
    """A server that gives prepared answers, the last one for ever, and remembers what it was asked."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.requests: list[tuple[dict[str, str], bytes]] = []

    @contextmanager
    def serving(self, context: ssl.SSLContext | None = None) -> Iterator[int]:
        script = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                script.requests.append(({name.lower(): value for name, value in self.headers.items()}, body))
                status, headers, content = script.answers.pop(0) if len(script.answers) > 1 else script.answers[0]
                self.send_response(status)
                for name, value in {"Content-Length": str(len(content)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *args: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if context:
            server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()
            server.server_close()


def answer(status: int, **headers: str) -> Answer:
    return status, {name.replace("_", "-"): value for name, value in headers.items()}, b'{"ok": true}'


class Proxy:
    """Forwards connections to a port and drops the first few of them at a chosen moment.

    Moments: `on_connect`, `in_request` (after half of it), `before_answer` (all of it has arrived), `in_answer` (some
    bytes of it have come back), `after_answer` (all of them have).
    """

    def __init__(self, port: int, moment: str, drops: int) -> None:
        self._target = port
        self._moment = moment
        self._drops = drops
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.dropped = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Stop accepting."""
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            moment = self._moment if self.dropped < self._drops else "never"
            self.dropped += moment != "never"
            threading.Thread(target=self._serve, args=(connection, moment), daemon=True).start()

    def _serve(self, client: socket.socket, moment: str) -> None:
        with client:
            if moment == "on_connect":
                return
            with socket.create_connection(("127.0.0.1", self._target)) as server:
                request = _read_message(client)
                if moment == "in_request":
                    server.sendall(request[: len(request) - 20])
                    return
                server.sendall(request)
                answer = _read_message(server)
                if moment == "before_answer":
                    return
                client.sendall(answer[: len(answer) - 10] if moment == "in_answer" else answer)


def _read_message(connection: socket.socket) -> bytes:
    """One HTTP message with a Content-Length."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = connection.recv(65536)
        if not piece:
            return data
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    length = next(
        (int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0
    )
    while len(body) < length:
        piece = connection.recv(65536)
        if not piece:
            break
        body += piece
    return head + b"\r\n\r\n" + body
