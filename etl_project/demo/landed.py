"""Landed: the sample payments as the files that a landing leaves, for a demo without a broker.

Belongs here: cutting the messages into batches. They hold what real landings hold: a late message in a batch of its
own, and a batch that was landed twice because the consumer died before it could say so.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from itertools import groupby

from etl_project.demo.payments import LATE, PARTITIONS, TOPIC, Message, messages
from etl_project.demo.sample import NOT_MOVED, SampleFile
from etl_project.kafka import format as landed


def first_landing(moved: timedelta = NOT_MOVED) -> list[SampleFile]:
    """All messages but the late one: a batch a day and partition. `moved` as in `sample`."""
    return [_file(day, batch) for day, batch in _batches(moved)]


def second_landing(moved: timedelta = NOT_MOVED) -> list[SampleFile]:
    """The late message, and the beginning of a batch that was landed before: the same messages once more."""
    *_, late = messages(moved)
    repeated = next(batch for day, batch in _batches(moved) if day == LATE + moved)
    return [_file(LATE + moved, [late]), _file(LATE + moved, repeated[: len(repeated) // 2])]


def _batches(moved: timedelta) -> list[tuple[date, list[Message]]]:
    *sent, _ = messages(moved)
    by_partition = [[one for one in sent if one.partition == partition] for partition in range(PARTITIONS)]
    return [
        (day, list(batch))
        for partition in by_partition
        for day, batch in groupby(partition, key=lambda one: one.sent_at.date())
    ]


def _file(day: date, batch: Sequence[Message]) -> SampleFile:
    span = landed.Span(TOPIC, batch[0].partition, batch[0].offset, batch[-1].offset)
    rows = landed.RowFormat(TOPIC, span.partition)
    content = b"".join(rows.row(one.offset, one.timestamp_ms, one.key, (), one.payload) for one in batch)
    return SampleFile(landed.name(day, span), content)
