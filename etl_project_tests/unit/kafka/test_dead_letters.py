"""Dead letters become rows once what kept them from it is mended: each once, whatever happens on the way."""

from __future__ import annotations

import json
import os
import signal
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from etl_project import settings
from etl_project.cli import main
from etl_project.kafka import batch, dead_letters, offsets
from etl_project.kafka import format as landed
from etl_project.kafka.batch import PartitionBatch
from etl_project.kafka.dead_letters import NoSuchLetters, Replayed
from etl_project.kafka.decode import MessageReader
from etl_project.kafka.offsets import Chain
from etl_project_tests.contracts import world
from etl_project_tests.kafka_broker import DAY_MS, FIRST_MS, configured, subscription

EVENT = b'{"op":"c","before":null,"after":{"id":%d,"note":"x"}}'
GOOD = b'{"id":%d,"note":"x"}'
LATER = date(2025, 4, 1)


def landing(folder: Path, first: int = 5) -> settings.Settings:
    """A batch whose first and last messages are dead, with a good one between them: 5, 6 (good), 7 (never good), 8."""
    place = configured(folder)
    one = PartitionBatch("t", 0, first, MessageReader(subscription("t"), lambda: LATER), 10_000)
    for at, value in enumerate((EVENT % 5, GOOD % 6, b"never", EVENT % 8)):
        day = FIRST_MS + DAY_MS * (at == 3)
        one.add(first + at, day, b"\xff", [("h", None), ("h", b"\xfe")], value)
    batch.write(one.files(place.incoming / "things", place.dead_letters / "things"))
    return place


def replayed(place: settings.Settings, **changes: Any) -> Replayed:
    return dead_letters.replay(subscription("t", **changes), place)


def found(place: settings.Settings) -> dict[str, list[int]]:
    """Offsets by file, of rows and letters."""
    files = sorted(path for path in place.data_dir.rglob("*.jsonl") if path.is_file())
    return {
        path.name.replace(f"{5:020d}-{8:020d}", "5-8"): [json.loads(line)["kafka_offset"] for line in path.open()]
        for path in files
    }


MENDED = {
    "2025-03-10_t_0_5-8.jsonl": [6],
    "2025-03-10_t_0_5-8_replayed.jsonl": [5],
    "2025-03-11_t_0_5-8_replayed.jsonl": [8],
    "replayed_t_0_5-8.jsonl": [5, 8],
    "undated_t_0_5-8.jsonl": [7],
}


def test_what_is_good_by_now_becomes_rows_beside_those_of_its_batch(tmp_path: Path) -> None:
    place = landing(tmp_path)
    done = replayed(place, envelope="debezium")
    assert (done.rows, done.files, done.dead.total()) == (2, 2, 1)
    assert found(place) == MENDED
    (row,) = (place.incoming / "things").glob("2025-03-11*replayed.jsonl")
    assert json.loads(row.read_text()) == {
        "kafka_topic": "t",
        "kafka_partition": 0,
        "kafka_offset": 8,
        "kafka_timestamp": "2025-03-11T00:00:00.000Z",
        "kafka_key": "base64:/w==",
        "kafka_headers": '[["h",null],["h","base64:/g=="]]',
        "id": 8,
        "note": "x",
    }


def test_a_second_replay_changes_nothing_and_a_later_one_keeps_the_rows_of_the_first(tmp_path: Path) -> None:
    place = landing(tmp_path)
    replayed(place, envelope="debezium")
    before = {path: path.stat().st_mtime_ns for path in place.data_dir.rglob("*.jsonl")}
    again = replayed(place, envelope="debezium")
    assert (again.rows, again.files, again.dead.total()) == (0, 0, 1)
    assert {path: path.stat().st_mtime_ns for path in place.data_dir.rglob("*.jsonl")} == before
    (undated,) = dead_letters.files(place.dead_letters / "things")
    letter = json.loads(undated.path.read_text())
    (undated.path).write_text(
        json.dumps({**letter, "kafka_value_base64": "eyJvcCI6ImMiLCJhZnRlciI6eyJpZCI6N319"}) + "\n"
    )
    assert replayed(place, envelope="debezium").rows == 1
    assert found(place) == {
        "2025-03-10_t_0_5-8.jsonl": [6],
        "2025-03-10_t_0_5-8_replayed.jsonl": [5, 7],
        "2025-03-11_t_0_5-8_replayed.jsonl": [8],
        "replayed_t_0_5-8.jsonl": [5, 7, 8],
    }


def test_the_offsets_stay_covered_also_once_no_letter_is_left(tmp_path: Path) -> None:
    place = landing(tmp_path)
    assert offsets.chains(offsets.found(place, "things"), "t") == {0: Chain(5, 8)}
    replayed(place, envelope="debezium")
    for path in [*place.incoming.rglob("*.jsonl"), *place.dead_letters.rglob("undated*")]:
        path.unlink()
    assert offsets.chains(offsets.found(place, "things"), "t") == {0: Chain(5, 8)}


