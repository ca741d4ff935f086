"""Topic: the sample payments through a real Kafka topic, instead of as landed files. Needs the client library.

Belongs here: making the topic, sending each sample message once however often the demo runs, and starting the landing.
Does not belong here: what the messages are (`demo.payments`), how they are landed (`kafka.landing`).

Each message has a place of its own (partition and offset) in a topic nobody else writes to, so what was sent already
is known from where the partitions end: a demo that was killed goes on there, and a second one sends nothing.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import Any

import stamina
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic, OffsetSpec  # type: ignore[attr-defined]

from etl_project.demo.payments import LATE, PARTITIONS, Message, messages
from etl_project.failures import EtlError, Permanent
from etl_project.kafka import Bounds, Broker, LandingTally, Subscription, failure, land
from etl_project.settings import Settings
from etl_project.sources import archive, scan
from etl_project.utc import now

_ANSWER_SECONDS = 30.0
_LOADING = (
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.NOT_COORDINATOR,
)


class OtherTopic(Permanent):
    """The topic is not the demo's own. Nothing was sent; retrying does not help."""


class ThroughKafka:
    """The payments by way of a topic. Raises Unreachable (retrying helps) and Refused (it does not)."""

    def __init__(self, subscription: Subscription, broker: Broker, settings: Settings) -> None:
        self._subscription, self._broker, self._settings = subscription, broker, settings
        options: dict[str, str | int | float | bool] = {**broker.options, "bootstrap.servers": broker.bootstrap}
        self._admin = AdminClient(options)
        self._producer = Producer({**options, "enable.idempotence": True})

    def first(self) -> str:
        """Send and land all payments but the late one."""
        self._make_topic()
        self._refuse_another()
        if self._is_new_here():
            self._forget_the_group()
        *sent, _ = messages()
        return self._through(sent, "payments are")

    def later(self) -> str:
        """Send and land a message of a day that was built already."""
        return self._through(messages()[-1:], f"late payment of {LATE} is")

    def _through(self, sample: Sequence[Message], what: str) -> str:
        sent, tally = self._send(sample), self._land()
        return (
            f"{sent} {what} sent to topic {self._subscription.topic} at {self._broker.bootstrap}; "
            f"{tally.landed} messages landed in {tally.files} files"
        )

    def _make_topic(self) -> None:
        """The sample is older than any retention, so the topic keeps its messages for ever."""
        name = self._subscription.topic
        wanted = NewTopic(name, PARTITIONS, config={"retention.ms": "-1"})
        try:
            _wait(self._admin.create_topics([wanted], operation_timeout=_ANSWER_SECONDS))
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise self._failure(error, "creating the topic") from error
        found = self._partitions(name)
        if found != PARTITIONS:
            raise self._other(f"has {found} partitions, the demo's has {PARTITIONS}")

    def _partitions(self, name: str) -> int:
        """How many the topic has. One that was made a moment ago has none yet in the broker's answer."""
        end = time.monotonic() + _ANSWER_SECONDS
        while True:
            found = len(self._admin.list_topics(name, _ANSWER_SECONDS).topics[name].partitions)
            if found or time.monotonic() > end:
                return found
            time.sleep(0.1)

    def _refuse_another(self) -> None:
        """Raises OtherTopic where a partition begins with anything but the demo's own message of that place."""
        own = {(one.partition, one.offset): one.payload for one in messages()}
        for partition, (offset, value) in self._beginnings().items():
            if own.get((partition, offset)) != value:
                raise self._other(f"holds another message than the demo's at partition {partition}, offset {offset}")

    def _beginnings(self) -> dict[int, tuple[int, bytes | None]]:
        """Offset and value of the first message of every partition that ever had one. No group is joined."""
        options = {**self._broker.options, "bootstrap.servers": self._broker.bootstrap, "enable.auto.commit": False}
        consumer = Consumer({**options, "group.id": f"{self._subscription.group}-demo"})
        found: dict[int, tuple[int, bytes | None]] = {}
        try:
            for where in (TopicPartition(self._subscription.topic, one) for one in range(PARTITIONS)):
                low, high = consumer.get_watermark_offsets(where, _ANSWER_SECONDS)
                if high > 0:
                    consumer.assign([TopicPartition(where.topic, where.partition, low)])
                    came = consumer.consume(1, _ANSWER_SECONDS) if low < high else []
                    found[where.partition] = (came[0].offset() or 0, came[0].value()) if came else (low, None)
        except KafkaException as error:
            raise self._failure(error, "looking at the topic") from error
        finally:
            consumer.close()
        return found

    def _other(self, why: str) -> OtherTopic:
        return OtherTopic(
            f"topic {self._subscription.topic} at {self._broker.bootstrap} {why}: it is somebody else's. "
            "Nothing was sent; remove the topic, or name another broker."
        )

    def _is_new_here(self) -> bool:
        """Whether this data folder has never seen a payment."""
        source = self._subscription.source
        waiting = scan.scan(self._settings.incoming / source.name, source, now())
        return not (waiting.waiting or waiting.unsettled or archive.accepted_days(self._settings.archive, source))

    def _forget_the_group(self) -> None:
        """Let a new data folder land what an earlier one has landed: its group would go on behind it."""
        try:
            for attempt in stamina.retry_context(on=_is_loading, timeout=_ANSWER_SECONDS, attempts=None):
                with attempt:
                    _wait(self._admin.delete_consumer_groups([self._subscription.group]))
        except KafkaException as error:
            if error.args[0].code() != KafkaError.GROUP_ID_NOT_FOUND:
                raise self._failure(error, "deleting the consumer group") from error

    def _send(self, sample: Sequence[Message]) -> int:
        """Send what is not there yet; how many that were. Raises once the broker has refused one."""
        ends = self._ends()
        refused: list[KafkaError] = []
        missing = [one for one in sample if one.offset >= ends[one.partition]]
        for one in missing:
            self._producer.produce(
                self._subscription.topic,
                value=one.payload,
                key=one.key,
                partition=one.partition,
                timestamp=one.timestamp_ms,
                on_delivery=lambda error, _: refused.append(error) if error else None,
            )
        left = self._producer.flush(_ANSWER_SECONDS)
        if refused or left:
            raise self._failure(KafkaException(*refused[:1] or [KafkaError(KafkaError._TIMED_OUT)]), "sending payments")
        return len(missing)

    def _ends(self) -> dict[int, int]:
        """Where each partition ends: the offset of its next message."""
        latest = OffsetSpec.latest()  # type: ignore[no-untyped-call]
        asked = {TopicPartition(self._subscription.topic, one): latest for one in range(PARTITIONS)}
        try:
            answers = {where.partition: answer.result() for where, answer in self._admin.list_offsets(asked).items()}
        except KafkaException as error:
            raise self._failure(error, "looking for the ends of the partitions") from error
        return {partition: answer.offset for partition, answer in answers.items()}

    def _land(self) -> LandingTally:
        return land(self._subscription, self._broker, self._settings, Bounds(until_end=True))

    def _failure(self, error: KafkaException, what: str) -> EtlError:
        return failure(error.args[0], f"{what} for the demo", self._broker)


def _is_loading(error: Exception) -> bool:
    """A broker that was just started answers questions about groups a little later."""
    return isinstance(error, KafkaException) and error.args[0].code() in _LOADING


def _wait(answers: Mapping[str, Future[Any]]) -> None:
    """Wait until everything that was asked for is done. Raises KafkaException for what is not."""
    for answer in answers.values():
        answer.result(_ANSWER_SECONDS)
