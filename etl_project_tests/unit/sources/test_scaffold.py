"""`dg list components` knows the sources, and what `dg scaffold` writes for one loads as it is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import dagster as dg
import yaml

from etl_project.sources.component import FileSource
from etl_project.sources.scaffold import SourceScaffolder
from etl_project_tests.deployments import ROOT


def test_what_is_scaffolded_loads_and_takes_files_by_its_name(tmp_path: Path) -> None:
    folder = tmp_path / "refunds"
    folder.mkdir()
    request = dg.ScaffoldRequest("etl_project.sources.component.FileSource", folder, "yaml", tmp_path, None)
    SourceScaffolder().scaffold(request)
    written = yaml.safe_load((folder / "defs.yaml").read_text())
    assert written["type"] == "etl_project.sources.component.FileSource"
    spec = FileSource(**written["attributes"]).spec(folder)
    assert (spec.name, spec.patterns) == ("refunds", ("refunds_{date}.csv",))
    assert [column.name for column in spec.types] == ["id", "amount"]


def test_the_list_of_components_has_the_sources_by_the_names_that_a_defs_yaml_uses() -> None:
    listed = subprocess.run(
        [str(Path(sys.executable).parent / "dg"), "list", "components", "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "etl_project.sources.component.FileSource" in listed.stdout, listed.stderr
    assert "etl_project.kafka.source.KafkaSource" in listed.stdout
    assert "etl_project.kafka.source.FileSource" not in listed.stdout
