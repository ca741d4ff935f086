"""Webhooks: one signed JSON object a request, from senders that can neither send a token nor a key of their own.

Belongs here: reading such a body whole, proving it, and finding its key. Does not belong here: the signature itself
(`signatures`), what becomes of the line (`receiver`).
"""

from __future__ import annotations

import json
from dataclasses import replace

from starlette.datastructures import Headers
from starlette.requests import Request

from etl_project import utc
from etl_project.http_in import bodies, requests
from etl_project.http_in.problems import Problem
from etl_project.http_in.settings import Receiver, Sender


async def read(request: Request, client: Sender, receiving: Receiver) -> tuple[bytes, object]:
    """The body as one line, and what it says.

    401 unless the client has signed it, 400 unless it is one JSON object, 413 if it is longer than a line may be.
    Breaks between lines, which JSON has only outside of texts, become spaces: nothing else about it is changed.
    """
    limits = replace(receiving, max_bytes=min(receiving.max_bytes, bodies.LONGEST_LINE))
    announced = requests.announced_size(request.headers, limits.max_bytes)
    body = b"".join([chunk async for chunk in bodies.chunks(request, announced, limits)])
    if client.signature is None or not client.signature.fits(request.headers, body, utc.now()):
        raise requests.unsigned()
    try:
        document = json.loads(body.decode())
    except (ValueError, RecursionError):
        raise Problem(400, "line", "The body is not JSON (in UTF-8).") from None
    line = body.translate(_BREAKS_AS_SPACES).strip() + b"\n"
    check = bodies.JsonLinesCheck()
    check.feed(line)
    check.finish()
    return line, document


def key(headers: Headers, document: object, client: Sender) -> str:
    """The key: from the field, where one is set, else from the header."""
    if client.key_field:
        return requests.key_in_body(document, client.key_field)
    return requests.idempotency_key(headers, client.key_header)


_BREAKS_AS_SPACES = bytes.maketrans(b"\r\n", b"  ")
