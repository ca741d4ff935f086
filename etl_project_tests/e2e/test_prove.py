"""`etl prove` in real processes, on pipelines with an asset that is not reproducible."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import Any

import duckdb
import pytest

from etl_project.proofs.prove.proof import Circumstances
from etl_project_tests import shop
from etl_project_tests.deployments import ROOT, Place, order_file

pytestmark = pytest.mark.long  # Each test starts the command several times.

DAY = date(2025, 3, 10)

SHAKY = '''

@table(kinds={"pandas"}, required_resource_keys=set())
def shaky(orders: pd.DataFrame) -> pd.DataFrame:
    """Depends on the time zone, the hash seed, the order of its input, and a file that nothing knows of."""
    import datetime
    import os

    first = orders.head(1)
    return pd.DataFrame(
        {
            "batch_date": list(first["batch_date"]),
            "hour": [datetime.datetime.fromtimestamp(1_700_000_000).hour],
            "codes": [",".join(set("abcdefgh"))],
            "pick": [f"{first['invoice_no'].iloc[0]}/{first['line_no'].iloc[0]}"],
            "rate": [Path(os.environ["RATE_FILE"]).read_text()],
        }
    )
'''
CONTRACT = """
CREATE TABLE shaky (
    batch_date DATE NOT NULL PRIMARY KEY, hour INTEGER, codes VARCHAR, pick VARCHAR, rate VARCHAR
);
"""


class Project:
    """The shop with one more asset, drained over one day."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.place = Place(root / "data", root)
        self.rate = root / "rate"
        self.rate.write_text("1")

    def etl(self, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        own = {"RATE_FILE": str(self.rate), "TMPDIR": str(self.root / "tmp")}
        path = f"{self.root}{os.pathsep}{ROOT}"
        return self.place.etl(*arguments, ETL_PIPELINES="shaky_shop", PYTHONPATH=path, **own, **more)

    def proof(self, asset: str, expected_exit: int) -> dict[str, Any]:
        """Prove the day twice over; nothing in the data folder may have changed by it, and nothing may be left over."""
        before = self.bytes()
        done = self.etl("prove", asset, "--day", str(DAY), "--times", "2", "--json")
        assert done.returncode == expected_exit, done.stdout + done.stderr
        assert self.bytes() == before
        assert not list((self.root / "tmp").iterdir())
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def bytes(self) -> dict[str, str]:
        """Every file of the data folder with the hash of its bytes: rows, records, Dagster's events, locks."""
        files = (path for path in self.place.data.rglob("*") if path.is_file())
        return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    root = tmp_path_factory.mktemp("prove")
    shutil.copytree(Path(shop.__file__).parent, root / "shaky_shop", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "dagster.yaml", root)
    (root / "tmp").mkdir()
    for name, text in (("assets.py", SHAKY), ("contract.sql", CONTRACT)):
        with (root / "shaky_shop" / "orders" / name).open("a") as file:
            file.write(text)
    made = Project(root)
    made.place.drop(f"{DAY}.csv", order_file(DAY, 20))
    done = made.etl("drain")
    assert done.returncode == 0, done.stdout + done.stderr
    yield made


@pytest.mark.parametrize("asset", ["raw_orders", "daily_customers"])
def test_a_day_that_is_reproducible_is_proven_and_nothing_real_is_touched(project: Project, asset: str) -> None:
    proof = project.proof(asset, expected_exit=0)
    assert proof["reproducible"] and proof["commit"] == "the same"
    assert len({rebuild["fingerprint"] for rebuild in proof["rebuilds"]}) == 1
    assert [rebuild["circumstances"][0] for rebuild in proof["rebuilds"]] == ["UTC", "Asia/Shanghai"]


def test_zone_hash_seed_order_and_hidden_inputs_are_found_out_by_column(project: Project) -> None:
    project.rate.write_text("2")
    proof = project.proof("shaky", expected_exit=1)
    assert proof["deviation"]["columns"] == ["hour", "codes", "pick"]
    (example,) = proof["deviation"]["examples"]
    assert example["old"]["pick"] != example["new"]["pick"]
    assert proof["commit"] == "different, from the same inputs and code"
    assert "rate" in proof["commit_deviation"]["columns"]


def test_a_diff_with_a_rebuild_says_what_building_the_day_now_would_change(project: Project) -> None:
    before = project.bytes()
    same = project.etl("diff", "daily_sales", "--day", str(DAY), "--rebuild")
    assert same.returncode == 0 and "nothing differs" in same.stdout, same.stdout + same.stderr
    project.rate.write_text("3")
    other = project.etl("diff", "shaky", "--day", str(DAY), "--rebuild", "--json", TZ="UTC")
    assert other.returncode == 1, other.stdout + other.stderr
    [found] = json.loads(other.stdout)
    assert (found["rows_before"], found["rows_after"], found["changed"]) == (1, 1, 1) and "rate" in found["columns"]
    assert project.bytes() == before and not list((project.root / "tmp").iterdir())


def test_a_warehouse_that_a_run_holds_is_waited_for_and_said_so(project: Project) -> None:
    with duckdb.connect(str(project.place.data / "warehouse.duckdb")):
        done = project.etl("prove", "daily_sales", "--day", str(DAY), ETL_WAIT_SECONDS="0.1")
    assert done.returncode == 2 and "is held by" in done.stderr and "retrying helps" in done.stderr, done.stderr
    assert not list((project.root / "tmp").iterdir())


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nonsense", "--day", "2025-03-10"], "There is no stored asset 'nonsense'; there are"),
        (["orders_files", "--day", "2025-03-10"], "There is no stored asset 'orders_files'"),
        (["orders", "--day", "1999-01-01"], "orders has days from 2025-01-01 to today (UTC), not 1999-01-01"),
        (["orders", "--day", "yesterday"], "yesterday"),
        (["orders", "--day", "2025-03-10", "--times", "1"], "--times"),
        (["orders"], "--day"),
    ],
)
def test_wrong_usage_says_what_would_do_and_exits_with_2(tmp_path: Path, arguments: list[str], says: str) -> None:
    done = Place(tmp_path / "data").etl("prove", *arguments)
    assert done.returncode == 2 and says in done.stderr, done.stderr


def test_an_asset_that_sends_to_the_outside_is_not_rebuilt(tmp_path: Path) -> None:
    address = {"ETL_DELIVERY_URL": "http://127.0.0.1:9/never"}
    done = Place(tmp_path / "data").etl("prove", "report_delivery", "--day", "2025-03-10", **address)
    assert done.returncode == 2 and "a rebuild would not stay on the side" in done.stderr, done.stderr


def test_no_two_rebuilds_in_a_row_are_made_under_the_same_circumstances() -> None:
    turns = [Circumstances.of(turn) for turn in range(10)]
    for one, other in pairwise(turns):
        assert one.zone != other.zone and one.hash_seed != other.hash_seed and one.threads != other.threads


def test_a_day_of_which_there_is_nothing_is_missing(project: Project) -> None:
    done = project.etl("prove", "orders", "--day", str(DAY.replace(day=DAY.day + 1)))
    assert (done.returncode, "is missing: it was never built" in done.stderr) == (2, True), done.stdout + done.stderr
