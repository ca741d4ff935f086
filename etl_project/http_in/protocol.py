"""The guarded connection: what uvicorn leaves open between the socket and the application.

Belongs here: limits on a connection that no ASGI application can see, and its end. Does not belong here: anything
about uploads.

Stock uvicorn 0.54 waits for ever for the head of a request, accepts heads of any size, closes a connection whose
sender has finished early without answering it, and closes on unread bytes: the sender's system then gets a reset that
can overtake the answer (RFC 9112, 9.6), so that a refusal is never seen.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_SECONDS = 10.0
"""Time for the head of a request to arrive, and for the rest of a refused body while the connection stays open."""

HEAD_BYTES = 64 * 1024
LINGER_SECONDS = 30.0
"""How long the rest of a request is read and thrown away after the answer that ends the connection, at most."""

LINGER_IDLE_SECONDS = 5.0
"""How long that waits for a sender that sends nothing. Both are what nginx waits (its lingering_close)."""

TRUNCATED = "truncated"
"""The key in the request's state that says: the sender closed its side before the body was complete."""


class GuardedProtocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 connection, cut off when the head is too slow or too large; a half-closed one is answered.

    Whatever ends it before the request was read whole, the answer reaches a sender that takes it within
    LINGER_SECONDS.
    """

    _deadline: asyncio.TimerHandle | None = None
    _idle: asyncio.TimerHandle | None = None
    _head_bytes = 0
    _in_head = False
    _too_large = False
    _unread = False
    """Whether a request has begun whose last byte has not been seen."""
    _sender_is_done = False
    _lingering = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._socket = transport
        super().connection_made(_PoliteTransport(transport, self._end, lambda: self._lingering))
        self._expect_progress()

    def connection_lost(self, exc: Exception | None) -> None:
        self._progress()
        if self._idle is not None:
            self._idle.cancel()
        self._sender_is_done = True
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._lingering:
            self._wait_a_little_longer()
            return
        began_before = self._in_head
        super().data_received(data)
        if self._in_head and began_before and not self.transport.is_closing():
            # A head without end: of one that is complete every line has been counted.
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES:
                self._refuse_head()

    def eof_received(self) -> bool:  # type: ignore[override]
        """Keep the connection open for an answer still owed; the application learns that the body is cut short."""
        self._sender_is_done = True
        cycle = self.cycle
        if self._lingering or cycle is None or cycle.response_complete:
            return False
        cycle.keep_alive = False
        if cycle.more_body:
            cycle.scope["state"][TRUNCATED] = True
            cycle.more_body = False
            cycle.message_event.set()
        return True

    def send_400_response(self, msg: str) -> None:
        if self._too_large:
            self._refuse_head()
        else:
            self._refuse(400, "Bad Request", msg)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head, self._head_bytes, self._unread = True, 0, True
        self._expect_progress()

    def on_url(self, url: bytes) -> None:
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(len(name) + len(value) + len(": \r\n"))
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._progress()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._unread = False
        self._progress()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.cycle.more_body and not self._lingering:
            self._expect_progress()

    def _count(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > HEAD_BYTES:
            self._too_large = True
            raise ValueError("The head of the request is too large.")  # Stops the parser, which asks for a 400.

    def _expect_progress(self) -> None:
        self._progress()
        self._deadline = self.loop.call_later(HEAD_SECONDS, self.transport.close)

    def _progress(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _end(self) -> None:
        """End the connection: at once where nothing more can come, else once the sender has had time to see why."""
        if self._lingering:
            return
        if self._sender_is_done or not self._unread:
            self._socket.close()
            return
        self._progress()
        self.flow.resume_reading()
        if self._socket.can_write_eof():
            self._socket.write_eof()
        self._lingering = True
        self._deadline = self.loop.call_later(LINGER_SECONDS, self._socket.close)
        self._wait_a_little_longer()

    def _wait_a_little_longer(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
        self._idle = self.loop.call_later(LINGER_IDLE_SECONDS, self._socket.close)

    def _refuse_head(self) -> None:
        self._refuse(431, "Request Header Fields Too Large", f"The head is limited to {HEAD_BYTES} bytes.")

    def _refuse(self, status: int, title: str, detail: str) -> None:
        body = json.dumps({"type": "about:blank", "title": title, "status": status, "detail": detail}).encode()
        head = (
            f"HTTP/1.1 {status} {title}\r\ncontent-type: application/problem+json\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        self._unread = True  # What cannot be parsed has no end that could be seen.
        self.transport.write(head.encode() + body)
        self.transport.close()


class _PoliteTransport(asyncio.Transport):
    """The connection as uvicorn sees it: the real one, but for how it is closed."""

    def __init__(self, real: asyncio.Transport, end: Callable[[], None], ending: Callable[[], bool]) -> None:
        super().__init__()
        self._real = real
        self._end = end
        self._ending = ending

    def close(self) -> None:
        self._end()

    def is_closing(self) -> bool:
        return self._ending() or self._real.is_closing()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self.is_closing():  # As any transport that was closed: what comes late is dropped.
            self._real.write(data)

    def pause_reading(self) -> None:
        self._real.pause_reading()

    def resume_reading(self) -> None:
        self._real.resume_reading()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._real.get_extra_info(name, default)
