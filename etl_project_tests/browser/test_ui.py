"""What a person sees and does in the Dagster UI, in a real browser against a real `dagster dev`."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from etl_project import utc
from etl_project_tests import steady
from etl_project_tests.browser import pages
from etl_project_tests.deployments import Place, order_file
from etl_project_tests.e2e.test_daemon import dagster_dev, eventually

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(
        pages.chromium() is None, reason="no Chromium: apt-get install chromium, or name one in ETL_TEST_CHROMIUM"
    ),
]

LAST = steady.today() - timedelta(days=1)
FIRST = LAST - timedelta(days=6)
BACKFILLED = [FIRST + timedelta(days=n) for n in range(1, 6)]
ASSETS = ["orders_files", "raw_orders", "orders", "orders_rejects", "daily_sales", "daily_customers", "daily_report"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """The last seven days, built by a drain."""
    place = Place(tmp_path_factory.mktemp("ui") / "data")
    for day in utc.days_between(FIRST, LAST):
        place.drop(f"orders-{day}.csv", order_file(day))
    place.drained()
    return place


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("log") / "dev.log"


@pytest.fixture(scope="module")
def url(place: Place, log: Path) -> Iterator[str]:
    with dagster_dev(place, log) as server:
        yield server.url.removesuffix("/graphql")


@pytest.fixture(scope="module")
def ui(url: str) -> Iterator[pages.Pages]:
    with pages.browser_page(url) as page:
        yield page


def test_nobody_is_asked_to_sign_up(ui: pages.Pages) -> None:
    assert not ui.asks_to_sign_up()


def test_the_lineage_shows_every_asset(ui: pages.Pages) -> None:
    ui.lineage(["orders", "payments"], ASSETS)


def test_sensor_and_schedule_are_shown_as_running(ui: pages.Pages) -> None:
    ui.automation()
    ui.sees_running("pending_days")
    ui.sees_running("closed_day")


def test_a_day_shows_its_rows_its_files_and_its_chart(ui: pages.Pages, place: Place) -> None:
    ui.partition("orders", LAST)
    ui.sees_metadata("dagster/partition_row_count", "6")
    ui.sees_metadata("rows_added", "6")
    ui.sees_metadata("preview", "France")
    ui.sees_metadata("archive", str(place.data / "archive" / "orders" / str(LAST)))
    [(fingerprint,)] = place.query(
        f"select arg_max(fingerprint, sequence) from etl_commits where asset = 'orders' and partition_key = '{LAST}'"
    )
    ui.sees_metadata("fingerprint", str(fingerprint))
    ui.partition("daily_sales", LAST)
    ui.sees_metadata("computed from", "orders.quantity, orders.unit_price")
    ui.partition("daily_report", LAST)
    ui.sees_picture("chart of the day")


def test_the_numbers_of_the_days_are_plotted(ui: pages.Pages) -> None:
    ui.plots("daily_report", of="revenue")


def test_a_backfill_over_five_days_is_launched_by_clicks_and_ends_in_five_unchanged_commits(
    ui: pages.Pages, place: Place, log: Path
) -> None:
    before = eventually(place.last_commits, log)
    ui.fill_in_backfill("daily_sales", BACKFILLED[0], BACKFILLED[-1])
    ui.launch()
    rebuilt = {("daily_sales", str(day)) for day in BACKFILLED}

    def commits_that_are_new() -> set[tuple[str, str]]:
        return {key for key, (count, _, _) in place.last_commits().items() if count != before[key][0]}

    eventually(lambda: commits_that_are_new() == rebuilt, log)
    ui.ended_backfill()
    after = eventually(place.last_commits, log)
    assert {key: count - before[key][0] for key, (count, _, _) in after.items() if key in rebuilt} == dict.fromkeys(
        rebuilt, 1
    )
    assert {key: print_ for key, (_, print_, _) in after.items()} == {key: p for key, (_, p, _) in before.items()}
    assert eventually(commits_that_are_new, log) == rebuilt
