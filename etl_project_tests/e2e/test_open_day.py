"""Today, end to end: files that keep coming rebuild it once an interval."""

from __future__ import annotations

from pathlib import Path

import pytest

from etl_project_tests import steady
from etl_project_tests.deployments import Place, order_file

pytestmark = pytest.mark.long  # Each test starts the command several times.


def test_two_files_for_today_within_the_interval_are_one_rebuild_and_the_next_interval_brings_one_more(
    tmp_path: Path,
) -> None:
    place = Place(tmp_path / "data")
    today = steady.today()

    def builds_after_drain(interval_seconds: int) -> set[int]:
        """How often each table of today was committed."""
        place.drained(ETL_OPEN_DAY_INTERVAL_SECONDS=str(interval_seconds))
        return {n for (_, key), (n, _, _) in place.last_commits().items() if key == str(today)}

    place.drop(f"a-{today}.csv", order_file(today))
    assert builds_after_drain(3600) == {1}
    place.drop(f"b-{today}.csv", order_file(today, invoices=5))
    place.drop(f"c-{today}.csv", order_file(today, invoices=7))
    assert builds_after_drain(3600) == {1}
    assert sorted(path.name for path in place.incoming.glob("*.csv")) == [f"b-{today}.csv", f"c-{today}.csv"]
    assert builds_after_drain(0) == {2}
    assert builds_after_drain(0) == {2}, "nothing new: nothing to rebuild, however short the interval"
    assert place.query("select count(*) from orders") == [(2 * (3 + 5 + 7),)]
    assert list(place.incoming.glob("*.csv")) == []
