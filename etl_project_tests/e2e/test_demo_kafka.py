"""The sample payments through a real broker: sent once, landed once, on the days of their timestamps."""

from __future__ import annotations

import json
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from etl_project import definitions, settings
from etl_project.demo import payments
from etl_project.demo.topic import OtherTopic, ThroughKafka
from etl_project.kafka import format as landed
from etl_project.kafka.subscription import Subscription
from etl_project_tests.kafka_broker import BOOTSTRAP, Topic, needs_broker, topic

pytestmark = needs_broker


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Subscription]:
    """The payments of the sample pipeline, from a topic of the test's own that is not there yet."""
    monkeypatch.setenv("ETL_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("ETL_SETTLE_SECONDS", "0")
    name = f"demo-{uuid.uuid4().hex[:12]}"
    [found] = definitions.subscriptions(pytest.fail)
    yield replace(found, topic=name, group=f"group-of-{name}")
    Topic(BOOTSTRAP, name).delete()


def demo(asked: Subscription, folder: Path) -> ThroughKafka:
    configured = settings.load({"ETL_DATA_DIR": str(folder), "ETL_SETTLE_SECONDS": "0"})
    return ThroughKafka(asked, Topic(BOOTSTRAP, asked.topic).broker, configured)


def rows(folder: Path) -> Counter[tuple[str, str]]:
    """Day of the file and payment of every landed row."""
    found: Counter[tuple[str, str]] = Counter()
    for path in (folder / "incoming" / "payments").glob("*.jsonl"):
        named = landed.parse(path.name)
        assert named is not None
        found.update((named.label, json.loads(line)["payment_id"]) for line in path.read_bytes().splitlines())
    return found


EVERY = Counter((str(one.sent_at.date()), json.loads(one.payload)["payment_id"]) for one in payments.messages())


def test_every_payment_is_sent_and_landed_once_however_often_the_demo_runs(asked: Subscription, tmp_path: Path) -> None:
    through = demo(asked, tmp_path / "one")
    count = len(payments.messages())
    assert f"{count - 1} payments are sent" in through.first()
    assert "1 late payment of 2025-03-13 is sent" in through.later()
    assert rows(tmp_path / "one") == EVERY
    assert through.first().startswith("0 payments are sent") and through.later().startswith("0 late payment")
    assert rows(tmp_path / "one") == EVERY
    assert f"{count} messages landed" in demo(asked, tmp_path / "another").first(), "a new data folder gets them all"
    assert rows(tmp_path / "another") == EVERY


def test_a_demo_that_was_killed_while_it_sent_goes_on_where_it_stopped(asked: Subscription, tmp_path: Path) -> None:
    through = demo(asked, tmp_path)
    through._make_topic()
    through._send(payments.messages()[:700])
    assert demo(asked, tmp_path).first().startswith(f"{len(payments.messages()) - 701} payments are sent")
    through.later()
    assert rows(tmp_path) == EVERY


def test_a_topic_with_other_messages_is_not_written_to(asked: Subscription, tmp_path: Path) -> None:
    with topic(partitions=3) as other:
        other.send([b'{"payment_id": "somebody else\'s"}'], partition=1)
        through = demo(replace(asked, topic=other.name), tmp_path)
        with pytest.raises(OtherTopic, match="another message than the demo's at partition 1, offset 0"):
            through.first()
        assert through._ends() == {0: 0, 1: 1, 2: 0}
        other.delete_before(1, 1)
        with pytest.raises(OtherTopic):
            through.first()
    demo(asked, tmp_path)._make_topic()


def test_a_topic_with_other_partitions_is_not_written_to(asked: Subscription, tmp_path: Path) -> None:
    with topic(partitions=2) as other:
        with pytest.raises(OtherTopic, match="has 2 partitions, the demo's has 3"):
            demo(replace(asked, topic=other.name), tmp_path).first()
        assert demo(asked, tmp_path).first()
