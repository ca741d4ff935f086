"""Landing from a real broker: every message once, whatever a topic may hold."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from etl_project.kafka import format as landed
from etl_project.kafka import offsets
from etl_project.kafka.broker import BrokerRefused, Unreachable
from etl_project.kafka.format import Span
from etl_project.kafka.landing import Bounds, LandingTally, Watch, land
from etl_project.kafka.offsets import Chain
from etl_project.kafka.settings import Broker
from etl_project_tests import steady
from etl_project_tests.kafka_broker import (
    BOOTSTRAP,
    DAY_MS,
    FIRST_MS,
    Topic,
    chains,
    configured,
    coordinates,
    create,
    dead,
    ids_by_coordinates,
    needs_broker,
    rows,
    spans,
    subscription,
    things,
    topic,
)

pytestmark = needs_broker


@pytest.fixture
def one() -> Iterator[Topic]:
    """A topic with one partition."""
    with topic() as made:
        yield made


@pytest.fixture
def three() -> Iterator[Topic]:
    """A topic with three partitions."""
    with topic(partitions=3) as made:
        yield made


def drained(made: Topic, folder: Path, watch: Watch | None = None, **changes: Any) -> LandingTally:
    """Land what is there."""
    asked, bounds = subscription(made.name, **changes), Bounds(until_end=True)
    return land(asked, made.broker, configured(folder), bounds, watch or Watch())


def committed(made: Topic, partition: int = 0) -> int:
    """Where the group of the topic stands."""
    consumer = Consumer({"bootstrap.servers": made.bootstrap, "group.id": f"group-of-{made.name}"})
    try:
        return consumer.committed([TopicPartition(made.name, partition)], timeout=steady.PATIENCE_SECONDS)[0].offset
    finally:
        consumer.close()


def test_every_message_lands_once_and_nothing_comes_twice(three: Topic, tmp_path: Path) -> None:
    for partition in range(3):
        three.send(things(partition * 1000, 1000), partition, key=b"k", headers=[("trace", b"1")])
    tally = drained(three, tmp_path, batch_messages=700)
    assert (tally.landed, tally.dead, sum(tally.lag.values())) == (3000, 0, 0)
    found = rows(tmp_path)
    assert sorted(row.fields["id"] for row in found) == list(range(3000))
    assert set(coordinates(tmp_path).values()) == {1}
    assert found[0].fields[landed.KEY] == "k"
    assert found[0].fields[landed.HEADERS] == '[["trace","1"]]'
    assert [chain.holes for chain in chains(tmp_path, three.name).values()] == [(), (), ()]
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.jsonl")}
    assert drained(three, tmp_path).landed == 0
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.jsonl")} == before


def test_a_range_that_is_landed_again_is_the_same_file(one: Topic, tmp_path: Path) -> None:
    one.send(things(0, 500), timestamps=[FIRST_MS + DAY_MS - 250 + n for n in range(500)])
    drained(one, tmp_path)
    first = {path.name: path.read_bytes() for path in (tmp_path / "incoming" / "things").glob("*.jsonl")}
    drained(one, tmp_path, group="another")
    assert {path.name: path.read_bytes() for path in (tmp_path / "incoming" / "things").glob("*.jsonl")} == first


def test_a_batch_that_was_landed_but_not_committed_is_landed_again_with_the_same_end(
    three: Topic, tmp_path: Path
) -> None:
    """Otherwise a day in it could come a second time under another name, and be refused as a copy of the first."""
    times = [FIRST_MS + number * DAY_MS // 50 for number in range(100)]
    for partition in range(3):
        three.send(things(partition * 1000, 100), partition, times)
    drained(three, tmp_path)
    first = {path.name: path.read_bytes() for path in (tmp_path / "incoming" / "things").glob("*.jsonl")}
    for partition in range(3):
        three.send(things(partition * 1000 + 100, 100), partition, [time + DAY_MS for time in times])
    drained(three, tmp_path, group="has committed nothing")
    second = {path.name: path.read_bytes() for path in (tmp_path / "incoming" / "things").glob("*.jsonl")}
    assert first.items() <= second.items()
    assert set(coordinates(tmp_path).values()) == {1}
    assert len(coordinates(tmp_path)) == 600


def test_a_batch_over_midnight_lands_two_days_under_one_range(one: Topic, tmp_path: Path) -> None:
    one.send(things(0, 100), timestamps=[FIRST_MS + DAY_MS - 50 + n for n in range(100)])
    drained(one, tmp_path)
    span = Span(one.name, 0, 0, 99)
    assert spans(tmp_path) == [("2025-03-10", span), ("2025-03-11", span)]
    days = {row.fields["id"]: row.file[:10] for row in rows(tmp_path)}
    assert all(day == ("2025-03-10" if number < 50 else "2025-03-11") for number, day in days.items())


def test_the_day_can_come_from_a_field(one: Topic, tmp_path: Path) -> None:
    one.send([b'{"id": 1, "note": "2025-03-12T00:30:00+02:00"}', b'{"id": 2, "note": "yesterday"}'])
    drained(one, tmp_path, day_from="note")
    assert [label for label, _ in spans(tmp_path)] == ["2025-03-11"]
    assert [letter["reason"] for letter in dead(tmp_path)] == ["no date: note is 'yesterday', no ISO 8601 date or time"]


def test_aborted_messages_never_appear_and_leave_no_hole(one: Topic, tmp_path: Path) -> None:
    producer = Producer({"bootstrap.servers": BOOTSTRAP, "transactional.id": one.name})
    producer.init_transactions(30)
    for number, keep in enumerate([True, False, True, False]):
        producer.begin_transaction()
        for value in things(number * 10, 10):
            producer.produce(one.name, value, partition=0, timestamp=FIRST_MS)
        producer.flush(30)
        if keep:
            producer.commit_transaction(30)
        else:
            producer.abort_transaction(30)
    drained(one, tmp_path, batch_messages=15)
    assert sorted(row.fields["id"] for row in rows(tmp_path)) == [*range(10), *range(20, 30)]
    assert chains(tmp_path, one.name)[0].holes == ()
    assert drained(one, tmp_path).landed == 0
    end = committed(one)
    assert end == 44, "the marks that end transactions are behind us, too"
    one.delete_before(0, end)
    assert drained(one, tmp_path).lost == 0


def test_a_topic_that_ends_in_aborted_transactions_is_committed_to_its_end(one: Topic, tmp_path: Path) -> None:
    """Else their retention would look like a loss, although no message was in them."""

    def aborted(times: int) -> None:
        for number in range(times):
            producer.begin_transaction()
            producer.produce(one.name, things(number, 1)[0], partition=0, timestamp=FIRST_MS)
            producer.flush(30)
            producer.abort_transaction(30)

    producer = Producer({"bootstrap.servers": BOOTSTRAP, "transactional.id": one.name})
    producer.init_transactions(30)
    aborted(2)
    assert drained(one, tmp_path).landed == 0
    assert committed(one) == 4
    one.send(things(0, 5))
    drained(one, tmp_path, batch_messages=5)
    for _ in range(3):
        aborted(1)
        assert drained(one, tmp_path).landed == 0
    assert committed(one) == 15
    one.delete_before(0, 15)
    assert drained(one, tmp_path).lost == 0
    assert chains(tmp_path, one.name)[0] == Chain(0, 14)
    found = (tmp_path / "dead_letters" / "things").glob("nothing_*")
    records = sorted(landed.parse(path.name).span[2:] for path in found)  # type: ignore[union-attr]
    assert records == [(0, 3), (9, 14)], "neighbours are one record"


def test_dropped_tombstones_are_counted_and_committed(one: Topic, tmp_path: Path) -> None:
    one.send([things(0, 1)[0], None, b"null", *things(1, 1), None])
    first = drained(one, tmp_path, tombstones="drop")
    assert (first.landed, first.dead, first.dropped) == (2, 0, 3)
    assert (committed(one), first.metadata()["dropped tombstones"]) == (5, 3)
    one.send([None, None])
    again = drained(one, tmp_path, tombstones="drop")
    assert (again.landed, again.dropped, committed(one)) == (0, 2, 7)
    assert chains(tmp_path, one.name)[0] == Chain(0, 6)


def test_the_decoder_of_the_source_is_the_one_that_lands(one: Topic, tmp_path: Path) -> None:
    one.send([b"\0\0\0\0\x2a" + value for value in things(0, 3)])
    assert drained(one, tmp_path, decoder="json-schema").landed == 3
    assert [row.fields["id"] for row in rows(tmp_path)] == [0, 1, 2]


def test_gaps_that_compaction_left_are_no_holes(tmp_path: Path) -> None:
    compacted = {"cleanup.policy": "compact", "segment.bytes": "1048576", "min.cleanable.dirty.ratio": "0.001"}
    with topic(**compacted, **{"max.compaction.lag.ms": "100", "min.compaction.lag.ms": "0"}) as made:
        for first in range(0, 4000, 1000):
            made.send([value.replace(b'"n', b'"' + b"x" * 400) for value in things(first, 1000)], key=b"the same key")
        made.send(things(5000, 1), key=b"another")
        deadline = time.monotonic() + steady.PATIENCE_SECONDS
        while _count(made) > 3000:  # The broker compacts when it likes.
            assert time.monotonic() < deadline
            made.send(things(6000, 500), key=b"the same key")
            time.sleep(0.5)
        tally = drained(made, tmp_path, batch_messages=300)
        chain = chains(tmp_path, made.name)[0]
        assert tally.landed < chain.last + 1 - chain.first
        assert chain.holes == ()
        assert offsets.problems({0: chain}, {0: committed(made)}) == []


def _count(made: Topic) -> int:
    """How many messages can be consumed."""
    settings = {"bootstrap.servers": made.bootstrap, "group.id": "counts", "enable.partition.eof": True}
    consumer = Consumer(settings)
    consumer.assign([TopicPartition(made.name, 0, 0)])
    count = 0
    try:
        while True:
            for message in consumer.consume(1000, 1):
                if message.error():
                    return count
                count += 1
    finally:
        consumer.close()


def test_partitions_that_are_added_are_landed_too(one: Topic, tmp_path: Path) -> None:
    one.send(things(0, 10))
    drained(one, tmp_path)
    one.partitions(3)
    for partition in range(3):
        one.send(things(100 * partition, 10), partition)
    drained(one, tmp_path)
    assert coordinates(tmp_path) == {(p, o): 1 for p, last in ((0, 20), (1, 10), (2, 10)) for o in range(last)}


def test_poison_goes_to_the_dead_letters_and_the_offsets_go_on(one: Topic, tmp_path: Path) -> None:
    poison = [
        (None, "tombstone"),
        (b"", "not JSON"),
        (b'{"id": 1', "not JSON"),
        (b'{"id": 1, "note": "\xff"}', "not JSON in UTF-8"),
        (b"[1]", "no object"),
        (b'{"note": "no id"}', "missing 'id'"),
        (b'{"id": 1, "other": 2}', "not expected 'other'"),
        (b'{"id": 1, "kafka_offset": 2}', "not expected 'kafka_offset'"),
        (b'{"id": 1, "note": "' + b"x" * 2000 + b'"}', "oversized"),
    ]
    one.send([value for bad, _ in poison for value in (things(7, 1)[0], bad)], key=b"\xfe", headers=[("h", b"\xfd")])
    one.send(things(7, 2), timestamps=[FIRST_MS - 400 * DAY_MS, FIRST_MS + 4000 * DAY_MS])
    tally = drained(one, tmp_path, max_line_bytes=1000)
    letters = dead(tmp_path)
    assert (tally.landed, tally.dead) == (len(poison), len(poison) + 2)
    assert [letter["value"] for letter in letters[: len(poison)]] == [bad for bad, _ in poison]
    for letter, (_, reason) in zip(letters, poison, strict=False):
        assert reason in letter["reason"]
        assert (letter["kafka_key_base64"], letter["kafka_headers_base64"]) == ("/g==", [["h", "/Q=="]])
    assert "lies outside 2025-01-01 to" in letters[-1]["reason"]
    assert [letter["kafka_offset"] for letter in letters] == [*range(1, 18, 2), 18, 19]
    assert chains(tmp_path, one.name)[0].holes == ()
    assert committed(one) == 20
    assert drained(one, tmp_path).dead == 0


def test_what_a_message_says_is_landed_literally(one: Topic, tmp_path: Path) -> None:
    text = b' {\n "id" : 12345678901234567890.10 ,\r\n"note":"\xc3\xa9\\u0000\\n"\n}\n'
    one.send([text, b'{"id":1e400}'])
    drained(one, tmp_path)
    lines = next((tmp_path / "incoming" / "things").glob("*.jsonl")).read_bytes().split(b"\n")
    assert lines[0].endswith(b'"id" : 12345678901234567890.10 ,\r "note":"\xc3\xa9\\u0000\\n" }')
    assert len(rows(tmp_path)) + len(dead(tmp_path)) == 2


def test_offsets_that_retention_took_before_they_landed_are_on_record_and_keep_the_check_red(
    one: Topic, tmp_path: Path
) -> None:
    one.send(things(0, 100))
    drained(one, tmp_path)
    one.send(things(100, 100))
    one.delete_before(0, 150)
    said: list[str] = []
    tally = drained(one, tmp_path, Watch(warn=said.append))
    assert (tally.landed, tally.lost) == (50, 50)
    assert "LOST: offsets 100 to 149" in said[0]
    chain = chains(tmp_path, one.name)
    assert chain[0].lost == (Span(one.name, 0, 100, 149),)
    assert offsets.problems(chain, {0: 200}) == [
        "partition 0: offsets 100 to 149 were gone before they could be landed"
    ]
    assert drained(one, tmp_path).lost == 0
    record = next((tmp_path / "dead_letters" / "things").glob("lost_*"))
    record.rename(record.with_name(record.name.replace("lost_", "acknowledged_")))
    assert offsets.problems(chains(tmp_path, one.name), {0: 200}) == []
    assert drained(one, tmp_path).lost == 0


def test_offsets_that_go_while_they_are_being_consumed_are_noticed(one: Topic, tmp_path: Path) -> None:
    one.send(things(0, 4000))
    big = [b'{"id": %d, "note": "%s"}' % (number, b"x" * 10_000) for number in range(4000, 8000)]
    one.send(big)

    def delete(tally: LandingTally) -> None:
        if tally.batches == 1:
            one.delete_before(0, 7900)
            time.sleep(0.5)

    tally = drained(one, tmp_path, Watch(tell=delete), batch_messages=500, batch_bytes=200_000)
    chain = chains(tmp_path, one.name)[0]
    assert tally.lost > 0
    assert tally.landed + tally.lost == 8000
    assert (chain.holes, chain.last) == ((), 7999)
    assert set(coordinates(tmp_path).values()) == {1}


def test_retention_is_noticed_even_where_the_broker_forgot_the_group(one: Topic, tmp_path: Path) -> None:
    one.send(things(0, 100))
    drained(one, tmp_path)
    one.send(things(100, 100))
    one.delete_before(0, 150)
    assert drained(one, tmp_path, group="knows nothing").lost == 50


def test_a_topic_that_was_made_again_is_refused(tmp_path: Path) -> None:
    with topic() as made:
        made.send(things(0, 100))
        drained(made, tmp_path)
        made.delete()
        create(made, 1)
        made.send(things(500, 10))
        with pytest.raises(BrokerRefused, match="ends at offset 10, but 100 was reached before"):
            drained(made, tmp_path)
    assert len(rows(tmp_path)) == 100


def test_an_unknown_topic_and_an_absent_broker_are_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(BrokerRefused, match=r"Unknown topic.*create the topic, or correct `topic` in defs.yaml"):
        land(subscription("no-such-topic"), Broker(BOOTSTRAP), configured(tmp_path), Bounds(until_end=True))
    with pytest.raises(Unreachable, match="is ETL_KAFKA_BOOTSTRAP right"):
        land(subscription("any"), Broker("localhost:1"), configured(tmp_path, 1), Bounds(until_end=True))


def test_a_wrong_option_is_one_clear_line_that_shows_no_other(tmp_path: Path) -> None:
    broker = Broker(BOOTSTRAP, {"sasl.password": "hush", "no.such.option": "1"})
    with pytest.raises(BrokerRefused, match=r"no\.such\.option") as raised:
        land(subscription("any"), broker, configured(tmp_path))
    assert "hush" not in str(raised.value) + repr(broker)


def test_bounds_by_messages_are_exact_and_the_next_landing_goes_on(one: Topic, tmp_path: Path) -> None:
    one.send(things(0, 100))
    land(subscription(one.name), one.broker, configured(tmp_path), Bounds(max_messages=37))
    assert committed(one) == 37
    land(subscription(one.name), one.broker, configured(tmp_path), Bounds(max_messages=63))
    assert [span[2:] for _, span in spans(tmp_path)] == [(0, 36), (37, 99)]


def test_a_batch_never_grows_beyond_its_bytes_by_more_than_a_few_messages(one: Topic, tmp_path: Path) -> None:
    one.send([b'{"id": %d, "note": "%s"}' % (number, b"x" * 100_000) for number in range(200)])
    drained(one, tmp_path, batch_bytes=1_000_000)
    sizes = [path.stat().st_size for path in (tmp_path / "incoming" / "things").glob("*.jsonl")]
    assert max(sizes[:-1]) < 3_000_000
    assert len(rows(tmp_path)) == 200


def test_a_rebalance_in_the_middle_of_a_batch_loses_nothing(three: Topic, tmp_path: Path) -> None:
    """The first member holds a batch it has not written when a second one joins, and takes over a part."""
    for partition in range(3):
        three.send(things(partition * 2000, 2000), partition)
    joined = threading.Event()
    tallies: list[LandingTally] = []

    def member(seconds: float) -> tuple[threading.Thread, threading.Event]:
        stop = threading.Event()
        asked = subscription(three.name, batch_seconds=seconds, batch_messages=10**6)
        watch = Watch(stop=stop.is_set, tell=lambda _: joined.set())
        settings = configured(tmp_path)
        thread = threading.Thread(target=lambda: tallies.append(land(asked, three.broker, settings, watch=watch)))
        thread.start()
        return thread, stop

    slow = member(60)
    time.sleep(2)
    quick = member(0.2)
    assert joined.wait(240)
    for partition in range(3):
        three.send(things(10_000 + partition * 2000, 2000), partition)
    time.sleep(1.5)
    for thread, stop in (slow, quick):
        stop.set()
        thread.join(240)
    tallies.append(drained(three, tmp_path))
    assert ids_by_coordinates(tmp_path).keys() == {(p, o) for p in range(3) for o in range(4000)}
    assert sum(tally.landed for tally in tallies) == 12_000, "what the first member held was dropped, not landed too"
    assert all(chain.holes == () for chain in chains(tmp_path, three.name).values())
