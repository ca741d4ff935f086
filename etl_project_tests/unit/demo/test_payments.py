"""The sample payments: the same messages everywhere, cut into landings as a consumer leaves them."""

from __future__ import annotations

from collections import Counter
from datetime import date
from pathlib import Path

import yaml

from etl_project.demo import landed, payments
from etl_project.kafka import format as landing_format
from etl_project.kafka.source import KafkaSource
from etl_project.sources.reading import judge
from etl_project_tests.deployments import SAMPLE, needs_sample

FOLDER = SAMPLE / "payments"


def test_the_messages_are_the_same_at_every_call_and_fill_their_partitions_without_a_gap() -> None:
    messages = payments.messages()
    assert messages == payments.messages()
    for partition in range(payments.PARTITIONS):
        offsets = [one.offset for one in messages if one.partition == partition]
        assert offsets == list(range(len(offsets))) and len(offsets) > 400
    *sent, late = messages
    assert [one.sent_at for one in sent] == sorted(one.sent_at for one in sent)
    assert late.sent_at.date() == payments.LATE < sent[-1].sent_at.date()


def test_the_landed_files_hold_every_message_and_some_of_them_twice() -> None:
    first, second = landed.first_landing(), landed.second_landing()
    assert (first, second) == (landed.first_landing(), landed.second_landing())
    names = [file.name for file in (*first, *second)]
    assert len(names) == len(set(names))
    rows: Counter[bytes] = Counter()
    for file in (*first, *second):
        rows.update(file.content.splitlines())
        named = landing_format.parse(file.name)
        assert named is not None
        assert file.content.count(b"\n") == named.span.last - named.span.first + 1
    assert len(rows) == len(payments.messages())
    assert set(rows.values()) == {1, 2}


@needs_sample
def test_every_landed_row_is_accepted_by_the_source_of_the_payments(tmp_path: Path) -> None:
    attributes = yaml.safe_load((FOLDER / "defs.yaml").read_text())["attributes"]
    spec = KafkaSource.resolve_from_dict(attributes).spec(FOLDER)
    for file in (*landed.first_landing()[:3], *landed.second_landing()):
        named = landing_format.parse(file.name)
        assert named is not None
        path = tmp_path / file.name
        path.write_bytes(file.content)
        from_name = date.fromisoformat(named.label)
        batches = list(judge.read(path, spec, file.name, from_name))
        assert sum(batch.rows.num_rows for batch in batches) == file.content.count(b"\n")
        assert not any(batch.rejects.num_rows for batch in batches)
