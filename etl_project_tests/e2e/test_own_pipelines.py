"""The tests in a checkout whose owner has a source of his own in the place of the sample."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from etl_project_tests.deployments import ROOT, SAMPLE
from etl_project_tests.installations import Installation

NOT_SOURCES = shutil.ignore_patterns(".venv", ".git", "data", "build", "__pycache__", ".*_cache", ".hypothesis")
ABOUT_PIPELINES = (
    *("unit/pipelines", "unit/demo", "unit/cli", "unit/declare", "unit/test_pipelines.py", "unit/test_floors.py"),
    *("unit/test_site.py", "unit/http_in/test_declared.py", "unit/sources/test_presentation.py"),
)
"""Where the names of pipelines, their number or their files could matter."""


@pytest.mark.long
def test_the_tests_stay_green_with_a_source_of_ones_own_and_without_the_sample(tmp_path: Path) -> None:
    checkout = Installation(tmp_path / "checkout", tmp_path / "checkout")
    shutil.copytree(ROOT, checkout.folder, ignore=NOT_SOURCES)
    sample = tmp_path / "refunds_2025-03-20.csv"
    sample.write_text("id,amount\nR1,2.50\nR2,3.50\n")
    made = checkout.etl("new-source", "refunds", "--from", str(sample))
    assert made.returncode == 0, made.stdout + made.stderr
    pipelines = checkout.folder / SAMPLE.relative_to(ROOT)
    assert (pipelines / "refunds" / "contract.sql").is_file()
    for name in ("orders", "payments", "report_delivery"):
        shutil.rmtree(pipelines / name)
    assert _pytest(checkout, "--collect-only").returncode == 0, "every module of tests can be loaded"
    tried = _pytest(checkout, "-rs", "-m", "not long", *(f"etl_project_tests/{path}" for path in ABOUT_PIPELINES))
    assert tried.returncode == 0, tried.stdout[-4000:]
    assert "the sample was taken out" in tried.stdout


def _pytest(checkout: Installation, *arguments: str) -> subprocess.CompletedProcess[str]:
    return checkout.run("pytest", "-q", "-p", "no:cacheprovider", *arguments)


def test_no_test_of_the_machinery_names_the_pipelines_that_users_replace() -> None:
    about_them = {"unit/pipelines/test_orders.py", "unit/test_pipelines.py", "unit/declare/test_code_version.py"}
    folder = ROOT / "etl_project_tests"
    naming = {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*.py")
        if "etl_project.pipelines" in path.read_text(encoding="utf-8") and path.name != Path(__file__).name
    }
    assert naming <= about_them, f"use the shop instead: {naming - about_them}"
