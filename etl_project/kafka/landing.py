"""Landing: messages of a topic become files in the drop folder, none lost; one landed twice is the same file or row.

Belongs here: the order of the steps. Consume a batch, write its files durably, and only then commit the offsets, last
plus one, synchronously. A kill before the commit lands the same offsets again; the files say which they are, and the
typed table keeps each message once. Does not belong here: what stands in a file (`format`, `decode`), how files are
written (`batch`), how the broker is talked to (`client`).

Nothing here keeps a note of its own: where to go on is the group's committed offsets, and nowhere else.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import KafkaError

from etl_project import faults, utc
from etl_project.kafka import batch, decoders, losses, offsets
from etl_project.kafka.batch import PartitionBatch
from etl_project.kafka.broker import BrokerRefused, Unreachable
from etl_project.kafka.client import KafkaClient
from etl_project.kafka.decode import Decoder, MessageReader
from etl_project.kafka.format import Headers, Span
from etl_project.kafka.settings import Broker
from etl_project.kafka.subscription import Subscription
from etl_project.settings import Settings

_CHUNK = 2_000  # Messages asked for at once: enough to make a call cheap, few enough to stop soon after a signal.
_IDLE_SECONDS = 600.0  # Marks of transactions behind the last message go on record so long after they came.
_FIRST_GUESS_BYTES = 2**16  # The size of a message, as long as none has been seen.


@dataclass(frozen=True)
class Bounds:
    """When to stop: after so many messages, so many seconds, or with everything that was there at the beginning."""

    max_messages: int | None = None
    max_seconds: float | None = None
    until_end: bool = False


@dataclass
class LandingTally:
    """What has been done so far. `lag` and `last_offset` are by partition, for those that were assigned last; no lag is
    known where none ever was."""

    landed: int = 0
    dead: int = 0
    lost: int = 0
    dropped: int = 0
    files: int = 0
    batches: int = 0
    last_offset: dict[int, int] = field(default_factory=dict)
    lag: dict[int, int] = field(default_factory=dict)

    def since(self, earlier: LandingTally) -> LandingTally:
        """What has been done since an earlier moment; lag and last offsets are those of now."""
        counts = {
            name: getattr(self, name) - getattr(earlier, name)
            for name in ("landed", "dead", "lost", "dropped", "files", "batches")
        }
        return LandingTally(**counts, last_offset=dict(self.last_offset), lag=dict(self.lag))

    def metadata(self) -> dict[str, Any]:
        """The same for a person to look at."""
        return {
            "landed messages": self.landed,
            "dead letters": self.dead,
            "lost offsets": self.lost,
            **({"dropped tombstones": self.dropped} if self.dropped else {}),
            "files": self.files,
            "lag": sum(self.lag.values()) if self.lag else "unknown",
            "lag by partition": _by_partition(self.lag),
            "last offset by partition": _by_partition(self.last_offset),
        }


@dataclass(frozen=True)
class Watch:
    """How a caller looks on: `stop` is asked between two calls to the broker, `tell` hears of each landed batch and
    `warn` of what a person should know."""

    stop: Callable[[], bool] = lambda: False
    tell: Callable[[LandingTally], None] = lambda tally: None
    warn: Callable[[str], None] = lambda text: None


def land(
    subscription: Subscription,
    broker: Broker,
    settings: Settings,
    bounds: Bounds = Bounds(),
    watch: Watch = Watch(),
    decoder: Decoder | None = None,
) -> LandingTally:
    """Land messages until a bound is reached or `stop` says so; the batch under way is landed and committed first.

    Offsets that are gone are put on record, told to `warn`, and gone beyond. Raises Unreachable (retrying helps) when
    the broker is away for longer than `wait_seconds`, CannotWrite (it does) for a full disk and the like, and
    BrokerRefused (it does not) for a topic, user or offset that cannot be. Whatever happens, a kill included: what is
    committed has landed.
    """
    decoder = decoders.of(subscription) if decoder is None else decoder
    client = KafkaClient(subscription, broker, settings.wait_seconds, watch.warn)
    landing = Landing(subscription, client, settings, watch, decoder)
    landing.run(bounds)
    return landing.tally


class Landing:
    """The batches of one member of the consumer group, and when they land."""

    def __init__(
        self, subscription: Subscription, client: KafkaClient, settings: Settings, watch: Watch, decoder: Decoder
    ) -> None:
        self.tally = LandingTally()
        self._subscription, self._client, self._settings, self._watch = subscription, client, settings, watch
        self._decoder = decoder
        self._incoming = settings.incoming / subscription.source.name
        self._dead_letters = settings.dead_letters / subscription.source.name
        self._batches: dict[int, PartitionBatch] = {}  # One for each assigned partition.
        self._reader = self._new_reader()
        self._began: float | None = None  # When the batches got their first message.
        self._taken = 0
        self._typical_bytes = _FIRST_GUESS_BYTES
        self._idle_since: float | None = None  # When a batch without messages got its first offsets.
        self._waiting_since: float | None = None  # Without partitions: since when the group has given none.
        self._told_of_waiting = False
        self._ends: dict[int, int] = {}  # Where each partition ended when it was assigned, until that is reached.
        self._landed_ends: dict[tuple[int, int], int] = {}  # (partition, first): last, landed but not committed.

    def run(self, bounds: Bounds) -> None:
        """Consume and land until a bound is reached or the caller stops it."""
        batch.sweep([self._incoming, self._dead_letters])
        self._waiting_since = time.monotonic()
        with self._client.joined(self._on_assign, self._on_revoke):
            started = time.monotonic()
            while not (self._watch.stop() or self._reached(bounds, time.monotonic() - started)):
                left = None if bounds.max_messages is None else bounds.max_messages - self._taken
                self._take(self._room(left))
                if self._is_full() or self._is_idle_for_long():
                    self._land_all(empty=self._is_idle_for_long())
                self._tell_of_waiting()
            self._land_all(empty=True)

    def _reached(self, bounds: Bounds, seconds: float) -> bool:
        if bounds.max_messages is not None and self._taken >= bounds.max_messages:
            return True
        if bounds.until_end and self._waiting_since is not None:
            # Before the bound by seconds: an end that nobody could look for is not reached.
            self._refuse_to_wait(self._waiting_since, bounds.max_seconds)
        if bounds.max_seconds is not None and seconds >= bounds.max_seconds:
            return True
        return bounds.until_end and self._waiting_since is None and not self._ends

    def _tell_of_waiting(self) -> None:
        """Say once that the group gives nothing: a member in reserve is as silent as one whose group cannot be had."""
        seconds = self._settings.wait_seconds
        if self._waiting_since is None:
            self._told_of_waiting = False
        elif not self._told_of_waiting and time.monotonic() - self._waiting_since >= seconds:
            self._told_of_waiting = True
            self._watch.warn(
                f"group {self._subscription.group} has given no partitions of topic {self._subscription.topic} for "
                f"{seconds:g} s: other members have them all, or the broker that coordinates the group does not "
                "answer. Nothing is lost; waiting for some"
            )

    def _refuse_to_wait(self, since: float, max_seconds: float | None) -> None:
        """Raises Unreachable once the group has given no partitions for too long."""
        limit = min(self._settings.wait_seconds, math.inf if max_seconds is None else max_seconds)
        if time.monotonic() - since >= limit:
            raise Unreachable(
                f"group {self._subscription.group} gave no partitions of topic {self._subscription.topic} within "
                f"{limit:g} s (ETL_WAIT_SECONDS, or the bound of the run): another member is busy or just died. "
                "Nothing is lost; retrying helps."
            )

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

    def _is_idle_for_long(self) -> bool:
        """Whether offsets without a message were passed so long ago that they go on record by themselves."""
        return self._idle_since is not None and time.monotonic() - self._idle_since >= _IDLE_SECONDS

    def _messages(self) -> int:
        return sum(one.messages for one in self._batches.values())

    def _size(self) -> int:
        return sum(one.size_bytes for one in self._batches.values())

    def _take(self, room: int) -> None:
        """Take the messages that come within a moment. This loop runs once a message: it does no more than it must."""
        messages = self._client.consume(room)
        before = self._size()
        for message in messages:
            error = message.error()
            if error is not None:
                self._on_event(error, message.partition(), message.offset())
                continue
            one = self._batches.get(message.partition())
            if one is not None and message.offset() > one.until:
                one.reach(message.offset())
                self._land([one], empty=True)
                one = self._batches[message.partition()]
            if one is not None:
                kind, timestamp_ms = message.timestamp()  # Kind 0 says that there is none.
                at = timestamp_ms if kind else None
                one.add(message.offset(), at, message.key(), _headers(message), message.value())
                self._taken += 1
        if messages:
            grown = self._size() - before
            self._typical_bytes = grown // len(messages) if grown >= len(messages) else self._typical_bytes
            self._began = self._began or time.monotonic()
            self._forget_reached_ends()

    def _forget_reached_ends(self) -> None:
        for partition, end in list(self._ends.items()):
            if partition in self._batches and self._batches[partition].next_offset >= end:
                del self._ends[partition]

    def _on_event(self, error: KafkaError, partition: int, offset: int | None) -> None:
        """What the consumer has to say instead of a message."""
        if error.code() == KafkaError._PARTITION_EOF:
            if partition in self._batches and offset is not None:
                one = self._batches[partition]
                one.reach(offset)
                if one.span is not None and not one.messages:
                    self._idle_since = self._idle_since or time.monotonic()
            self._ends.pop(partition, None)
        elif error.code() == KafkaError._AUTO_OFFSET_RESET:
            # Offsets went away while they were being consumed: land what came, then look where each partition begins.
            self._land_all(empty=True)
            self._on_assign(list(self._batches))
        else:
            self._client.note(error)
            self._client.refuse_permanent()
            self._watch.warn(f"the broker says: {error.str()}")

    def _land_all(self, empty: bool) -> None:
        self._land(list(self._batches.values()), empty)
        self._began = None
        self._idle_since = None if empty else self._idle_since

    def _land(self, which: list[PartitionBatch], empty: bool) -> None:
        """Write the files of these batches, then commit their offsets, then begin the next ones. `empty`: those without
        messages too, which become a record of offsets that held none."""
        done = [one for one in which if one.span is not None and (one.messages or empty)]
        if not done:
            return
        files = [file for one in done for file in one.files(self._incoming, self._dead_letters)]
        batch.write(files)
        self._commit({one.partition: one.next_offset for one in done})
        faults.reach("kafka.after_commit")
        self._count(done, len(files))
        self._reader = self._new_reader()
        for one in done:
            self._batches[one.partition] = self._new_batch(one.partition, one.next_offset)
        self._watch.tell(self.tally)

    def _commit(self, positions: dict[int, int]) -> None:
        """Files that have landed stay: where the commit fails, whoever has the partition now lands them again."""
        if not self._client.commit(positions):
            self._watch.warn(f"the group rebalanced before offsets {positions} were committed: they are landed again")

    def _count(self, done: list[PartitionBatch], files: int) -> None:
        self.tally.batches += 1
        self.tally.files += files
        for one in done:
            self.tally.landed += one.rows
            self.tally.dropped += one.dropped
            self.tally.dead += one.dead
            self.tally.last_offset[one.partition] = one.next_offset - 1
            end = self._client.last_known_end(one.partition)
            if end is not None:
                self.tally.lag[one.partition] = max(0, end - one.next_offset)

    def _on_assign(self, assigned: list[int]) -> None:
        """Begin each partition where the group has committed, and know where it ends."""
        self.tally.lag.clear()
        committed = self._client.committed(assigned)
        names = offsets.found(self._settings, self._subscription.source.name)
        landed = offsets.progress(names, self._subscription.topic, committed)
        self._landed_ends = landed.ends
        starts = {
            partition: self._start(partition, committed[partition], landed.reached.get(partition))
            for partition in assigned
        }
        self._client.assign(starts)
        self._batches = {partition: self._new_batch(partition, first) for partition, first in starts.items()}
        if assigned:
            self._waiting_since = None

    def _on_revoke(self, revoked: list[int]) -> None:
        """Drop what is unfinished, before the partitions go: whoever gets them begins at the committed offsets."""
        self._waiting_since = self._waiting_since or time.monotonic()
        for partition in revoked:
            self._batches.pop(partition, None)
            self._ends.pop(partition, None)

    def _start(self, partition: int, committed: int | None, landed: int | None) -> int:
        """Where to begin with a partition, after a look at what the broker still has.

        `landed` is what the files have reached. It may lie beyond the group's position: that is new, was forgotten by
        the broker or set back, or a kill came before the commit. What has landed is not lost.
        """
        low, high = self._client.available(partition)
        known = [position for position in (committed, landed) if position is not None]
        reached = max(known, default=None)
        if reached is not None and reached > high:
            raise BrokerRefused(
                f"topic {self._subscription.topic}, partition {partition} ends at offset {high}, but {reached} was "
                "reached before: it was deleted and made again, or this is another cluster. Its messages would be "
                "taken for the old ones: give the topic another name, or land it for a new source."
            )
        if reached is not None and reached < low:
            self._lose(Span(self._subscription.topic, partition, reached, low - 1))
        start = max(committed or 0, low)
        self._ends.pop(partition, None)
        if start < high:
            self._ends[partition] = high
        self.tally.lag[partition] = high - start
        return start

    def _lose(self, span: Span) -> None:
        """Put lost offsets on record, and commit that they are behind us."""
        path = losses.record(self._dead_letters, span, self._subscription.group)
        self.tally.lost += span.last - span.first + 1
        self._watch.warn(
            f"LOST: offsets {span.first} to {span.last} of {span.topic}, partition {span.partition} were gone before "
            f"they could be landed (retention too short?); see {path}"
        )
        self._commit({span.partition: span.last + 1})

    def _new_reader(self) -> MessageReader:
        return MessageReader(self._subscription, lambda: utc.now().date(), self._decoder)

    def _new_batch(self, partition: int, first: int) -> PartitionBatch:
        """A batch from `first` on. One that began there before and was not committed gets the same end: then it has
        the same name and the same bytes, and nothing tells that it was landed twice."""
        until = self._landed_ends.get((partition, first), batch.NO_END)
        longest = self._subscription.source.max_line_bytes
        return PartitionBatch(self._subscription.topic, partition, first, self._reader, longest, until)


def _headers(message: Any) -> Headers | None:
    """The headers; None where a name is not UTF-8, over which the client stumbles in one of two ways."""
    try:
        return message.headers() or ()
    except (UnicodeDecodeError, SystemError):
        return None


def _by_partition(numbers: dict[int, int]) -> dict[str, int]:
    return {str(partition): number for partition, number in sorted(numbers.items())}
