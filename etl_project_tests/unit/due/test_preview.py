"""What a preview says is what a drain does then: now, after that, why, and not."""

# No `from __future__ import annotations` here: Dagster reads the annotation of `context` as it stands.

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import pytest

from etl_project import utc
from etl_project.due import preview as previewing
from etl_project.due.drain import Drained, Wish
from etl_project.due.pending import Cause
from etl_project.due.preview import Preview, Step, after_rebuild
from etl_project.due.rebuild import Span, outdated, runs_of
from etl_project.due.snapshot import NoSuchAsset, look
from etl_project_tests.unit.due.test_any_asset import DAYS, MARCH, WEEKS, World, balance, copy, world

AT_ONCE = dg.BackfillPolicy.single_run()


def preview(found: World, **wish: Any) -> Preview:
    return previewing.preview(found.deployment, look(found.deployment.project, utc.now()), Wish(**wish))


def pairs(steps: Iterable[Step]) -> set[tuple[str, str]]:
    return {(step.asset, str(key)) for step in steps for key in step.keys}


def built(done: Drained) -> set[tuple[str, str]]:
    return {(asset, str(key)) for one in done.succeeded for asset in one.assets for key in one.keys}


def moves_of(made: dict[str, World]) -> dg.AssetsDefinition:
    """As `amounts_of`, many days in one run."""

    @dg.asset(name="moves", partitions_def=DAYS, backfill_policy=AT_ONCE)
    def body(context: dg.AssetExecutionContext) -> pd.DataFrame:
        days = context.partition_keys
        amounts = [made["world"].amounts.get(day, 1) for day in days]
        return pd.DataFrame({"batch_date": [pd.Timestamp(day).date() for day in days], "amount": amounts})

    return body


def sent(found: World) -> None:
    """The first week of March comes in."""
    found.build("moves", "", **{utc.RANGE_START_TAG: MARCH[1], utc.RANGE_END_TAG: MARCH[7]})


def weekly(name: str, reads: str) -> dg.AssetsDefinition:
    @dg.asset(name=name, partitions_def=WEEKS, ins={"rows": dg.AssetIn(reads)})
    def body(context: dg.AssetExecutionContext, rows: pd.DataFrame) -> pd.DataFrame:
        day = pd.Timestamp(context.partition_key).date()
        return pd.DataFrame({"batch_date": [day], "amount": [int(rows["amount"].sum())]})

    return body


@pytest.mark.long
def test_what_is_now_and_after_is_what_a_drain_builds_down_to_the_last_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: dict[str, World] = {}
    week = copy("week", WEEKS)
    assets = [moves_of(made), copy("report", backfill_policy=AT_ONCE), week, weekly("letter", "report"), balance()]
    with world(tmp_path, monkeypatch, assets) as found:
        made["world"] = found
        assert preview(found).runs == [] and pairs(preview(found).now) == set()
        sent(found)
        first = preview(found)
        assert ("letter", "2025-03-02") in pairs(first.after) and ("week", "2025-03-02") in pairs(first.now)
        assert len([key for asset, key in pairs(first.after) if asset == "balance"]) == 6, "day after day"
        assert pairs(first.now).isdisjoint(pairs(first.after))
        assert pairs(first.now) | pairs(first.after) == built(found.drain())
        assert {step.cause for step in first.now} == {Cause("first")}

        found.amounts[MARCH[3]] = 10
        found.build("moves", MARCH[3])
        corrected = preview(found)
        [letter] = corrected.after
        assert (letter.asset, letter.cause, letter.committed, letter.rows) == (
            "letter",
            Cause("follows", ("report",)),
            1,
            1,
        )
        assert {step.cause for step in corrected.now} == {Cause("changed", ("moves",))}
        assert pairs(corrected.now) | pairs(corrected.after) == built(found.drain())
        assert preview(found).runs == [], "a look twice is the same look"
        through = preview(found, through=("balance",))
        assert pairs(through.now) | pairs(through.after) == built(found.drain(through=("balance",)))


def test_what_failed_for_good_and_all_that_is_made_of_it_are_not_promised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: dict[str, World] = {}

    @dg.asset(name="report", partitions_def=DAYS, backfill_policy=AT_ONCE)
    def report(moves: pd.DataFrame) -> pd.DataFrame:
        """On one day its rows are of another one, which no rerun changes."""
        return moves.replace({"batch_date": {pd.Timestamp(MARCH[3]).date(): pd.Timestamp(MARCH[20]).date()}})

    with world(tmp_path, monkeypatch, [moves_of(made), report, weekly("letter", "report")]) as found:
        made["world"] = found
        sent(found)
        assert pairs(preview(found).after) == {("letter", "2025-03-02")}
        found.drain()
        left = preview(found)
        assert [(str(one.first), one.assets) for one in left.given_up] == [(MARCH[3], ("report",))]
        assert (left.runs, pairs(left.now), pairs(left.after)) == ([], set(), set())
        assert preview(found, for_good_too=True).given_up == []


def test_what_a_red_blocking_check_holds_is_named_and_not_promised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: dict[str, World] = {}

    @dg.asset_check(asset=dg.AssetKey("moves"), blocking=True)
    def positive() -> dg.AssetCheckResult:
        return dg.AssetCheckResult(passed=False, description="negative")

    with world(
        tmp_path,
        monkeypatch,
        [moves_of(made), copy("report", backfill_policy=AT_ONCE), weekly("letter", "report")],
        [positive],
    ) as found:
        made["world"] = found
        sent(found)
        held = preview(found)
        assert (held.runs, held.now, held.after) == ([], [], [])
        assert any("report" in line and "negative" in line for line in held.waits), held.waits


def test_what_changed_code_touches_is_counted_with_what_follows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: dict[str, World] = {}
    after = [weekly("letter", "report")]
    with world(
        tmp_path, monkeypatch, [moves_of(made), copy("report", code_version="1", backfill_policy=AT_ONCE), *after]
    ) as found:
        made["world"] = found
        sent(found)
        found.drain()
    with world(
        tmp_path, monkeypatch, [moves_of(made), copy("report", code_version="2", backfill_policy=AT_ONCE), *after]
    ) as found:
        made["world"] = found
        project, snapshot = found.deployment.project, look(found.deployment.project, utc.now())
        assert preview(found).runs == [], "new code alone asks for nothing"
        old = outdated(project, snapshot, [], Span())
        assert {(one.asset, str(one.key), one.made_by, one.now) for one in old} == {
            ("report", day, "1", "2") for day in MARCH[1:8]
        }
        follows = after_rebuild(found.deployment, snapshot, runs_of(project, snapshot, old))
        assert pairs(follows) == {("letter", "2025-03-02")}


def test_an_unknown_asset_is_refused_with_those_there_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: dict[str, World] = {}
    with world(tmp_path, monkeypatch, [moves_of(made)]) as found, pytest.raises(NoSuchAsset, match="there are moves"):
        preview(found, select=("move",))
