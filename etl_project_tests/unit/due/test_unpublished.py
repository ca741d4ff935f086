"""Rows that wait as a candidate: nothing is built of their day, and a person is told."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from etl_project import utc
from etl_project.cli import maintain as maintain_command
from etl_project.cli import show as show_command
from etl_project.cli.diff import compared, of_candidate
from etl_project.cli.main import load
from etl_project.due import DAYS_JOB, Due, Node, Wish, ahead, execute, look, unpublished
from etl_project.due.drain import Drained
from etl_project.due.pending import Settings, outlook
from etl_project.due.rebuild import Span, plan, rebuild
from etl_project.proofs import chosen, stored_assets
from etl_project.proofs.prove.rebuild import without_checks
from etl_project.storage import ALLOW_UNCHECKED_TAG, Candidate, Commit, Head, input_hash
from etl_project.watch.status import status
from etl_project_tests.projects import SourceProject, source_project

CONTRACT = "CREATE TABLE sales (batch_date DATE NOT NULL, id BIGINT, country VARCHAR);"
DEFS: dict[str, Any] = {
    "name": "sales",
    "patterns": ["{date}.csv"],
    "columns": {"id": "id", "country": "country"},
    "publish": "after_checks",
    "max_removed_ratio": None,
    "checks": [{"check": "not_null", "columns": ["country"], "blocking": True}],
}
DAY = date(2025, 3, 1)
KEY = DAY.isoformat()


def delivered(project: SourceProject, text: str) -> Drained:
    project.drop(f"{KEY}.csv", f"id,country\n{text}")
    return project.drain()


def test_a_file_that_fails_its_check_leaves_the_day_to_readers_until_a_better_one_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with source_project(tmp_path, DEFS, CONTRACT, monkeypatch) as project:
        first = delivered(project, "1,DE\n")
        assert first.all_well, first.failed and vars(first)
        assert not delivered(project, "1,\n2,FR\n").all_well
        assert project.query("select id, country from sales") == [(1, "DE")], "readers keep the good day"
        deployment = project.deployment
        snapshot = look(deployment.project, utc.now())
        [(key, waits)] = snapshot.unpublished.items()
        assert key == ("sales", DAY) and "not_null_country" in waits.reason and waits.record.rows == 2
        [told] = status(deployment.project, deployment.instance, snapshot).unpublished
        assert told.startswith("sales 2025-03-01: 2 rows of run") and "not_null_country" in told
        assert project.drain().runs == 0, "it is asked for once"

        [target] = chosen(stored_assets(project.definitions), ["sales"])
        [found] = compared(target, [KEY], of_candidate)
        assert (found.rows_before, found.rows_after) == (1, 2)

        @contextmanager
        def opened() -> Iterator[Any]:
            yield SimpleNamespace(definitions=project.definitions)

        monkeypatch.setattr(show_command, "opened", opened)
        load("show").main(["sales", "--day", KEY, "--candidate", "--csv"], standalone_mode=False)
        assert sorted(capsys.readouterr().out.splitlines()) == [
            "2025-03-01,1,",
            "2025-03-01,2,FR",
            "batch_date,id,country",
        ]

        def maintained(publishes: bool) -> str:
            loaded = deployment.project
            nodes = [replace(node, published_after_checks=publishes) for node in loaded.nodes]
            asked = SimpleNamespace(nodes=nodes, lake=loaded.lake, settings=loaded.settings)
            monkeypatch.setattr(maintain_command, "opened", lambda **_: nullcontext(SimpleNamespace(project=asked)))
            load("maintain").main(["--candidates", "--dry-run"], standalone_mode=False)
            return capsys.readouterr().out

        assert maintained(True).startswith("0 candidates that wait for nothing would be removed")
        assert "1 candidates that wait for nothing would be removed: sales 2025-03-01" in maintained(False)

        assert delivered(project, "1,IT\n2,FR\n").all_well
        assert project.query("select count(*) from sales") == [(2,)]
        assert look(deployment.project, utc.now()).unpublished == {}


def test_rows_that_are_right_all_the_same_are_published_and_can_be_built_aside_whatever_their_checks_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with source_project(tmp_path, DEFS, CONTRACT, monkeypatch) as project:
        delivered(project, "1,DE\n")
        assert not delivered(project, "1,\n2,FR\n").all_well
        deployment, allowed = project.deployment, {ALLOW_UNCHECKED_TAG: "true"}
        aside = replace(deployment, jobs={DAYS_JOB: without_checks(project.definitions, ["sales"])})
        built = execute(aside, Due(DAY, DAY, (), "prove"), allowed)
        assert (built.complaints, built.red_checks, built.passed_checks) == ((), (), ())

        assert not delivered(project, "1,\n2,FR\n3,IT\n").all_well
        snapshot = look(deployment.project, utc.now())
        assert [*snapshot.unpublished] == [("sales", DAY)]
        for _ in range(2):
            planned = plan(
                deployment.project, snapshot, ahead(deployment, snapshot, Wish()), ("sales",), Span(DAY, DAY)
            )
            done = rebuild(deployment, planned.runs, lambda *_: None, allow_unchecked=True)
            assert [one.name for one in done.red.values()] == ["not_null_country"], (
                "it is published, and said to be red"
            )
            assert project.query("select count(*) from sales") == [(3,)]
            snapshot = look(deployment.project, utc.now())
            assert snapshot.unpublished == {}


NOW = datetime(2025, 3, 5, tzinfo=UTC)
ORDERS = Node("orders", upstream=("raw",), blocking=("positive",), published_after_checks=True)
GRAPH = [Node("raw"), ORDERS, Node("report", upstream=("orders",))]


def candidate(inputs: str) -> Candidate:
    record = Commit("orders", KEY, 2, "some run", "code", inputs, "f2", 1, 1, 1, 1, 0, True, NOW)
    return Candidate(record, "n is negative")


@pytest.mark.parametrize(
    ("inputs", "follows", "holds"), [("in", True, True), ("others", True, False), ("others", False, True)]
)
def test_a_candidate_of_the_committed_inputs_holds_its_day_and_one_of_withdrawn_inputs_does_not(
    inputs: str, follows: bool, holds: bool
) -> None:
    node = Node("orders", follows_inputs=follows)
    heads = {("orders", DAY): Head("in", "f1", 1, 0)}
    found = unpublished.verdicts([node], {("orders", DAY): candidate(inputs)}, heads)
    assert bool(found) == holds
    assert not holds or "newest rows are not published: 1 rows of run some run" in found["orders", DAY].said


def test_what_reads_the_day_is_held_with_the_reason() -> None:
    raw = Head("-", "r", 1, 0)
    orders = Head(input_hash([("raw", KEY, "r")]), "f1", 1, 1)
    heads = {("raw", DAY): raw, ("orders", DAY): orders}
    how = Settings(timedelta(0))
    assert [one.assets for one in outlook(GRAPH, {}, heads, NOW, how, {}).due] == [("report",)]
    red = unpublished.verdicts(GRAPH, {("orders", DAY): candidate(orders.input_hash)}, heads)
    ahead = outlook(GRAPH, {}, heads, NOW, how, red)
    assert ahead.due == []
    assert "n is negative" in ahead.held["report"][DAY].why
