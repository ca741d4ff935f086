"""Subscription: which topic is landed for which source, and in what batches, as data.

Belongs here: the settings of one landing, checked when it is made. Does not belong here: where the broker is and how to
log in (`settings`, from the environment alone), talking to it (`landing`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from etl_project.kafka import format as landed
from etl_project.sources.spec import SourceSpec, SpecError

_TOPIC = re.compile(r"[A-Za-z0-9._-]+")


@dataclass(frozen=True)
class Subscription:
    """One topic landed for one source. Raises SpecError (retrying does not help) naming everything wrong at once.

    A batch ends with whatever comes first: `batch_messages`, `batch_bytes` (the bound of the memory for rows), or
    `batch_seconds` after its first message. `day_from`: the field whose UTC day is the message's day, the message's own
    timestamp (kafka_timestamp) or a field of the payload.
    """

    source: SourceSpec
    topic: str
    group: str
    batch_messages: int = 100_000
    batch_bytes: int = 64 * 2**20
    batch_seconds: float = 30.0
    day_from: str = landed.TIMESTAMP

    def __post_init__(self) -> None:
        problems = [*self._problems()]
        if problems:
            raise SpecError(f"source {self.source.name!r}: " + "; ".join(problems))

    @cached_property
    def payload(self) -> Mapping[str, bool]:
        """The fields of a message, each with whether it may be missing or null."""
        targets = zip(self.source.columns, self.source.targets, strict=True)
        return {field: target.nullable for field, target in targets if field not in landed.FIELDS}

    def _problems(self) -> Iterator[str]:
        if not _TOPIC.fullmatch(self.topic) or self.topic in (".", ".."):
            yield f"topic {self.topic!r} is no name of a topic: letters, digits, . _ and - only"
        if len(self.topic) > landed.LONGEST_TOPIC:
            yield f"topic {self.topic[:20]}... has {len(self.topic)} characters; file names hold {landed.LONGEST_TOPIC}"
        if not self.group:
            yield "group is empty; it names the consumer group whose offsets say what has been landed"
        for setting in ("batch_messages", "batch_bytes", "batch_seconds"):
            if not 0 < getattr(self, setting) < float("inf"):
                yield f"{setting} is {getattr(self, setting)}; it must be more than 0"
        missing = [field for field in landed.FIELDS if field not in self.source.columns]
        if missing:
            yield f"columns does not name {', '.join(missing)}, which every landed row has"
        elif not self.payload:
            yield "columns names no field of the message itself"
        if self.day_from != landed.TIMESTAMP and self.day_from not in self.payload:
            fields = ", ".join([landed.TIMESTAMP, *self.payload])
            yield f"day_from is {self.day_from!r}; it can be one of {fields}"
