"""The README's pictures: `python -m etl_project_tests.browser.screenshots docs/pictures`, called by `make screenshots`.

Runs the demo in a scratch folder, opens its `dagster dev` in a browser and goes through the pages that the browser test
goes through. The demo leaves a day red on purpose (a file with a wrong header); here the shop sends that file again as
it should have been, so that the pictures show a project as it looks on most days.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from etl_project.demo import sample
from etl_project_tests import steady
from etl_project_tests.browser.pages import HEIGHT, WIDTH, Pages, browser_page
from etl_project_tests.deployments import Place
from etl_project_tests.e2e.test_daemon import dagster_dev

ASSETS = ["raw_orders", "orders", "daily_sales", "daily_report", "raw_payments", "payments", "invoice_payments"]
SETTLED_MS = 8000
"""Time for colours, icons and transitions, each asked for on its own, once everything that matters is on the page."""


def main(folder: Path) -> None:
    """Write all pictures into the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    moved = steady.today() - sample.LAST  # As the demo has it: today is its last day.
    with tempfile.TemporaryDirectory(prefix="etl-pictures-") as scratch:
        place = Place(Path(scratch) / "data")
        demo(place, moved)
        with (
            dagster_dev(place, Path(scratch) / "dev.log") as server,
            browser_page(server.url.removesuffix("/graphql")) as ui,
        ):
            take_all(ui, moved, lambda name, height=HEIGHT: take(ui, folder / f"{name}.png", height))


def demo(place: Place, moved: timedelta) -> None:
    """The demo, and the file with the wrong header once more, mended."""
    done = place.etl("demo", "--first", str(sample.FIRST + moved))
    assert done.returncode == 0, done.stdout + done.stderr
    content = sample.as_csv(sample.HEADER, sample.rows_of(sample.WRONG_HEADER, moved))
    sample.drop([sample.SampleFile(f"orders-{sample.WRONG_HEADER + moved}.csv", content)], place.incoming)
    place.drained()


def take_all(ui: Pages, moved: timedelta, picture: Callable[..., None]) -> None:
    """Every page in turn."""
    day = sample.CORRECTED + moved
    ui.narrow_navigation()
    ui.lineage(["orders", "payments"], ASSETS)
    picture("lineage")
    ui.asset("daily_report")
    picture("asset", 805)
    ui.partition("daily_sales", day)
    ui.sees_metadata("preview", "stock_code")
    picture("partition", 1030)
    ui.partition("daily_report", day)
    ui.sees_picture("chart of the day")
    picture("chart")
    ui.offer_backfill("daily_sales")
    ui.tab.get_by_text("All", exact=True).click()
    ui.sees("30 partitions")
    picture("backfill")


def take(ui: Pages, path: Path, height: int) -> None:
    """One picture of what is on the page now."""
    ui.tab.set_viewport_size({"width": WIDTH, "height": height})
    ui.tab.wait_for_timeout(SETTLED_MS)
    ui.tab.screenshot(path=path)
    ui.tab.set_viewport_size({"width": WIDTH, "height": HEIGHT})


if __name__ == "__main__":
    main(Path(sys.argv[1]))
