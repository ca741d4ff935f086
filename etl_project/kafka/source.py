"""The component of a Kafka source: a topic, declared in one `defs.yaml`, that lands as daily files and is then a
source of files like any other.

Belongs here: the words of the YAML that only a Kafka source has. Needs neither a broker nor its client library.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import dagster as dg
from pydantic import Field, field_validator

from etl_project.kafka import assets as kafka_assets
from etl_project.kafka import format as landed
from etl_project.kafka.subscription import Subscription
from etl_project.sources import SourceSpec, component


class KafkaSource(component.FileSource):
    """A topic whose messages are landed as files by UTC day, and from there on built like those of any other source.

    Beside the message's fields, the table has the columns kafka_topic, kafka_partition, kafka_offset, kafka_timestamp,
    kafka_key and kafka_headers, unless `columns` gives them other names. Where the broker is, says the environment
    alone (ETL_KAFKA_BOOTSTRAP, ETL_KAFKA_CONFIG).
    """

    topic: str = Field(description="The topic that is landed.")
    group: str = Field(default="", description="The consumer group whose offsets say what was landed; etl-<name>.")
    columns: Mapping[str, str] = Field(description="Field of the message: column of the table.")
    day_from: str = Field(
        default=landed.TIMESTAMP,
        description="Whose UTC day is the message's: kafka_timestamp, or a field of the message (a date or a time).",
    )
    day_format: str = Field(
        default="iso",
        description="How that field is written: iso, or a number since 1970: epoch_days, epoch_seconds, "
        "epoch_milliseconds, epoch_microseconds.",
    )
    decoder: str = Field(
        default="json",
        description="How values are encoded: json, json-schema, avro, protobuf, or your own function, module:function.",
    )
    envelope: str = Field(default="none", description="In what a row is wrapped: none, or debezium for change events.")
    tombstones: str = Field(
        default="reject",
        description="What a message without a value is, and an event that says that a row is gone: reject (a dead "
        "letter), drop, or keep (a row).",
    )
    batch_messages: int = Field(default=100_000, description="A batch ends with this many messages.")
    batch_bytes: int = Field(default=64 * 2**20, description="A batch ends with this many bytes of rows.")
    batch_seconds: float = Field(default=30.0, description="A batch ends this long after its first message.")
    deduplicate_on: Sequence[str] = Field(
        default=landed.COORDINATES, description="Columns that tell messages apart: landing one twice is harmless."
    )
    max_rejected_ratio: float = Field(
        default=1.0, description="Messages are not sent again, so a file is not refused for its rows."
    )
    patterns: Sequence[str] = Field(default=landed.PATTERNS, description="Fixed: the names of landed files.")
    format: Literal["jsonl"] = "jsonl"
    files_per_day: Literal["many"] = "many"

    @field_validator("columns")
    @classmethod
    def _with_kafka_fields(cls, columns: Mapping[str, str]) -> Mapping[str, str]:
        """Rows are landed whole; a field that the YAML gives no other name is the column of its own name."""
        return {**{field: columns.get(field, field) for field in landed.FIELDS}, **columns}

    @field_validator("patterns")
    @classmethod
    def _fixed_patterns(cls, patterns: Sequence[str]) -> Sequence[str]:
        if tuple(patterns) != landed.PATTERNS:
            raise ValueError(f"the files of a Kafka source are always called {', '.join(landed.PATTERNS)}")
        return patterns

    def _day_of_rows(self) -> None:
        """Landed files have a day in their names: `day_from` is asked when a message is landed."""

    def spec(self, folder: Path) -> SourceSpec:
        """As for any source; a landing that was interrupted may land the same rows as another range."""
        spec = replace(super().spec(folder), repeats_itself=True)
        # A batch may hold no message with a field that is looked for inside another one: its file is no worse for it.
        inside = {column for field, column in spec.columns.items() if "." in field and spec.column(column).nullable}
        if not inside:
            return spec
        optional = dict.fromkeys((*spec.layout.optional, *sorted(inside)))
        return replace(spec, layout=replace(spec.layout, optional=tuple(optional)))

    def subscription(self, folder: Path) -> Subscription:
        """What is landed for this source. Raises SpecError or ContractError where something does not fit."""
        return Subscription(
            source=self.spec(folder),
            topic=self.topic,
            group=self.group or f"etl-{self.name}",
            batch_messages=self.batch_messages,
            batch_bytes=self.batch_bytes,
            batch_seconds=self.batch_seconds,
            day_from=self.day_from,
            day_format=self.day_format,
            decoder=self.decoder,
            envelope=self.envelope,
            tombstones=self.tombstones,
        )

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """The definitions of a source of files, and what lands them: a job, its schedule and a check."""
        landing = kafka_assets.definitions(self.subscription(context.path))
        return dg.Definitions.merge(super().build_defs(context), landing)
