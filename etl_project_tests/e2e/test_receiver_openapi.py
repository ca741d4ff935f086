"""The receiver keeps its OpenAPI document: schemathesis tries what the document allows and what it forbids."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from etl_project_tests.unit.http_in.servers import TOKEN, running

pytestmark = pytest.mark.long  # Each test starts the command several times.

HOOKS = "etl_project_tests.e2e.schemathesis_hooks"


@pytest.mark.skipif(importlib.util.find_spec("schemathesis") is None, reason="schemathesis is not installed")
def test_schemathesis_finds_nothing(tmp_path: Path) -> None:
    config = tmp_path / "schemathesis.toml"
    config.write_text('[parameters]\n"path.source" = "orders"\n')
    command = [
        Path(sys.executable).with_name("st"),
        *("--config-file", config, "run", "--header", f"Authorization: Bearer {TOKEN}", "--checks", "all"),
        *("--max-examples", "25", "--seed", "1", "--phases", "examples,coverage,fuzzing", "--no-color"),
    ]
    environ = {**os.environ, "SCHEMATHESIS_HOOKS": HOOKS, "PYTHONPATH": str(Path.cwd())}
    with running(tmp_path / "data") as receiver:
        tried = subprocess.run(
            [*command, f"{receiver.url}/openapi.json"],
            env=environ,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert tried.returncode == 0, tried.stdout + tried.stderr
        assert "No issues found" in tried.stdout, tried.stdout
        assert receiver.files() != [], "no valid upload was among the tries"
        assert receiver.temporaries() == []
        assert "Traceback" not in receiver.log()
