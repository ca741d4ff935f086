"""Landing: messages of a topic become files in the drop folder, none lost; one landed twice is the same file or row.

Belongs here: the order of the steps. Consume a batch, write its files durably, and only then commit the offsets, last
plus one, synchronously. A kill before the commit lands the same offsets again; the files say which they are, and the
typed table keeps each message once. Does not belong here: what stands in a file (`format`, `decode`), how files are
written (`batch`), what the broker's errors mean (`broker`).

Nothing here keeps a note of its own: where to go on is the group's committed offsets, and nowhere else.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NoReturn

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from etl_project import faults, partitions
from etl_project.kafka import batch, losses, offsets
from etl_project.kafka.batch import PartitionBatch
from etl_project.kafka.broker import Refused, Unreachable, consumer, failure, is_permanent, is_rebalance
from etl_project.kafka.decode import Decoder, Reader, json_object
from etl_project.kafka.format import Named, Span
from etl_project.kafka.settings import Broker
from etl_project.kafka.subscription import Subscription
from etl_project.settings import Settings

_CHUNK = 2_000  # Messages asked for at once: enough to make a call cheap, few enough to stop soon after a signal.
_FIRST_GUESS_BYTES = 2**16  # The size of a message, as long as none has been seen.
_PATIENCE_SECONDS = 0.25  # How long one call waits for its messages.
_ANSWER_SECONDS = 1.0  # How long to wait for one answer where the question is asked again.


@dataclass(frozen=True)
class Bounds:
    """When to stop: after so many messages, so many seconds, or with everything that was there at the beginning."""

    max_messages: int | None = None
    max_seconds: float | None = None
    until_end: bool = False


@dataclass
class Tally:
    """What has been done so far. `lag` and `last_offset` are by partition, for those that are assigned now."""

    landed: int = 0
    dead: int = 0
    lost: int = 0
    files: int = 0
    size_bytes: int = 0
    batches: int = 0
    last_offset: dict[int, int] = field(default_factory=dict)
    lag: dict[int, int] = field(default_factory=dict)

    def metadata(self) -> dict[str, Any]:
        """The same for a person to look at."""
        return {
            "landed messages": self.landed,
            "dead letters": self.dead,
            "lost offsets": self.lost,
            "files": self.files,
            "lag": sum(self.lag.values()),
            "lag by partition": _by_partition(self.lag),
            "last offset by partition": _by_partition(self.last_offset),
        }


@dataclass(frozen=True)
class Watch:
    """How a caller looks on: `stop` is asked between two calls to the broker, `tell` hears of each landed batch and
    `warn` of what a person should know."""

    stop: Callable[[], bool] = lambda: False
    tell: Callable[[Tally], None] = lambda tally: None
    warn: Callable[[str], None] = lambda text: None


def land(
    subscription: Subscription,
    broker: Broker,
    settings: Settings,
    bounds: Bounds = Bounds(),
    watch: Watch = Watch(),
    decoder: Decoder = json_object,
) -> Tally:
    """Land messages until a bound is reached or `stop` says so; the batch under way is landed and committed first.

    Offsets that are gone are put on record, told to `warn`, and gone beyond. Raises Unreachable (retrying helps) when
    the broker is away for longer than `wait_seconds`, Refused (it does not) for a topic, user or offset that cannot be,
    and OSError when files cannot be written. Whatever happens, a kill included: what is committed has landed.
    """
    landing = Landing(subscription, broker, settings, watch, decoder)
    with landing.joined():
        landing.run(bounds)
    return landing.tally


class Landing:
    """One member of the consumer group, from joining to leaving."""

    def __init__(
        self, subscription: Subscription, broker: Broker, settings: Settings, watch: Watch, decoder: Decoder
    ) -> None:
        self.tally = Tally()
        self._subscription, self._broker, self._settings, self._watch = subscription, broker, settings, watch
        self._decoder = decoder
        self._incoming = settings.incoming / subscription.source.name
        self._dead_letters = settings.dead_letters / subscription.source.name
        self._batches: dict[int, PartitionBatch] = {}  # One for each assigned partition.
        self._reader = self._new_reader()
        self._began: float | None = None  # When the batch got its first message.
        self._taken = 0
        self._typical_bytes = _FIRST_GUESS_BYTES
        self._landed: list[Named] = []  # What lies on the disk although its offsets were not committed.
        self._ends: dict[int, int] = {}  # Where each partition ended when it was assigned, until that is reached.
        self._assigned = False
        self._unreachable_since: float | None = None
        self._last_error: KafkaError | None = None
        self._consumer: Consumer = consumer(subscription, broker, self._on_error)

    @contextmanager
    def joined(self) -> Iterator[None]:
        """Join the group for as long as the block lasts; what is unfinished at its end is somebody else's to land."""
        batch.sweep([self._incoming, self._dead_letters])
        try:
            self._find_topic()
            # What is lost without a word was taken from us just as well: the same is to be done.
            self._consumer.subscribe(
                [self._subscription.topic],
                on_assign=self._on_assign,
                on_revoke=self._on_revoke,
                on_lost=self._on_revoke,
            )
            yield
        except KafkaException as error:
            raise failure(error.args[0], f"landing topic {self._subscription.topic}", self._broker) from error
        finally:
            self._consumer.close()

    def run(self, bounds: Bounds) -> None:
        """Consume and land until a bound is reached or the caller stops it."""
        started = time.monotonic()
        while not (self._watch.stop() or self._reached(bounds, started)):
            left = None if bounds.max_messages is None else bounds.max_messages - self._taken
            self._take(self._room(left))
            if self._is_full():
                self._land_all()
        self._land_all()

    def _reached(self, bounds: Bounds, started: float) -> bool:
        if bounds.max_messages is not None and self._taken >= bounds.max_messages:
            return True
        if bounds.max_seconds is not None and time.monotonic() - started >= bounds.max_seconds:
            return True
        if not self._assigned and bounds.until_end and time.monotonic() - started > self._settings.wait_seconds:
            raise Unreachable(
                f"group {self._subscription.group} at {self._broker.bootstrap} gave no partitions within "
                f"{self._settings.wait_seconds:g} s (ETL_WAIT_SECONDS): another member is busy or just died. "
                "Nothing is lost; retrying helps."
            )
        return bounds.until_end and self._assigned and not self._ends

    def _room(self, left: int | None) -> int:
        """How many messages to ask for: what the batch can still take, judging by the size of those that came last."""
        limits = self._subscription
        fitting = (limits.batch_bytes - self._size()) // self._typical_bytes
        room = min(_CHUNK, limits.batch_messages - self._messages(), fitting)
        return max(1, room if left is None else min(room, left))

    def _is_full(self) -> bool:
        limits = self._subscription
        return (
            (self._began is not None and time.monotonic() - self._began >= limits.batch_seconds)
            or self._messages() >= limits.batch_messages
            or self._size() >= limits.batch_bytes
        )

    def _messages(self) -> int:
        return sum(one.messages for one in self._batches.values())

    def _size(self) -> int:
        return sum(one.size_bytes for one in self._batches.values())

    def _take(self, room: int) -> None:
        """Take the messages that come within a moment."""
        # The stubs give None for whatever an error may lack, so they are of no use for messages.
        messages: list[Any] = self._consumer.consume(room, _PATIENCE_SECONDS)
        before = self._size()
        for message in messages:
            error = message.error()
            if error is not None:
                self._on_event(error, message.partition())
                continue
            one = self._batches.get(message.partition())
            if one is not None and message.offset() > one.until:
                self._land([one])
                one = self._batches.get(message.partition())
            if one is not None:
                # A negative type of timestamp is none at all.
                kind, timestamp_ms = message.timestamp()
                one.add(
                    message.offset(),
                    timestamp_ms if kind else None,
                    message.key(),
                    message.headers() or (),
                    message.value(),
                )
                self._taken += 1
        if messages:
            self._typical_bytes = max(1, (self._size() - before) // len(messages))
            self._began = self._began or time.monotonic()
            self._broker_answers()
            self._forget_reached_ends()
        elif self._unreachable_since is not None:
            self._look_for_broker()

    def _forget_reached_ends(self) -> None:
        for partition, end in list(self._ends.items()):
            if partition in self._batches and self._batches[partition].next_offset >= end:
                del self._ends[partition]

    def _land_all(self) -> None:
        self._land(list(self._batches.values()))
        self._began = None

    def _land(self, which: list[PartitionBatch]) -> None:
        """Write the files of these batches, then commit their offsets, then begin the next ones."""
        done = [one for one in which if one.span is not None]
        if not done:
            return
        files = [file for one in done for file in one.files(self._incoming, self._dead_letters)]
        size = batch.write(files)
        self._commit([(one.partition, one.next_offset) for one in done])
        faults.reach("kafka.after_commit")
        self._count(done, len(files), size)
        self._reader = self._new_reader()
        for one in done:
            self._batches[one.partition] = self._new_batch(one.partition, one.next_offset)
        self._watch.tell(self.tally)

    def _count(self, done: list[PartitionBatch], files: int, size: int) -> None:
        self.tally.batches += 1
        self.tally.files += files
        self.tally.size_bytes += size
        for one in done:
            self.tally.landed += one.messages - one.dead
            self.tally.dead += one.dead
            self.tally.last_offset[one.partition] = one.next_offset - 1
            _, high = self._consumer.get_watermark_offsets(self._at(one.partition), cached=True)
            if high >= 0:
                self.tally.lag[one.partition] = max(0, high - one.next_offset)

    def _commit(self, positions: list[tuple[int, int]]) -> None:
        """Commit these positions. Files that have landed stay landed: where the commit fails, they are landed again."""
        deadline = time.monotonic() + self._settings.wait_seconds
        offsets_ = [self._at(partition, position) for partition, position in positions]
        while True:
            try:
                results = self._consumer.commit(offsets=offsets_, asynchronous=False)
                error = next((one.error for one in results or () if one.error is not None), None)
            except KafkaException as raised:
                error = raised.args[0]
            if error is None:
                return
            if is_rebalance(error):
                self._watch.warn(
                    f"the group rebalanced before a commit ({error.str()}): these offsets are landed again"
                )
                return
            if is_permanent(error) or time.monotonic() > deadline:
                raise failure(error, f"committing offsets of group {self._subscription.group}", self._broker)
            time.sleep(_PATIENCE_SECONDS)

    def _on_assign(self, client: Consumer, assigned: list[TopicPartition]) -> None:
        """Begin each partition where the group has committed, and know where it ends."""
        committed = client.committed(assigned, self._settings.wait_seconds)
        for one in committed:
            if one.error is not None:
                raise KafkaException(one.error)
        self.tally.lag.clear()
        self._landed = [*offsets.found(self._settings, self._subscription.source.name)]
        starts = {one.partition: self._start(one) for one in committed}
        # Only what begins where we begin, or later, can be landed again.
        self._landed = [named for named in self._landed if named.span.first >= starts.get(named.span.partition, 0)]
        client.assign([self._at(partition, first) for partition, first in starts.items()])
        self._batches = {partition: self._new_batch(partition, first) for partition, first in starts.items()}
        self._assigned = True

    def _on_revoke(self, client: Consumer, revoked: list[TopicPartition]) -> None:
        """Drop what is unfinished, before the partitions go: whoever gets them begins at the committed offsets."""
        for one in revoked:
            self._batches.pop(one.partition, None)
            self._ends.pop(one.partition, None)

    def _start(self, committed: TopicPartition) -> int:
        """Where to begin with a partition, after a look at what the broker still has."""
        partition = committed.partition
        low, high = self._consumer.get_watermark_offsets(self._at(partition), self._settings.wait_seconds)
        known = committed.offset if committed.offset >= 0 else self._after_landed(partition)
        if known is not None and known > high:
            self._refuse_other_topic(partition, known, high)
        if known is not None and known < low:
            self._lose(Span(self._subscription.topic, partition, known, low - 1))
        start = max(committed.offset, low)
        self._ends.pop(partition, None)
        if start < high:
            self._ends[partition] = high
        self.tally.lag[partition] = high - start
        return start

    def _after_landed(self, partition: int) -> int | None:
        """Where the landed files end, for a group without offsets: new, or forgotten by the broker."""
        chain = offsets.chains(self._landed, self._subscription.topic).get(partition)
        return None if chain is None else chain.last + 1

    def _refuse_other_topic(self, partition: int, known: int, high: int) -> NoReturn:
        raise Refused(
            f"topic {self._subscription.topic}, partition {partition} ends at offset {high}, but {known} was reached "
            "before: it was deleted and made again, or this is another cluster. Its messages would be taken for the "
            "old ones: give the topic another name, or land it for a new source."
        )

    def _lose(self, span: Span) -> None:
        """Put lost offsets on record, and commit that they are behind us."""
        path = losses.record(self._dead_letters, span, self._subscription.group)
        self.tally.lost += span.last - span.first + 1
        self._watch.warn(
            f"LOST: offsets {span.first} to {span.last} of {span.topic}, partition {span.partition} were gone before "
            f"they could be landed (retention too short?); see {path}"
        )
        self._commit([(span.partition, span.last + 1)])

    def _on_event(self, error: KafkaError, partition: int) -> None:
        """What the consumer has to say instead of a message."""
        if error.code() == KafkaError._PARTITION_EOF:
            self._ends.pop(partition, None)
        elif error.code() == KafkaError._AUTO_OFFSET_RESET:
            self._begin_again()
        else:
            self._on_error(error)
            self._refuse_permanent()

    def _begin_again(self) -> None:
        """Offsets went away while they were being consumed: land what came, then look where every partition begins."""
        self._land_all()
        self._on_assign(self._consumer, [self._at(partition) for partition in self._batches])

    def _on_error(self, error: KafkaError) -> None:
        """Called by the client, from within a call to it. The client itself tries again whatever can be tried again."""
        self._last_error = error if self._last_error is None or not is_permanent(self._last_error) else self._last_error
        if error.code() == KafkaError._ALL_BROKERS_DOWN and self._unreachable_since is None:
            self._unreachable_since = time.monotonic()
            self._watch.warn(f"no broker at {self._broker.bootstrap} answers; waiting for it")

    def _refuse_permanent(self) -> None:
        if self._last_error is not None and is_permanent(self._last_error):
            raise failure(self._last_error, f"landing topic {self._subscription.topic}", self._broker)

    def _look_for_broker(self) -> None:
        """Ask a broker that was away for a sign of life. Raises Unreachable once it has been away for too long."""
        self._refuse_permanent()
        try:
            self._consumer.list_topics(self._subscription.topic, timeout=_ANSWER_SECONDS)
        except KafkaException as error:
            away = time.monotonic() - (self._unreachable_since or 0.0)
            if away > self._settings.wait_seconds:
                raise failure(error.args[0], f"landing topic {self._subscription.topic}", self._broker) from None
        else:
            self._broker_answers()

    def _broker_answers(self) -> None:
        if self._unreachable_since is not None:
            self._unreachable_since = None
            self._watch.warn(f"the broker at {self._broker.bootstrap} answers again")

    def _find_topic(self) -> None:
        """See that broker and topic are there, before anything waits for them. Bounded by `wait_seconds`."""
        deadline = time.monotonic() + self._settings.wait_seconds
        what = f"looking for topic {self._subscription.topic}"
        while True:
            try:
                found = self._consumer.list_topics(self._subscription.topic, timeout=_ANSWER_SECONDS)
                error = found.topics[self._subscription.topic].error
                if error is None:
                    return
            except KafkaException as raised:
                error = raised.args[0]
            self._consumer.poll(0)  # Lets the client call `_on_error`: it alone hears of wrong credentials.
            if self._last_error is not None and is_permanent(self._last_error):
                error = self._last_error
            if is_permanent(error) or time.monotonic() > deadline:
                raise failure(error, what, self._broker)

    def _new_reader(self) -> Reader:
        return Reader(self._subscription, partitions.now().date(), self._decoder)

    def _new_batch(self, partition: int, first: int) -> PartitionBatch:
        """A batch from `first` on. One that began there before and was not committed, gets the same end: then it has
        the same name and the same bytes, and nothing tells that it was landed twice."""
        topic = self._subscription.topic
        ends = [span.last for _, span in self._landed if span[:3] == (topic, partition, first)]
        longest = self._subscription.source.max_line_bytes
        return PartitionBatch(topic, partition, first, self._reader, longest, min(ends, default=batch.NO_END))

    def _at(self, partition: int, offset: int | None = None) -> TopicPartition:
        where = (self._subscription.topic, partition)
        return TopicPartition(*where) if offset is None else TopicPartition(*where, offset)


def _by_partition(numbers: dict[int, int]) -> dict[str, int]:
    return {str(partition): number for partition, number in sorted(numbers.items())}
