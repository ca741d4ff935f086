"""Client: the consumer of one topic, with waits that end and errors that a person understands.

Belongs here: joining and leaving the group, asking and committing positions, noticing that the broker is away. Does not
belong here: what is done with messages, and when (`landing`). Needs the client library.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any  # The client's stubs give None for whatever an error may lack: of no use for messages.

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from etl_project.kafka.broker import consumer, failure, is_fatal, is_permanent, is_rebalance
from etl_project.kafka.settings import Broker
from etl_project.kafka.subscription import Subscription

_PATIENCE_SECONDS = 0.25  # How long one call waits for its messages.
_ANSWER_SECONDS = 1.0  # How long to wait for one answer where the question is asked again.

OnPartitions = Callable[[list[int]], None]


class KafkaClient:
    """One member of the consumer group. No call waits longer than `wait_seconds` for a broker that does not answer."""

    def __init__(
        self, subscription: Subscription, broker: Broker, wait_seconds: float, warn: Callable[[str], None]
    ) -> None:
        self._topic, self._group, self._broker = subscription.topic, subscription.group, broker
        self._wait_seconds = wait_seconds
        self._warn = warn
        self._away_since: float | None = None
        self._refusal: KafkaError | None = None  # The last error that retrying cannot help.
        self._consumer: Consumer = consumer(subscription, broker, self.note)

    @contextmanager
    def joined(self, on_assign: OnPartitions, on_revoke: OnPartitions) -> Iterator[None]:
        """Be a member for as long as the block lasts. Both are called from within `consume` (or when it ends).

        Raises Refused (retrying does not help) or Unreachable (it does) for whatever goes wrong with the broker.
        """

        def revoked(_consumer: Consumer, partitions: list[TopicPartition]) -> None:
            on_revoke([one.partition for one in partitions])

        try:
            self._find_topic()
            self._consumer.subscribe(
                [self._topic],
                on_assign=lambda _consumer, partitions: on_assign([one.partition for one in partitions]),
                on_revoke=revoked,
                on_lost=revoked,  # What was lost without a word was taken from us just as well.
            )
            yield
        except KafkaException as error:
            raise failure(error.args[0], f"landing topic {self._topic}", self._broker) from error
        finally:
            self._consumer.close()

    def consume(self, room: int) -> list[Any]:
        """At most so many messages, those that come within a moment; some of them may be errors (`note` those).

        Raises Unreachable (retrying helps) once the broker has been away for longer than `wait_seconds`.
        """
        # Waiting for one and then taking only what has been fetched keeps the bytes within the limit of the queue: a
        # call that waits for `room` messages would go on taking while more are fetched, however large they are.
        messages: list[Any] = self._consumer.consume(1, _PATIENCE_SECONDS)
        if messages and room > 1:
            messages += self._consumer.consume(room - 1, 0)
        if self._refusal is not None and is_fatal(self._refusal):
            self.refuse_permanent()
        if messages:
            self._refusal = None
            self._answered()
        elif self._away_since is not None:
            self._look_for_broker(self._away_since)
        return messages

    def note(self, error: KafkaError) -> None:
        """Keep what librdkafka says in passing. It tries again by itself whatever can be tried again."""
        if is_permanent(error):
            self._refusal = error
        if error.code() == KafkaError._ALL_BROKERS_DOWN and self._away_since is None:
            self._away_since = time.monotonic()
            self._warn(f"no broker at {self._broker.bootstrap} answers; waiting for it")

    def refuse_permanent(self) -> None:
        """Raises Refused (retrying does not help) when the last error was one that cannot go away by itself."""
        if self._refusal is not None:
            raise failure(self._refusal, f"landing topic {self._topic}", self._broker)

    def committed(self, partitions: Iterable[int]) -> dict[int, int | None]:
        """The group's position in each partition; None where it has none."""
        found = self._consumer.committed([self._at(partition) for partition in partitions], self._wait_seconds)
        for one in found:
            if one.error is not None:
                raise KafkaException(one.error)
        return {one.partition: one.offset if one.offset >= 0 else None for one in found}

    def available(self, partition: int) -> tuple[int, int]:
        """The first offset that the broker still has, and the one after the last that can be read."""
        return self._consumer.get_watermark_offsets(self._at(partition), self._wait_seconds)

    def last_known_end(self, partition: int) -> int | None:
        """The one after the last offset, as the broker said when it last sent messages."""
        _, high = self._consumer.get_watermark_offsets(self._at(partition), cached=True)
        return high if high >= 0 else None

    def assign(self, starts: Mapping[int, int]) -> None:
        """Begin these partitions at these offsets, and only these."""
        self._consumer.assign([self._at(partition, offset) for partition, offset in starts.items()])

    def commit(self, positions: Mapping[int, int]) -> bool:
        """Commit these positions for the group; False where it has gone on without us, and they remain uncommitted.

        Raises Unreachable (retrying helps) after `wait_seconds`, Refused (it does not) at once.
        """
        deadline = time.monotonic() + self._wait_seconds
        while True:
            error = self._commit_error([self._at(partition, offset) for partition, offset in positions.items()])
            if error is None:
                return True
            if is_rebalance(error) and not is_fatal(error):
                return False
            if is_permanent(error) or time.monotonic() > deadline:
                raise failure(error, f"committing offsets of group {self._group}", self._broker)
            time.sleep(_PATIENCE_SECONDS)

    def _commit_error(self, positions: list[TopicPartition]) -> KafkaError | None:
        try:
            results = self._consumer.commit(offsets=positions, asynchronous=False)
        except KafkaException as raised:
            error: KafkaError = raised.args[0]
            return error
        return next((one.error for one in results or () if one.error is not None), None)

    def _find_topic(self) -> None:
        """See that broker and topic are there, before anything waits for them."""
        deadline = time.monotonic() + self._wait_seconds
        while True:
            try:
                error = self._consumer.list_topics(self._topic, timeout=_ANSWER_SECONDS).topics[self._topic].error
                if error is None:
                    return
            except KafkaException as raised:
                error = raised.args[0]
            self._consumer.poll(0)  # Lets the client call `note`: it alone hears of wrong credentials.
            error = self._refusal or error
            if is_permanent(error) or time.monotonic() > deadline:
                raise failure(error, f"looking for topic {self._topic}", self._broker)

    def _look_for_broker(self, away_since: float) -> None:
        """Ask a broker that was away for a sign of life."""
        self.refuse_permanent()
        try:
            self._consumer.list_topics(self._topic, timeout=_ANSWER_SECONDS)
        except KafkaException as error:
            if time.monotonic() - away_since > self._wait_seconds:
                raise failure(error.args[0], f"landing topic {self._topic}", self._broker) from None
        else:
            self._answered()

    def _answered(self) -> None:
        if self._away_since is not None:
            self._away_since = None
            self._warn(f"the broker at {self._broker.bootstrap} answers again")

    def _at(self, partition: int, offset: int | None = None) -> TopicPartition:
        where = (self._topic, partition)
        return TopicPartition(*where) if offset is None else TopicPartition(*where, offset)
