"""The guarded connection: what uvicorn leaves open between the socket and the application.

Belongs here: limits on a connection that no ASGI application can see. Does not belong here: anything about uploads.

Stock uvicorn 0.54 waits for ever for the head of a request, accepts heads of any size, closes a connection whose
sender has finished early without answering it, and reads a refused body for as long as it comes.
"""

from __future__ import annotations

import asyncio
import json

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_SECONDS = 10.0
"""Time for the head of a request to arrive, and for the rest of a refused body to be thrown away."""

HEAD_BYTES = 64 * 1024
TRUNCATED = "truncated"
"""The key in the request's state that says: the sender closed its side before the body was complete."""


class GuardedProtocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 connection, cut off when the head is too slow or too large; a half-closed one is answered."""

    _deadline: asyncio.TimerHandle | None = None
    _head_bytes = 0
    _in_head = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect_progress()

    def connection_lost(self, exc: Exception | None) -> None:
        self._progress()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES and not self.transport.is_closing():
                self._refuse(431, "Request Header Fields Too Large", f"The head is limited to {HEAD_BYTES} bytes.")

    def eof_received(self) -> bool:  # type: ignore[override]
        """Keep the connection open for an answer still owed; the application learns that the body is cut short."""
        cycle = self.cycle
        if cycle is None or cycle.response_complete:
            return False
        cycle.keep_alive = False
        if cycle.more_body:
            cycle.scope["state"][TRUNCATED] = True
            cycle.more_body = False
            cycle.message_event.set()
        return True

    def send_400_response(self, msg: str) -> None:
        self._refuse(400, "Bad Request", msg)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head, self._head_bytes = True, 0
        self._expect_progress()

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._progress()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._progress()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.cycle.more_body:
            self._expect_progress()

    def _expect_progress(self) -> None:
        self._progress()
        self._deadline = self.loop.call_later(HEAD_SECONDS, self._cut_off)

    def _progress(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _cut_off(self) -> None:
        if not self.transport.is_closing():
            self.transport.close()

    def _refuse(self, status: int, title: str, detail: str) -> None:
        body = json.dumps({"type": "about:blank", "title": title, "status": status, "detail": detail}).encode()
        head = (
            f"HTTP/1.1 {status} {title}\r\ncontent-type: application/problem+json\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()
