"""Landed: the sample payments as the files that a landing leaves, for a demo without a broker.

Belongs here: cutting the messages into batches. They hold what real landings hold: a late message in a batch of its
own, and a batch that was landed twice because the consumer died before it could say so.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from itertools import groupby

from etl_project.demo.payments import LATE, PARTITIONS, TOPIC, Message, messages
from etl_project.demo.sample import SampleFile
from etl_project.kafka import format as landed


def first_landing() -> list[SampleFile]:
    """All messages but the late one: a batch a day and partition."""
    return [_file(day, batch) for day, batch in _batches()]


def second_landing() -> list[SampleFile]:
    """The late message, and the beginning of a batch that was landed before: the same messages once more."""
    *_, late = messages()
    repeated = next(batch for day, batch in _batches() if day == LATE)
    return [_file(LATE, [late]), _file(LATE, repeated[: len(repeated) // 2])]


def _batches() -> list[tuple[date, list[Message]]]:
    *sent, _ = messages()
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
