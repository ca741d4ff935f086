"""Subscription: which topic is landed for which source, and in what batches, as data.

Belongs here: the settings of one landing, checked when it is made. Does not belong here: where the broker is and how to
log in (`settings`, from the environment alone), talking to it (`landing`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from etl_project.kafka import decoder_names
from etl_project.kafka import format as landed
from etl_project.sources import SourceSpec, SpecError

_TOPIC = re.compile(r"[A-Za-z0-9._-]+")
A_DAY = {
    "epoch_days": 1,
    "epoch_seconds": 86_400,
    "epoch_milliseconds": 86_400_000,
    "epoch_microseconds": 86_400_000_000,
}
"""How many of the units of a number since 1970 (UTC) are a day."""
DAY_FORMATS = ("iso", *A_DAY)
TOMBSTONES = ("reject", "drop", "keep")
ENVELOPES = ("none", "debezium")


@dataclass(frozen=True)
class Subscription:
    """One topic landed for one source. Raises SpecError (retrying does not help) naming everything wrong at once.

    A batch ends with whatever comes first: `batch_messages`, `batch_bytes` (the bound of the memory for rows), or
    `batch_seconds` after its first message. `day_from`: the field whose UTC day is the message's day, the message's own
    timestamp (kafka_timestamp) or a field of the payload, written as `day_format` says. `decoder` says how a value is
    encoded (`decoders`), `envelope` in what the row is wrapped, `tombstones` what becomes of a message without a value
    and of an event that says that a row is gone. These decide what is landed, and so are better not changed while
    anything waits to be landed again.
    """

    source: SourceSpec
    topic: str
    group: str
    batch_messages: int = 100_000
    batch_bytes: int = 64 * 2**20
    batch_seconds: float = 30.0
    day_from: str = landed.TIMESTAMP
    day_format: str = "iso"
    decoder: str = "json"
    envelope: str = "none"
    tombstones: str = "reject"

    def __post_init__(self) -> None:
        problems = [*self._problems()]
        if problems:
            raise SpecError(f"source {self.source.name!r}: " + "; ".join(problems))

    @cached_property
    def payload(self) -> Mapping[str, bool]:
        """The fields of a message, each with whether it may be missing or null."""
        columns = self.source.columns.items()
        return {field: self.source.column(name).nullable for field, name in columns if field not in landed.FIELDS}

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
        yield from self._problems_of_words()
        yield from decoder_names.problems(self.decoder)
        if self.tombstones == "keep":
            yield from self._problems_of_kept()

    def _problems_of_words(self) -> Iterator[str]:
        for setting, words in (("day_format", DAY_FORMATS), ("envelope", ENVELOPES), ("tombstones", TOMBSTONES)):
            value = getattr(self, setting)
            if value not in words:
                yield f"{setting} is {value!r}; it can be one of {', '.join(words)}, like `{setting}: {words[1]}`"
        if self.day_format != "iso" and self.day_from == landed.TIMESTAMP:
            yield f"day_format: {self.day_format} needs day_from: a field of the message"

    def _problems_of_kept(self) -> Iterator[str]:
        """A message without a value has nothing but its coordinates, its key and its headers."""
        needed = [field for field, nullable in self.payload.items() if not nullable]
        if self.envelope == "none" and needed:
            yield f"tombstones: keep needs columns that may be NULL; these are NOT NULL: {', '.join(needed)}"
        if self.envelope == "none" and self.day_from != landed.TIMESTAMP:
            yield f"tombstones: keep needs day_from: {landed.TIMESTAMP}, for a tombstone has no field {self.day_from}"
