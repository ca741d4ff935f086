"""Problems: every refusal of the receiver as application/problem+json (RFC 9457).

Belongs here: the one exception that becomes an answer, and the answer. Does not belong here: when to refuse.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from etl_project.failures import Transient
from etl_project.http_in.database import FULL, RecordsFull

_LOG = logging.getLogger("etl.receiver")
BODY_ASKED = "body_asked"
"""The key in the request's state that says: a sender that waits for "100 Continue" has got it."""

_DESCRIBED = {"Link": '</openapi.json>; rel="describedby"; type="application/json"'}


class Problem(Exception):
    """A request that is refused; `kind` is the stable word that a program may look at. Nothing was changed."""

    def __init__(self, status: int, kind: str, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.kind = kind
        self.headers = dict(headers or {})


def disk_full() -> Problem:
    """The refusal of what there is no room for."""
    return Problem(507, "disk-full", "No space is left here; retrying helps once there is.", {"Retry-After": "60"})


def response(status: int, kind: str, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    """The answer: type, title, status and a detail for people."""
    content = {
        "type": f"urn:etl-project:problem:{kind}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
    }
    return JSONResponse(
        content, status, headers={**_DESCRIBED, **(headers or {})}, media_type="application/problem+json"
    )


async def on_problem(request: Request, error: Exception) -> Response:
    """Answer a refusal."""
    assert isinstance(error, Problem)
    _LOG.info("%s %s refused: %d %s: %s", request.method, request.url.path, error.status, error.kind, error)
    return _refusal(request, error.status, error.kind, str(error), error.headers)


async def on_transient(request: Request, error: Exception) -> Response:
    """Answer what was busy, or had no room: nothing was changed, so the sender may come again."""
    if isinstance(error, RecordsFull):
        _LOG.error("%s %s: %s", request.method, request.url.path, error)
        return await on_problem(request, disk_full())
    _LOG.warning("%s %s: %s", request.method, request.url.path, error)
    return _refusal(request, 503, "busy", f"{error} Nothing was changed; retrying helps.", {"Retry-After": "2"})


async def on_os_error(request: Request, error: Exception) -> Response:
    """Answer a disk that is full (507) or broken (500)."""
    if isinstance(error, OSError) and error.errno in FULL:
        _LOG.error("%s %s: %s", request.method, request.url.path, error)
        return await on_problem(request, disk_full())
    _LOG.error("%s %s: %s", request.method, request.url.path, error, exc_info=error)
    return _refusal(request, 500, "storage", "The file could not be stored; retrying with the same key is safe.")


async def on_http_error(request: Request, error: Exception) -> Response:
    """Answer what the router refuses: unknown paths and methods."""
    assert isinstance(error, HTTPException)
    if error.status_code == 404 and not request.scope["path"].isprintable():
        return _refusal(request, 400, "name", "The path has characters that no path here has.")
    return _refusal(request, error.status_code, "request", error.detail, error.headers)


async def on_error(request: Request, error: Exception) -> Response:
    """Answer a fault of ours; uvicorn logs the traceback."""
    return _refusal(request, 500, "fault", "The request failed here; retrying with the same key is safe.")


def _refusal(
    request: Request, status: int, kind: str, detail: str, headers: Mapping[str, str] | None = None
) -> Response:
    """The answer. It ends the connection of a sender that still waits for "100 Continue": that one will not send its
    body any more, and its next request would be taken for it (RFC 9110, 10.1.1).
    """
    unasked = "expect" in request.headers and not getattr(request.state, BODY_ASKED, False)
    return response(status, kind, detail, {**(headers or {}), **({"Connection": "close"} if unasked else {})})


HANDLERS = {
    Problem: on_problem,
    Transient: on_transient,
    OSError: on_os_error,
    HTTPException: on_http_error,
    Exception: on_error,
}
