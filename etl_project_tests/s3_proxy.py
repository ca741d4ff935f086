"""A proxy before the S3 server of tests, which fails as networks and servers do, on purpose and by the request.

Belongs here: passing requests on, counting them, and the ways to fail. What happens to a request is decided by
`Proxy.plan`, a function of the request that gives a way to fail or None.
"""

from __future__ import annotations

import http.client
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest

from etl_project_tests.steady import PATIENCE_SECONDS


class Asked(NamedTuple):
    """A request: its method, its path with the query, and whether it is about a part of the object only."""

    method: str
    path: str
    is_of_a_part: bool

    @property
    def is_put_of_a_day(self) -> bool:
        return self.method == "PUT" and self.path.endswith("/data.parquet")

    @property
    def is_listing(self) -> bool:
        return "list-type=2" in self.path


CUT_BEFORE = "the connection is cut before the request arrives"
CUT_AFTER = "the request is carried out, and the connection is cut before the answer"
CUT_WITHIN = "the connection is cut in the middle of the answer's body"
UNCONDITIONALLY = "the request is carried out without its condition"
TAKEN_UNSEEN = "200 for a PUT, whatever its condition is"


def refused(status: int, code: str) -> tuple[int, str]:
    """An answer that S3 gives."""
    return status, f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>no</Message></Error>"


Way = str | tuple[int, str] | None


class Proxy:
    """Everything that was asked, and what to make of what is asked next."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.plan: Callable[[Asked], Way] = lambda asked: None

    def once(self, way: Way, which: Callable[[Asked], bool]) -> None:
        """The first of these requests fails this way, the others do not."""
        left = [way]
        self.plan = lambda asked: left.pop() if left and which(asked) else None

    def always(self, way: Way, which: Callable[[Asked], bool] = lambda asked: True) -> None:
        """All of these requests fail this way."""
        self.plan = lambda asked: way if which(asked) else None

    def count(self, which: Callable[[Asked], bool]) -> int:
        return sum(map(which, self.asked))


@contextmanager
def running(patch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """A proxy at a port that the system gives; AWS_ENDPOINT_URL leads to it."""
    proxy, real = Proxy(), urlsplit(os.environ["AWS_ENDPOINT_URL"])

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_one_request(self) -> None:
            try:
                super().handle_one_request()
            except OSError:
                self.close_connection = True

        def __getattr__(self, name: str) -> Any:
            if name.startswith("do_"):
                return self.pass_on
            raise AttributeError(name)

        def pass_on(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            asked = Asked(self.command, self.path, "Range" in self.headers)
            proxy.asked.append(asked)
            way = proxy.plan(asked)
            if way == CUT_BEFORE:
                return self.cut()
            if isinstance(way, tuple):
                return self.answer(way[0], [("Content-Type", "application/xml")], way[1].encode())
            if way == TAKEN_UNSEEN:
                return self.answer(200, [("ETag", '"taken"')], b"")
            if way == UNCONDITIONALLY:
                del self.headers["If-Match"]
            status, headers, found = self.carried_out(body)
            if way == CUT_AFTER:
                return self.cut()
            self.answer(status, headers, found, cut=way == CUT_WITHIN)

        def carried_out(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
            server = http.client.HTTPConnection(str(real.hostname), real.port or 80, timeout=PATIENCE_SECONDS)
            try:
                server.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
                for name, value in self.headers.items():
                    server.putheader(name, value)
                server.endheaders(body)
                answer = server.getresponse()
                return answer.status, answer.getheaders(), answer.read()
            finally:
                server.close()

        def answer(self, status: int, headers: list[tuple[str, str]], body: bytes, cut: bool = False) -> None:
            self.send_response_only(status)
            said = {name.lower() for name, _ in headers}
            for name, value in headers:
                if name.lower() not in ("transfer-encoding", "connection"):
                    self.send_header(name, value)
            if "content-length" not in said and status not in (204, 304):
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body[: len(body) // 2] if cut else body)
            if cut:
                self.cut()

        def cut(self) -> None:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_address[1]}")
    try:
        yield proxy
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
