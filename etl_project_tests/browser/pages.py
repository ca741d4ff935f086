"""The pages of the Dagster UI that this project speaks of, as a person sees and uses them.

Belongs here: finding things by the words on the page, and waiting until they are there. Does not belong here: what must
hold in the warehouse afterwards (the test), or taking pictures (`screenshots`). Nothing is looked for by CSS class:
those change with every version.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date

import pytest

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install -e '.[dev]'")
expect = playwright.expect

PATIENCE_MS = 240_000
"""How long anything on a page may take; a backfill has its own patience."""
BACKFILL_MS = 240_000
"""Dagster's daemon looks at backfills every 30 seconds: one look starts the run, another one sees its end."""
WIDTH, HEIGHT = 1400, 900


def chromium() -> str | None:
    """The browser: ETL_TEST_CHROMIUM, else Debian's."""
    return os.environ.get("ETL_TEST_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")


@contextmanager
def browser_page(url: str) -> Iterator[Pages]:
    """The UI at this address in a browser that was never there before."""
    with playwright.sync_playwright() as started:
        # Containers run as root, where Chromium has no sandbox, and with a small /dev/shm.
        arguments = ["--no-sandbox", "--disable-dev-shm-usage"]
        browser = started.chromium.launch(executable_path=chromium(), args=arguments)
        context = browser.new_context(viewport={"width": WIDTH, "height": HEIGHT}, locale="en-GB", timezone_id="UTC")
        context.set_default_timeout(PATIENCE_MS)
        try:
            yield Pages(context.new_page(), url)
        finally:
            browser.close()


class Pages:
    """The UI in one browser tab."""

    def __init__(self, tab: playwright.Page, url: str) -> None:
        self.tab = tab
        self._url = url

    def narrow_navigation(self) -> None:
        """Fold the menu on the left to its icons; it stays so."""
        self._open("/overview")
        self.tab.get_by_text("Hide navigation").click()

    def lineage(self, groups: Sequence[str], assets: Sequence[str]) -> None:
        """The graph of all assets, its groups unfolded."""
        self._open(f"/asset-groups?expanded={','.join(f'global@global:{group}' for group in groups)}")
        for asset in assets:
            self.sees(asset)

    def asset(self, name: str) -> None:
        """The overview of an asset."""
        self._open(f"/assets/{name}?view=overview")
        self.sees("Latest materialization")

    def plots(self, name: str, of: str) -> None:
        """The numbers of an asset's partitions, plotted."""
        self.asset(name)
        self.tab.get_by_role("button", name="Plots").click()
        self.tab.locator("canvas").first.wait_for()
        self.tab.get_by_text(of, exact=True).first.scroll_into_view_if_needed()

    def partition(self, asset: str, day: date) -> None:
        """The page of one day of an asset."""
        self._open(f"/assets/{asset}?view=partitions&partition={day}")
        self.sees("Latest materialization")

    def sees_metadata(self, label: str, words: str) -> None:
        """The partition page says these words beside this label."""
        expect(self._beside(label)).to_contain_text(words, timeout=PATIENCE_MS)

    def sees_picture(self, label: str) -> None:
        """The picture beside this label is drawn; a long one comes up in a dialog of its own."""
        long, picture = self._beside(label).get_by_text("[Show Markdown]"), self.tab.get_by_role("img")
        drawn = picture.and_(self.tab.locator("[src^='data:image/svg+xml']"))
        long.or_(drawn).first.wait_for()
        if long.is_visible():
            long.click()
        width = drawn.first.evaluate("image => image.decode().then(() => image.naturalWidth)")
        assert width > 100, f"the picture beside {label!r} is {width} pixels wide"

    def offer_backfill(self, asset: str) -> None:
        """The dialog of a materialization, with the days that Dagster offers."""
        self.asset(asset)
        self.tab.get_by_role("button", name=re.compile("Materialize")).first.click()
        self.sees("Partition selection")

    def fill_in_backfill(self, asset: str, first: date, last: date) -> None:
        """The dialog of a backfill over these days, of more than 90, ready to be launched."""
        self.offer_backfill(asset)
        self.tab.get_by_text("Show all partitions").click()  # Dagster offers the last 90 days at first.
        days = self.tab.get_by_placeholder("ex:")
        days.fill(f"[{first}...{last}]")
        days.press("Tab")
        self.sees(f"{(last - first).days + 1} partitions")
        self.sees("Backfills all partitions in a single run.")

    def launch(self) -> None:
        """Press the button of the dialog."""
        self.tab.get_by_role("button", name="Launch backfill").click()
        expect(self.tab.get_by_text("Partition selection")).to_have_count(0, timeout=PATIENCE_MS)

    def ended_backfill(self) -> None:
        """The page of the newest backfill, once it has succeeded."""
        self._open("/runs?view=backfills")
        self.tab.locator("a[href*='/runs/b/']").first.click()
        expect(self.tab.get_by_text("Succeeded", exact=True).first).to_be_visible(timeout=BACKFILL_MS)
        expect(self.tab.get_by_text("100% completed")).to_be_visible(timeout=BACKFILL_MS)

    def automation(self) -> None:
        """The sensors and schedules."""
        self._open("/automation")
        self.sees("pending_days")

    def sees_running(self, automation: str) -> None:
        """A sensor or schedule of the automation page is switched on: the second box of its row is the switch."""
        boxes = "xpath=ancestor::*[count(.//input[@type='checkbox'])=2][1]//input[@type='checkbox']"
        switch = self.tab.get_by_text(automation, exact=True).locator(boxes).nth(1)
        expect(switch).to_be_checked(timeout=PATIENCE_MS)

    def asks_to_sign_up(self) -> bool:
        """Whether a first visit is met by the dialog for an e-mail address; it comes up late, once the UI has asked."""
        with self.tab.expect_response(lambda response: "ouldShowNux" in (response.request.post_data or "")) as answer:
            self._open("/overview")
        return bool(answer.value.json()["data"]["shouldShowNux"])

    def sees(self, words: str) -> None:
        """These words come up on the page."""
        expect(self.tab.get_by_text(words, exact=True).first).to_be_visible(timeout=PATIENCE_MS)

    def _beside(self, label: str) -> playwright.Locator:
        """The value in the row of this label."""
        row = self.tab.get_by_role("row").filter(has=self.tab.get_by_role("cell", name=label, exact=True))
        return row.first.get_by_role("cell").nth(1)

    def _open(self, path: str) -> None:
        self.tab.goto(self._url + path)
