"""JSON text: objects taken apart and put together without touching what their values look like.

Belongs here: surgery on valid JSON, digit for digit. A value that went through a float would come back as another one.
Does not belong here: what the fields mean (`decode`, `envelope`).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any
from uuid import UUID

from etl_project.kafka import format as landed

_BLANKS = re.compile(r"[ \t\r\n]*")
_LITERAL = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=str)


class NoJson(ValueError):
    """The text, or the value, cannot be taken as JSON; the message says why."""


def members(text: str) -> dict[str, str]:
    """The members of a valid JSON object: name to the text of the value, as it stands there.

    Raises NoJson for a repeated name (which value would count?) and for nesting beyond all reason.
    """
    found: dict[str, str] = {}
    at = _after_blanks(text, text.index("{") + 1)
    try:
        while text[at] != "}":
            name, at = _LITERAL.raw_decode(text, at)
            start = _after_blanks(text, _after_blanks(text, at) + 1)
            _, end = _LITERAL.raw_decode(text, start)
            if name in found:
                raise NoJson(f"the key {name!r} is repeated")
            found[name] = text[start:end]
            at = _after_blanks(text, end)
            if text[at] == ",":
                at = _after_blanks(text, at + 1)
    except RecursionError:
        raise NoJson("nested too deeply") from None
    return found


def joined(parts: Iterable[tuple[str, str]]) -> bytes:
    """An object of names and the texts of their values, in this order."""
    return ("{" + ",".join(f"{_quoted(name)}:{value}" for name, value in parts) + "}").encode()


def written(fields: Mapping[str, Any]) -> bytes:
    """The object as JSON text, the same for the same values: what a decoder of another encoding lands.

    Decimals keep their digits; dates and times are ISO 8601 (instants in UTC); bytes are text where they are UTF-8, and
    `base64:...` where they are not. Raises NoJson for what JSON does not have.
    """
    try:
        return _written(dict(fields)).encode()
    except (TypeError, UnicodeEncodeError, RecursionError) as error:
        raise NoJson(f"no JSON can say it: {error}") from None


def _written(value: Any) -> str:
    if isinstance(value, Mapping):
        if not all(isinstance(name, str) for name in value):
            raise NoJson("an object has a name that is no text")
        return "{" + ",".join(f"{_quoted(name)}:{_written(one)}" for name, one in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(_written, value)) + "]"
    if value is None or isinstance(value, bool | int | str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise NoJson(f"{value} is no JSON")
        return repr(value)
    if isinstance(value, Decimal):
        if not value.is_finite():
            raise NoJson(f"{value} is no JSON")
        return f"{value:f}"
    return _quoted(_text(value))


def _text(value: Any) -> str:
    if isinstance(value, datetime):
        at = value.astimezone(UTC) if value.tzinfo else value
        return at.isoformat().removesuffix("+00:00") + ("Z" if value.tzinfo else "")
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, bytes):
        return landed.as_text(value)
    if isinstance(value, UUID):
        return str(value)
    raise NoJson(f"a value of type {type(value).__name__} has no form in JSON")


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _after_blanks(text: str, at: int) -> int:
    found = _BLANKS.match(text, at)
    return found.end() if found is not None else at
