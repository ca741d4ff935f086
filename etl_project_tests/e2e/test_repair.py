"""Every page of docs/repair.md: the incident is made, the page is typed as it stands, and every row is right."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import NamedTuple

import duckdb
import pytest

from etl_project_tests import shop
from etl_project_tests.deployments import ROOT, Place, order_file
from etl_project_tests.documents import sections

PAGES = dict(sections("docs/repair.md"))
DAYS = [date(2025, 3, 20), date(2025, 3, 21), date(2025, 3, 22)]
RIGHT, WRONG = "sum(quantity)::bigint as units", "(sum(quantity) + 1)::bigint as units"

SMALL_DISK = """
import contextlib, io, json, resource, sys
from etl_project.cli.main import main
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2)
sys.argv = ["etl", "drain"]
told = io.StringIO()
try:
    with contextlib.redirect_stdout(told):
        main()
except SystemExit as ended:
    print(json.dumps(ended.code or 0))
"""

pytestmark = pytest.mark.long

Rows = Mapping[str, Sequence[tuple[object, ...]]]


class Shop(NamedTuple):
    """A deployment with pipelines of its own, and all its rows before anything went wrong."""

    place: Place
    before: Rows

    @property
    def code(self) -> Path:
        """The transforms of the orders."""
        return self.place.folder / "pipelines_of_mine" / "orders" / "assets.py"

    def etl(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.place.etl(*arguments, **environment(self.place.folder))

    def drained(self) -> None:
        done = self.etl("drain")
        assert done.returncode == 0, done.stdout + done.stderr

    def types(self, title: str, exit_codes: Mapping[str, int] | None = None) -> list[str]:
        """Type the commands of a page; what each printed. All end well but those that are to say that something is
        found, the first time that they stand there."""
        expected, printed = dict(exit_codes or {}), []
        for command in PAGES[title]:
            done = self._typed(command)
            wanted = expected.pop(" ".join(command.split()[:2]), 0)
            assert done.returncode == wanted, f"{command}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
            printed.append(done.stdout)
        return printed

    def _typed(self, command: str) -> subprocess.CompletedProcess[str]:
        program, *arguments = shlex.split(command)
        if program == "etl":
            return self.etl(*arguments)
        return subprocess.run([program, *arguments], cwd=self.place.folder, capture_output=True, text=True, check=False)

    def sound(self) -> bool:
        """Whether nothing is due, and everything is as it was committed."""
        ahead = json.loads(self.etl("plan", "--json").stdout)
        return ahead["runs"] == [] and self.etl("verify").returncode == 0


def environment(folder: Path) -> dict[str, str]:
    own = {"ETL_PIPELINES": "pipelines_of_mine", "ETL_KEEP_VERSIONS": "3", "HOME": str(folder)}
    return {**own, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Rows]:
    """Three days of orders, and what is built of them."""
    folder = tmp_path_factory.mktemp("repair") / "folder"
    shutil.copytree(Path(shop.__file__).parent, folder / "pipelines_of_mine")
    made = Shop(Place(folder / "data", folder), {})
    for day in DAYS:
        made.place.drop(f"orders-{day}.csv", order_file(day))
    made.drained()
    return folder, made.place.tables()


@pytest.fixture
def given(prepared: tuple[Path, Rows], tmp_path: Path) -> Shop:
    folder = Path(shutil.copytree(prepared[0], tmp_path / "folder"))
    return Shop(Place(folder / "data", folder), prepared[1])


def test_every_page_has_its_test() -> None:
    text = Path(__file__).read_text(encoding="utf-8")
    assert [title for title, commands in PAGES.items() if commands and f'"{title}"' not in text] == []
    assert len([title for title, commands in PAGES.items() if commands]) == 6


def test_a_wrong_file_goes_back_and_the_right_one_ends_the_pin(given: Shop) -> None:
    given.place.drop(f"orders-{DAYS[0]}.csv", order_file(DAYS[0], invoices=5, price="9.99"))
    given.drained()
    assert given.place.tables() != given.before
    printed = given.types("A wrong file was delivered")
    assert "daily_report" in printed[2] and "pinned" in printed[4]
    assert given.place.tables() == given.before and given.sound()

    given.place.drop(f"orders-{DAYS[0]}.csv", order_file(DAYS[0], price="3.00"))
    given.drained()
    assert given.place.query("select count(*) from orders where unit_price = 3") == [(3,)]
    assert "pinned" not in given.etl("verify").stdout and given.sound()


def test_rows_of_a_wrong_transform_are_seen_and_built_again(given: Shop) -> None:
    text = given.code.read_text()
    assert RIGHT in text
    given.code.write_text(text.replace(RIGHT, WRONG))
    assert given.etl("rebuild", "daily_sales").returncode == 0
    given.drained()
    assert given.place.tables() != given.before
    given.code.write_text(text)
    printed = given.types("A transform was wrong for three weeks", {"etl diff": 1})
    assert "daily_sales" in printed[0] and "units (2)" in printed[1]
    assert given.place.tables() == given.before and given.sound()


def test_days_that_are_missing_are_filled(given: Shop) -> None:
    shutil.rmtree(given.place.data)
    given.place.drop(f"orders-{DAYS[0]}.csv", order_file(DAYS[0]))
    given.drained()
    found = given.place.folder / "found"
    found.mkdir()
    for day in DAYS[1:]:
        (found / f"orders-{day}.csv").write_text(order_file(day))
    printed = given.types("Half a month is missing")
    assert "2 new" in printed[3]
    assert given.place.tables() == given.before and given.sound()


def test_a_table_that_was_edited_by_hand_gets_its_rows_back(given: Shop) -> None:
    with duckdb.connect(str(given.place.data / "warehouse.duckdb")) as connection:
        connection.execute("update orders set unit_price = 99 where batch_date = '2025-03-20'")
    assert given.place.tables() != given.before
    printed = given.types("A table was edited by hand", {"etl verify": 1})
    assert "orders" in printed[0] and str(DAYS[0]) in printed[0]
    assert given.place.tables() == given.before and given.sound()


def test_what_a_full_disk_left_undone_is_done_with_room(given: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    given.place.drop(f"orders-{DAYS[2]}.csv", order_file(DAYS[2], invoices=60_000))
    size = (given.place.data / "warehouse.duckdb").stat().st_size
    with monkeypatch.context() as own:
        for name, value in environment(given.place.folder).items():
            own.setenv(name, value)
        assert given.place.python(SMALL_DISK, str(size)) == 1
    assert given.place.query("select * from orders order by all") == given.before["orders"], "the old rows"
    given.types("The disk was full")
    assert given.place.query("select count(*) from orders where batch_date = '2025-03-22'") == [(120_000,)]
    assert given.sound()


def test_a_warehouse_of_last_night_catches_up(given: Shop) -> None:
    warehouse, backup = given.place.data / "warehouse.duckdb", given.place.folder / "backup.duckdb"
    shutil.copy(warehouse, backup)
    given.place.drop(f"orders-{DAYS[0]}.csv", order_file(DAYS[0], price="3.00"))
    given.drained()
    after = given.place.tables()
    shutil.copy(backup, warehouse)
    printed = given.types("A backup was restored")
    assert "1 replaced" in printed[0] and str(DAYS[0]) in printed[0]
    assert given.place.tables() == after and given.sound()
