"""The installed package: a wheel has all it needs, and the commands work in any folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import duckdb
import pytest

from etl_project.demo import payments
from etl_project_tests.deployments import ROOT, needs_sample
from etl_project_tests.installations import Installation, installed

NOT_PYTHON = (".yaml", ".sql", "py.typed")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Installation:
    return installed(tmp_path_factory.mktemp("wheel"))


def test_the_wheel_holds_every_file_of_the_package_and_none_of_the_tests(wheel: Installation) -> None:
    def beside(folder: Path) -> set[str]:
        return {
            path.relative_to(folder).as_posix()
            for path in (folder / "etl_project").rglob("*")
            if path.name.endswith((".py", *NOT_PYTHON)) and not path.name.startswith(".")
        }

    assert beside(wheel.packages) == beside(ROOT)
    assert (wheel.packages / "etl_project" / "dagster.yaml").read_text() == (ROOT / "dagster.yaml").read_text()
    assert not (wheel.packages / "etl_project_tests").exists()


@needs_sample
@pytest.mark.long
def test_the_demo_proves_itself_in_an_empty_folder(wheel: Installation) -> None:
    first = wheel.etl("demo")
    assert first.returncode == 0 and "fingerprints identical" in first.stdout, first.stdout + first.stderr
    assert [path.name for path in wheel.folder.iterdir()] == ["data"], "Dagster's history is under the data folder too"
    left = stored(wheel)
    assert left["payments"] == len(payments.messages()), "late and repeated messages included, each once"
    assert left["invoices"] == {"settled", "no payment", "no invoice", "other amount", "other currency"}
    verified = wheel.etl("verify", "--deep")
    assert verified.returncode == 0, "nothing is wrong right after the demo: " + verified.stdout
    status = wheel.etl("status", "--json")
    assert {asset["stale"] for asset in json.loads(status.stdout)["assets"]} == {0}


@needs_sample
@pytest.mark.stress
def test_the_demo_can_be_repeated_and_ends_in_the_same_rows(wheel: Installation) -> None:
    ends = []
    for _ in range(2):
        done = wheel.etl("demo")
        assert done.returncode == 0 and "fingerprints identical" in done.stdout, done.stdout + done.stderr
        ends.append(stored(wheel))
    assert ends[0] == ends[1]


def stored(wheel: Installation) -> dict[str, Any]:
    """What the demo has left in the warehouse: content, not history."""
    with duckdb.connect(str(wheel.folder / "data" / "warehouse.duckdb"), read_only=True) as connection:
        ask = connection.execute
        last = "select asset, partition_key, arg_max(fingerprint, sequence) from etl_commits group by all"
        return {
            "fingerprints": set(ask(last).fetchall()),
            "payments": ask("select count(*) from payments").fetchall()[0][0],
            "invoices": {state for (state,) in ask("select distinct state from invoice_payments").fetchall()},
        }


@pytest.mark.long
def test_sources_of_ones_own_live_in_ones_own_package(wheel: Installation, tmp_path: Path) -> None:
    sample = tmp_path / "refunds_2025-03-03.csv"
    sample.write_text("id,amount\n1,2.50\n2,3.50\n")
    refused = wheel.etl("new-source", "refunds", "--from", str(sample))
    assert refused.returncode == 2 and "say --to FOLDER" in refused.stderr
    mine = tmp_path / "mine"
    (mine / "shop" / "pipelines").mkdir(parents=True)
    (mine / "shop" / "pipelines" / "__init__.py").touch()
    shop = Installation(wheel.packages, mine)
    own = {"ETL_PIPELINES": "shop.pipelines"}
    made = shop.etl("new-source", "refunds", "--from", str(sample), "--to", "shop/pipelines", **own)
    assert made.returncode == 0, made.stderr
    drop = mine / "data" / "incoming" / "refunds"
    assert drop.is_dir(), "etl new-source makes the drop folder"
    sample.rename(drop / sample.name)
    drained = shop.etl("drain", **own)
    assert drained.returncode == 0 and "1 runs, 0 failed" in drained.stdout, drained.stdout + drained.stderr
