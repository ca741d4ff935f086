"""Offsets: which ones are covered by what lies on the disk, judged by file names alone. The proof that none is missing.

Belongs here: finding the names and chaining their ranges. Does not belong here: asking the broker (`lag`), writing.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from etl_project.kafka import format as landed
from etl_project.kafka.format import Named, Span
from etl_project.settings import Settings


@dataclass(frozen=True)
class Chain:
    """What is known of one partition: the offsets covered, those between them that are not, and those on record as
    lost. A range counts wherever its file is by now: waiting, archived, refused, or among the dead letters."""

    first: int
    last: int
    holes: tuple[Span, ...] = ()
    lost: tuple[Span, ...] = ()


class Progress(NamedTuple):
    """How far landed files go. `reached`: by partition, the one after the last offset that is covered. `ends`: where
    the ranges end that the group has not committed, (partition, first offset) to the smallest last one."""

    reached: dict[int, int]
    ends: dict[tuple[int, int], int]


def found(settings: Settings, source: str) -> Iterator[Named]:
    """What the names of all files of a Kafka source say, of all its topics; the same range may come several times.

    A file that is being moved may be passed over or come twice. No file is opened.
    """
    for root in (settings.incoming, settings.archive, settings.quarantine, settings.dead_letters):
        for _, folders, files in os.walk(root / source):
            # The archive keeps the versions of a file in a folder of the file's name: there is no need to look inside.
            kept = {folder: named for folder in folders if (named := landed.parse(folder)) is not None}
            folders[:] = [folder for folder in folders if folder not in kept]
            yield from kept.values()
            yield from (named for named in map(landed.parse, files) if named is not None)


def chains(names: Iterable[Named], topic: str) -> dict[int, Chain]:
    """The chain of every partition of the topic, by partition."""
    spans: dict[int, list[Span]] = {}
    lost: dict[int, list[Span]] = {}
    for label, span in set(names):
        if span.topic == topic:
            spans.setdefault(span.partition, []).append(span)
            if label == landed.LOST:
                lost.setdefault(span.partition, []).append(span)
    return {
        partition: _chain(sorted(covered), tuple(sorted(lost.get(partition, ()))))
        for partition, covered in sorted(spans.items())
    }


def progress(names: Iterable[Named], topic: str, committed: Mapping[int, int | None]) -> Progress:
    """How far the files go in the partitions of `committed` (the group's position in each; None where it has none).

    One pass; its memory grows with what has landed beyond those positions, not with the archive.
    """
    reached: dict[int, int] = {}
    ends: dict[tuple[int, int], int] = {}
    for _, span in names:
        if span.topic == topic and span.partition in committed:
            reached[span.partition] = max(span.last + 1, reached.get(span.partition, 0))
            if span.first >= (committed[span.partition] or 0):
                at = span.partition, span.first
                ends[at] = min(span.last, ends.get(at, span.last))
    return Progress(reached, ends)


def problems(known: Mapping[int, Chain], committed: Mapping[int, int]) -> list[str]:
    """Everything that keeps this from being all the messages of the topic, in words; nothing when all is well.

    `committed` is the group's position by partition, as far as it could be asked for.
    """
    found_: list[str] = []
    for partition, chain in known.items():
        found_ += [
            f"partition {partition}: offsets {hole.first} to {hole.last} have not landed" for hole in chain.holes
        ]
        found_ += [
            f"partition {partition}: offsets {span.first} to {span.last} were gone before they could be landed"
            for span in chain.lost
        ]
    for partition, position in sorted(committed.items()):
        end = known[partition].last + 1 if partition in known else None
        if end is None:
            found_.append(f"partition {partition}: offset {position} is committed, but nothing has landed")
        elif position > end:
            found_.append(f"partition {partition}: offset {position} is committed, but only {end - 1} has landed")
    return found_


def _chain(covered: list[Span], lost: tuple[Span, ...]) -> Chain:
    """The ranges, ascending by first offset, as one chain."""
    first, end = covered[0].first, covered[0].first
    holes = []
    for span in covered:
        if span.first > end:
            holes.append(Span(span.topic, span.partition, end, span.first - 1))
        end = max(end, span.last + 1)
    return Chain(first, end - 1, tuple(holes), lost)
