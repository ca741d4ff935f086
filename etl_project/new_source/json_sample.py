"""JSON sample: which columns the objects of a file have, nested ones by their path.

Belongs here: lines, arrays and pretty printed documents, and what is taken apart. Does not belong here: their types.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from etl_project.new_source.containers import CannotUse

MOST_CHARACTERS = 256 * 2**20
Path = tuple[str, ...]


class Columns(NamedTuple):
    """Names of the columns, paths with dots, in the order in which they first come; `json`: those that hold JSON."""

    names: tuple[str, ...]
    json: frozenset[str]


def is_lines(head: str) -> bool:
    """Whether the text begins with one object on one line."""
    first = next((line for line in head.split("\n") if line.strip()), "")
    try:
        return isinstance(json.loads(first), dict)
    except (ValueError, RecursionError):
        return False


def of_lines(lines: Iterable[str]) -> Iterator[dict[str, Any]]:
    """The objects of lines; what is none will be counted among the rejects."""
    for line in lines:
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(record, dict):
            yield record


def of_documents(pieces: Iterable[str]) -> Iterator[dict[str, Any]]:
    """The objects of documents one after the other, or of one array. Raises CannotUse for what is no JSON."""
    text = ""
    for piece in pieces:
        text += piece
        if len(text) > MOST_CHARACTERS:
            raise CannotUse(f"it is JSON of more than {MOST_CHARACTERS // 2**20} MiB; take a smaller sample")
    decoder, at = json.JSONDecoder(), 0
    while text[at:].strip() if len(text) - at < 64 else True:
        while at < len(text) and text[at].isspace():
            at += 1
        try:
            value, at = decoder.raw_decode(text, at)
        except (ValueError, RecursionError) as error:
            raise CannotUse(f"it is no JSON: {error}") from None
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, dict):
                yield one


def columns_of_objects(records: Iterable[dict[str, Any]]) -> Columns:
    """The columns of these objects. An object in an object is taken apart; a list, and what is now an object and now
    something else, is one column of JSON."""
    kinds: dict[Path, set[str]] = {}
    for record in records:
        _see(record, (), kinds)
    names: list[str] = []
    as_json: set[str] = set()
    whole: set[Path] = set()
    for path, found in kinds.items():
        if any(path[:length] in whole for length in range(1, len(path))):
            continue
        inside = [other for other in kinds if len(other) == len(path) + 1 and other[: len(path)] == path]
        if found <= {"object", "null"} and inside and not any("." in other[-1] for other in [path, *inside]):
            continue
        whole.add(path)
        names.append(".".join(path))
        if found & {"object", "list"}:
            as_json.add(names[-1])
    return Columns(tuple(names), frozenset(as_json))


def _see(record: dict[str, Any], above: Path, kinds: dict[Path, set[str]]) -> None:
    for key, value in record.items():
        path = (*above, key)
        kind = {dict: "object", list: "list", type(None): "null"}.get(type(value), "scalar")
        kinds.setdefault(path, set()).add(kind)
        if isinstance(value, dict):
            _see(value, path, kinds)
