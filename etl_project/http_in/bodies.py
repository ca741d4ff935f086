"""Bodies: reading an incoming body within its limits, checking it on the way.

Belongs here: size, pace, digest and form of a body. Does not belong here: what the head says (`requests`) and where
the bytes go (`receiver`).
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

from starlette.requests import Request

from etl_project.http_in import problems, protocol
from etl_project.http_in.problems import Problem
from etl_project.http_in.settings import Receiver

LONGEST_LINE = 1 << 20
_CLOSE = {"Connection": "close"}


async def chunks(request: Request, announced: int | None, limits: Receiver) -> AsyncIterator[bytes]:
    """The body, piece by piece: never more than the limit, never slower than allowed, and all that was announced.

    413 for too much, 408 for too slow (the sender is cut off), 400 for a body that ends early.
    """
    size = 0
    deadline = time.monotonic() + limits.upload_seconds
    more = True
    setattr(request.state, problems.BODY_ASKED, True)
    while more:
        message = await _next(request, min(limits.idle_seconds, deadline - time.monotonic()))
        if message["type"] == "http.disconnect" or getattr(request.state, protocol.TRUNCATED, False):
            raise Problem(
                400, "cut-short", f"The body ended early, {announced or 'more'} bytes were announced.", _CLOSE
            )
        chunk = message.get("body", b"")
        more = message.get("more_body", False)
        size += len(chunk)
        if size > limits.max_bytes:
            raise Problem(413, "too-large", f"The body is larger than {limits.max_bytes} bytes.")
        if chunk:
            yield chunk
    if announced is not None and size != announced:
        raise Problem(400, "cut-short", f"{announced} bytes were announced, {size} came.", _CLOSE)


async def _next(request: Request, seconds: float) -> Mapping[str, Any]:
    try:
        async with asyncio.timeout(seconds):
            return await request.receive()
    except TimeoutError:
        raise Problem(408, "too-slow", "The body came too slowly.", _CLOSE) from None


class Checks:
    """What the body has to be: hashed always, compared with the digests sent, and JSON lines if so asked."""

    def __init__(self, digests: Mapping[str, bytes], lines: JsonLinesCheck | None) -> None:
        self._expected = digests
        self._lines = lines
        self._sha256 = hashlib.sha256()
        self._sha512 = hashlib.sha512() if "sha-512" in digests else None
        self.size_bytes = 0

    def feed(self, chunk: bytes) -> None:
        """Take the next piece. Raises Problem (400) at the first line that is no JSON object."""
        self.size_bytes += len(chunk)
        self._sha256.update(chunk)
        if self._sha512:
            self._sha512.update(chunk)
        if self._lines:
            self._lines.feed(chunk)

    def finish(self) -> str:
        """The SHA-256 of the whole body, in hex. Raises Problem (400) when a digest differs or the last line is bad."""
        found = {"sha-256": self._sha256, "sha-512": self._sha512}
        for algorithm, expected in self._expected.items():
            digest = found[algorithm]
            if digest is None or not hmac.compare_digest(digest.digest(), expected):
                raise Problem(400, "digest", f"The body does not have the {algorithm} that Content-Digest announces.")
        if self._lines:
            self._lines.finish()
        return self._sha256.hexdigest()


class ToldApart:
    """JSON lines as they are stored: blanks at the end of the last line that are others for every key.

    Two keys are two deliveries, which may well say the same; but two equal files of a day are taken for one that was
    sent twice, and nothing else would tell these apart. Blanks mean nothing in JSON. `unique` is hexadecimal.
    """

    def __init__(self, unique: str) -> None:
        bits = f"{int(unique, 16):0{4 * len(unique)}b}"
        self._blanks = bits.translate({ord("0"): " ", ord("1"): "\t"}).encode()
        self._end = b""

    def feed(self, chunk: bytes) -> bytes:
        """What of the lines is certain to stand before the blanks."""
        come = self._end + chunk
        kept = come.rstrip(b"\r\n")
        self._end = come[len(kept) :]
        return kept

    def finish(self) -> bytes:
        """The blanks, and the end of the last line."""
        return self._blanks + (self._end or b"\n")


class JsonLinesCheck:
    """Checks JSON lines as they stream by: UTF-8, one object a line, no line longer than 1 MiB, at least one line."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._count = 0

    def feed(self, chunk: bytes) -> None:
        """Check the lines that end in this piece."""
        self._rest += chunk
        if b"\n" in chunk:
            *lines, rest = self._rest.split(b"\n")
            self._rest = rest
            for line in lines:
                self._check(line)
        if len(self._rest) > LONGEST_LINE:
            raise Problem(400, "line", f"Line {self._count + 1} is longer than {LONGEST_LINE} bytes.")

    def finish(self) -> None:
        """Check the last line, which need not end."""
        if self._rest:
            self._check(self._rest)
        if self._count == 0:
            raise Problem(400, "line", "There is no line; send at least one JSON object.")

    def _check(self, line: bytearray) -> None:
        self._count += 1
        if len(line) > LONGEST_LINE:
            raise Problem(400, "line", f"Line {self._count} is longer than {LONGEST_LINE} bytes.")
        try:
            value = json.loads(line.decode(), parse_constant=_refuse_constant)
        except (ValueError, RecursionError):
            raise Problem(400, "line", f"Line {self._count} is not JSON (in UTF-8, by itself).") from None
        if not isinstance(value, dict):
            raise Problem(400, "line", f"Line {self._count} is not a JSON object.")


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
