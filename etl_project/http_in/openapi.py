"""The receiver's OpenAPI document, and the one answer that it describes.

Belongs here: what a sender may rely on. Does not belong here: enforcing it.
"""

from __future__ import annotations

import json
from typing import Any

from etl_project.http_in import requests
from etl_project.http_in.settings import SOURCE_PATTERN, Receiver

_PROBLEM = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
_REFUSALS = {
    "400": "Key missing or malformed, odd name, wrong digest, bad line, body shorter than announced",
    "401": "No token, or not a known one",
    "403": "This client may not write to this source",
    "408": "The body came too slowly",
    "409": "The first request with this key is still in progress: come again after Retry-After seconds",
    "413": "Too large",
    "422": "The key was used for another request or another body",
    "500": "A fault here; repeating with the same key is safe",
    "501": "A Transfer-Encoding other than chunked",
    "503": "Busy: come again after Retry-After seconds",
    "507": "No space left",
}


def answer(source: str, name: str, size_bytes: int, sha256: str) -> str:
    """The body of the first answer; it is stored as it is and replayed."""
    return json.dumps({"source": source, "name": name, "size_bytes": size_bytes, "sha256": sha256})


def document(receiving: Receiver) -> dict[str, Any]:
    """The document, with the limits of this receiver in words."""
    days = receiving.keys_kept.days
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Incoming files",
            "version": "1",
            "description": "Every upload carries an Idempotency-Key (draft-ietf-httpapi-idempotency-key-header), "
            f"scoped by client. An answer is replayed for {days} days, marked Idempotency-Replayed: true; after that "
            "the key is forgotten. Refused requests are not remembered. A body may have "
            f"{receiving.max_bytes} bytes and pause for {receiving.idle_seconds:g} s.",
        },
        "paths": {
            "/healthz": {"get": _read("Whether uploads can be recorded", "Health")},
            "/openapi.json": {"get": _read("This document", "Document")},
            "/v1/incoming/{source}/{name}": {"parameters": [_SOURCE, _NAME], "put": _put()},
            "/v1/incoming/{source}": {"parameters": [_SOURCE], "post": _post()},
        },
        "components": {"schemas": _SCHEMAS, "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
    }


def _put() -> dict[str, Any]:
    body = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
    return _upload("put_file", "Put one file into a source's folder, as it is", body, [_KEY, _DIGEST])


def _post() -> dict[str, Any]:
    line = {"schema": {"type": "string", "description": "One JSON object a line, in UTF-8"}}
    operation = _upload(
        "post_lines", "Post JSON lines as one file", {"application/x-ndjson": line}, [_KEY, _DIGEST, _DAY]
    )
    operation["responses"]["415"] = {"description": "Not JSON lines", "content": _PROBLEM}
    return operation


def _upload(name: str, summary: str, body: dict[str, Any], parameters: list[dict[str, Any]]) -> dict[str, Any]:
    accepted = {
        "description": "Stored; replayed when the same request comes again",
        "headers": {"Idempotency-Replayed": {"schema": {"const": "true"}, "required": False}},
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Stored"}}},
    }
    refusals = {status: {"description": text, "content": _PROBLEM} for status, text in _REFUSALS.items()}
    for status in ("409", "503"):
        refusals[status]["headers"] = {"Retry-After": {"schema": {"type": "string", "pattern": "^[0-9]+$"}}}
    return {
        "operationId": name,
        "summary": summary,
        "security": [{"token": []}],
        "parameters": parameters,
        "requestBody": {"required": True, "content": body},
        "responses": {"201": accepted, **refusals},
    }


def _read(summary: str, schema: str) -> dict[str, Any]:
    content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}
    refusals = {status: {"description": _REFUSALS[status], "content": _PROBLEM} for status in ("500", "503")}
    return {"summary": summary, "responses": {"200": {"description": "As asked", "content": content}, **refusals}}


def _parameter(name: str, place: str, pattern: str, text: str, *, required: bool = True) -> dict[str, Any]:
    schema = {"type": "string", "pattern": f"^{pattern}$"}
    return {"name": name, "in": place, "required": required, "description": text, "schema": schema}


_SOURCE = _parameter("source", "path", SOURCE_PATTERN, "A source that this client may write to")
_FINISHED = r"(?!.*\.(tmp|swp|part)$)"
_NAME = _parameter("name", "path", _FINISHED + requests.NAME_PATTERN, "The file's name, not one of an unfinished file")
_KEY = _parameter(
    "Idempotency-Key",
    "header",
    f"({requests.KEY_PATTERN}|{requests.BARE_KEY_PATTERN})",
    "A quoted string or a token, new for new content, the same for a repetition",
)
_DIGEST = _parameter(
    "Content-Digest",
    "header",
    r"sha-256=:[A-Za-z0-9+/]{43}=:",
    "RFC 9530; sha-512 works too; the body is refused if it differs",
    required=False,
)
_DAY: dict[str, Any] = {
    "name": "day",
    "in": "query",
    "required": False,
    "description": "The day of the lines; today (UTC) if it is left out",
    "schema": {"type": "string", "format": "date"},
}
_SCHEMAS: dict[str, Any] = {
    "Problem": {
        "type": "object",
        "required": ["type", "title", "status", "detail"],
        "properties": {
            "type": {"type": "string"},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string"},
        },
    },
    "Stored": {
        "type": "object",
        "required": ["source", "name", "size_bytes", "sha256"],
        "properties": {
            "source": {"type": "string"},
            "name": {"type": "string"},
            "size_bytes": {"type": "integer", "minimum": 0},
            "sha256": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
        },
    },
    "Health": {"type": "object", "required": ["status"], "properties": {"status": {"const": "ok"}}},
    "Document": {"type": "object", "required": ["openapi", "paths"]},
}
