"""What schemathesis cannot know of the receiver: how JSON lines look, that digest and key belong to the body, and which
names and days the source reads."""

from __future__ import annotations

import base64
import hashlib
import json
import uuid
from typing import Any

import schemathesis
from hypothesis import strategies as st
from schemathesis import GenerationMode

_VALUES = st.none() | st.booleans() | st.integers() | st.text()
_ROWS = st.lists(st.dictionaries(st.text(), _VALUES), min_size=1, max_size=5)

schemathesis.openapi.media_type(
    "application/x-ndjson", _ROWS.map(lambda rows: "\n".join(json.dumps(row) for row in rows).encode())
)


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: dict[str, Any]) -> None:
    """Valid cases get the digest of their own body and a key of their own; invalid ones stay as they are."""
    if case.meta is None or case.meta.generation.mode != GenerationMode.POSITIVE:
        return
    if "Idempotency-Key" in case.headers:
        case.headers["Idempotency-Key"] = f'"{uuid.uuid4()}"'
    if "name" in case.path_parameters:
        case.path_parameters["name"] = f"orders-2026-01-05-{uuid.uuid4()}.csv"
    if "day" in (case.query or {}):
        case.query["day"] = "2026-01-05"
    if "Content-Digest" in case.headers:
        body = getattr(case.body, "data", case.body)
        digest = base64.b64encode(hashlib.sha256(body).digest()).decode()
        case.headers["Content-Digest"] = f"sha-256=:{digest}:"
