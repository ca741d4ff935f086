"""Help for tests that run the project from somewhere else: from a copy of its sources, or installed from a wheel.

Belongs here: making such a place and running commands in it. The dependencies are those of this environment.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from etl_project_tests.deployments import ROOT

SOURCES = ("etl_project", "pyproject.toml", "README.md", "dagster.yaml", "workspace.yaml")


@dataclass(frozen=True)
class Installation:
    """A folder with an `etl_project` package that is imported from there, and a folder to work in."""

    packages: Path
    folder: Path

    def run(self, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a module of this Python (`python -m ...`) in the folder; nothing of the checkout is on its path."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("ETL_", "DAGSTER_"))}
        return subprocess.run(
            [sys.executable, "-W", "ignore", "-m", *command],
            cwd=self.folder,
            env={**kept, "PYTHONPATH": str(self.packages), "ETL_SETTLE_SECONDS": "0", **environment},
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )

    def etl(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """The `etl` command."""
        return self.run("etl_project.cli", *arguments, **environment)


def emptied(folder: Path) -> Installation:
    """A copy of the sources without any pipeline: somebody else's checkout, whose pipelines no test knows."""
    made = copied(folder)
    pipelines = made.packages / "etl_project" / "pipelines"
    shutil.rmtree(pipelines)
    pipelines.mkdir()
    (pipelines / "__init__.py").touch()
    return made


def copied(folder: Path) -> Installation:
    """A copy of the sources, as they are."""
    folder.mkdir(parents=True)
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"), symlinks=True)
        else:
            shutil.copy(ROOT / name, folder / name)
    return Installation(folder, folder)


def installed(folder: Path) -> Installation:
    """The project installed from a wheel, beside an empty folder to work in. Needs no network."""
    sources = copied(folder / "sources").packages
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    build = ["wheel", str(sources), "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder)]
    subprocess.run([*pip, *build], check=True, timeout=240)
    [wheel] = folder.glob("*.whl")
    packages = folder / "site-packages"
    subprocess.run([*pip, "install", "--no-deps", "--target", str(packages), str(wheel)], check=True, timeout=240)
    (folder / "empty").mkdir()
    shutil.rmtree(sources)
    return Installation(packages, folder / "empty")
