"""Nothing: offsets in which there was nothing to land, on record, so that they count as covered.

Belongs here: the record of such offsets. They hold the marks of transactions, or tombstones that the source drops. The
records of neighbouring ranges become one: a topic that is idle but for such marks has one, not one a minute. Does not
belong here: when one is made (`landing`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from etl_project.kafka import format as landed
from etl_project.kafka.format import Span


class File(NamedTuple):
    """A file to be: its place and its lines, and the files whose content it takes over."""

    path: Path
    lines: Sequence[bytes]
    replaces: tuple[Path, ...] = ()


def file(folder: Path, span: Span) -> File:
    """The record of these offsets, and of those of the records that it touches, which it takes the place of.

    A kill between its writing and their removal leaves both; the next one takes the place of all.
    """
    touching = {folder / named: own for named, own in _records(folder, span) if _touch(own, span)}
    first = min([span.first, *(own.first for own in touching.values())])
    last = max([span.last, *(own.last for own in touching.values())])
    whole = span._replace(first=first, last=last)
    path = folder / landed.nothing_name(whole)
    reason = "no message that is kept: marks of transactions, or tombstones where the source drops them"
    text = json.dumps({**whole._asdict(), "reason": reason}, indent=2) + "\n"
    return File(path, [text.encode()], tuple(sorted(touching.keys() - {path})))


def _records(folder: Path, span: Span) -> Iterator[tuple[str, Span]]:
    for found in folder.glob(f"{landed.NOTHING}_{span.topic}_{span.partition}_*.json"):
        named = landed.parse(found.name)
        if named is not None and (named.span.topic, named.span.partition) == (span.topic, span.partition):
            yield found.name, named.span


def _touch(one: Span, other: Span) -> bool:
    return one.first <= other.last + 1 and other.first <= one.last + 1