def test_nothing_is_written_where_nothing_was_mended(tmp_path: Path) -> None:
    place = landing(tmp_path)
    before = found(place)
    done = replayed(place)
    assert (done.rows, done.dead.total(), found(place)) == (0, 3, before)


def test_a_message_whose_headers_cannot_be_read_stays_dead(tmp_path: Path) -> None:
    place = configured(tmp_path)
    one = PartitionBatch("t", 0, 0, MessageReader(subscription("t"), lambda: LATER), 10_000)
    one.add(0, FIRST_MS, None, None, GOOD % 1)
    batch.write(one.files(place.incoming / "things", place.dead_letters / "things"))
    assert replayed(place).dead == {batch.UNREADABLE_HEADERS: 1}


def test_a_tombstone_that_is_to_be_dropped_by_now_is_counted(tmp_path: Path) -> None:
    place = configured(tmp_path)
    one = PartitionBatch("t", 0, 0, MessageReader(subscription("t"), lambda: LATER), 10_000)
    one.add(0, FIRST_MS, b"k", (), None)
    batch.write(one.files(place.incoming / "things", place.dead_letters / "things"))
    done = replayed(place, tombstones="drop")
    assert (done.rows, done.dropped, done.files) == (0, 1, 0)
    assert dead_letters.files(place.dead_letters / "things") == []


def test_a_name_that_is_none_is_refused(tmp_path: Path) -> None:
    place = landing(tmp_path)
    (one,) = dead_letters.files(place.dead_letters / "things")
    assert dead_letters.named(place.dead_letters / "things", one.path.name) == one
    with pytest.raises(NoSuchLetters, match="dead-letters list"):
        dead_letters.named(place.dead_letters / "things", "../x.jsonl")


def killed_replay(folder: Path, step: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ETL_FAULT", f"{step}=kill")
        replayed(configured(folder), envelope="debezium")
    os._exit(0)


@pytest.mark.parametrize(
    "step", ["kafka.between_renames", "kafka.after_rename", "kafka.replay.rows", "kafka.replay.settled"]
)
def test_a_kill_at_any_step_ends_in_the_same_files_after_the_next_replay(tmp_path: Path, step: str) -> None:
    place = landing(tmp_path)
    assert world.finish(killed_replay, tmp_path, step) == -signal.SIGKILL
    replayed(place, envelope="debezium")
    assert found(place) == MENDED
    assert offsets.chains(offsets.found(place, "things"), "t") == {0: Chain(5, 8)}


def test_row_files_of_a_replay_are_files_of_the_source_and_no_range_of_offsets() -> None:
    name = landed.replayed_rows_name(date(2025, 3, 10), landed.Span("t", 0, 5, 8))
    assert landed.parse(name) is None
    assert name.startswith("2025-03-10_") and name.endswith("_replayed.jsonl")


PAYMENT = {
    "payment_id": "P1",
    "invoice_no": "1",
    "amount": "1.25",
    "currency": "GBP",
    "paid_at": "2025-03-10T12:00:00Z",
    "method": "card",
}


def test_the_commands_list_show_and_replay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ETL_DATA_DIR", str(tmp_path))
    folder, run = tmp_path / "dead_letters" / "payments", CliRunner().invoke
    command = main.load("dead-letters")
    assert "There are no dead letters" in run(command, ["list"]).output
    folder.mkdir(parents=True)
    span = landed.Span("payments", 0, 4, 5)
    mended, never = (
        landed.dead_letter(span._replace(first=at, last=at), FIRST_MS, b"k", (), value, "too early")
        for at, value in ((4, json.dumps(PAYMENT).encode()), (5, b"never"))
    )
    name = landed.dead_letters_name(span)
    (folder / name).write_bytes(mended + never)
    lost = landed.lost_name(span._replace(first=0, last=3))
    (folder / lost).write_text("{}")
    assert json.loads(run(command, ["list", "--json"]).output) == [
        {"source": "payments", "file": name, "messages": 2, "reasons": {"too early": 2}},
        {"source": "payments", "file": lost, "messages": 4, "reasons": {"offsets gone before they could be landed": 4}},
    ]
    assert "too early" in run(command, ["list"]).output
    shown = [json.loads(line) for line in run(command, ["show", "payments"]).output.splitlines()]
    assert [(one["offset"], one["key"], one["reason"]) for one in shown] == [
        (4, "k", "too early"),
        (5, "k", "too early"),
    ]
    done = run(command, ["replay", "payments", name])
    assert done.exit_code == 1 and "1 messages are rows now" in done.output and "not JSON" in done.output
    waiting = [path.name for path in (tmp_path / "incoming" / "payments").iterdir() if path.is_file()]
    assert waiting == [landed.replayed_rows_name(date(2025, 3, 10), span)]
    assert run(command, ["replay", "payments", "no such"]).exit_code != 0
