"""Envelope: the row inside a change event, as Debezium and its like send it.

Belongs here: taking the row out, literally, with what the source asks for of the envelope. Does not belong here: what
becomes of a deletion (`decode`).

A row is the image `after` the change; of a deletion, the one `before` it, as far as the database gives one. A column
whose field begins with `__` takes a value of the envelope, under the names of Debezium's own unwrapping: `__op`,
`__ts_ms`, `__source_lsn` (`source_` and a field of `source`), `__deleted` (true or false).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from etl_project.kafka import json_text
from etl_project.kafka.json_text import NoJson

PREFIX = "__"
_ROWS = ("c", "u", "r")  # Created, updated, read by a snapshot.
_DELETED = "d"


class Change(NamedTuple):
    """The row of a change event as JSON text, and whether the event says that it is gone."""

    text: bytes
    deleted: bool


def unwrapped(text: bytes, wanted: Iterable[str]) -> Change | None:
    """The row of the event; None where its payload is null. `wanted`: the fields that the source has.

    `text` is one valid JSON object. Raises NoJson for what is no change of a row.
    """
    event = json_text.members(text.decode())
    if "payload" in event and "op" not in event:
        if event["payload"] == "null":
            return None
        event = _object(event, "payload")
    op = json.loads(event.get("op", "null"))
    if op not in (*_ROWS, _DELETED):
        raise NoJson(f"no change of a row: op is {op!r}, not one of c, u, r, d (`envelope: debezium`)")
    deleted = op == _DELETED
    row = _object(event, "before" if deleted else "after", may_lack=deleted)
    return Change(json_text.joined([*row.items(), *_of_envelope(event, deleted, wanted)]), deleted)


def _of_envelope(event: Mapping[str, str], deleted: bool, wanted: Iterable[str]) -> Iterator[tuple[str, str]]:
    source: dict[str, str] | None = None
    for field in wanted:
        name = field.removeprefix(PREFIX)
        if name == field:
            continue
        if name == "deleted":
            yield field, "true" if deleted else "false"
        elif name.startswith("source_"):
            source = _object(event, "source", may_lack=True) if source is None else source
            yield field, source.get(name.removeprefix("source_"), "null")
        else:
            yield field, event.get(name, "null")


def _object(event: Mapping[str, str], name: str, may_lack: bool = False) -> dict[str, str]:
    """The members of an object of the event; none where it may lack."""
    text = event.get(name, "null")
    if text.startswith("{"):
        return json_text.members(text)
    if may_lack and text == "null":
        return {}
    raise NoJson(f"{name} of the change event is {text[:80]}, no object")
