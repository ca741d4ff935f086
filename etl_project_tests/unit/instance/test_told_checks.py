"""Results of checks that no run has made can be told again, wherever Dagster's history is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from etl_project.instance import told_checks
from etl_project_tests import postgres

KEY, DAY, OTHER = dg.AssetKey("orders"), "2025-03-03", "2025-03-04"


@pytest.fixture(params=["files", pytest.param("server", marks=[postgres.needed, pytest.mark.servers])])
def instance(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    overrides = {}
    if request.param == "server":
        pytest.importorskip("dagster_postgres")
        overrides = {"storage": {"postgres": {"postgres_url": postgres.plain_url_of(tmp_path)}}}
    with dg.instance_for_test(temp_dir=str(tmp_path), overrides=overrides) as opened:
        yield opened


def told(instance: dg.DagsterInstance, passed: bool, partition: str | None) -> None:
    event = dg.AssetCheckEvaluation(asset_key=KEY, check_name="complete", passed=passed, partition=partition)
    told_checks.make_room(instance, [event])
    instance.report_runless_asset_event(event)


def results(instance: dg.DagsterInstance) -> dict[str | None, bool]:
    key = dg.AssetCheckKey(KEY, "complete")
    found = instance.event_log_storage.get_asset_check_execution_history(key, limit=10)
    assert all(one.event is not None for one in found)
    assert len({one.partition for one in found}) == len(found), "one result a partition"
    return {one.partition: one.status.value == "SUCCEEDED" for one in found}


def test_a_result_that_is_told_again_takes_the_place_of_the_one_before_and_of_no_other(
    instance: dg.DagsterInstance,
) -> None:
    for partition in (DAY, OTHER, None):
        told(instance, False, partition)
    told(instance, True, DAY)
    told(instance, True, None)
    assert results(instance) == {DAY: True, OTHER: False, None: True}
