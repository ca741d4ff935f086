"""The documentation as a site: each page has its place, and what pages say of tests is so."""

from __future__ import annotations

import ast
import re
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest

from etl_project_tests.deployments import ROOT

_TEST = re.compile(r"`([\w/]+\.py)::(test_\w+)`")


@pytest.fixture(scope="module")
def site() -> ModuleType:
    spec = spec_from_file_location("etl_docs_site", ROOT / "docs" / "site.py")
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_page_is_in_the_sites_navigation(site: ModuleType) -> None:
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    pages = {str(place) for place in site.pages().values() if place.parts[0] != "decisions"}
    missing = sorted(page for page in pages if f": {page}\n" not in navigation)
    assert missing == [], "add them to `nav` of mkdocs.yml"


def test_every_test_that_the_guarantees_name_exists() -> None:
    named = _TEST.findall((ROOT / "docs" / "guarantees.md").read_text(encoding="utf-8"))
    assert len(named) > 40
    for file, name in named:
        tree = ast.parse((ROOT / "etl_project_tests" / file).read_text(encoding="utf-8"))
        assert name in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}, f"{file}::{name}"


def test_links_lead_to_the_places_of_the_pages(site: ModuleType) -> None:
    places = {
        ROOT / "README.md": Path("index.md"),
        ROOT / "docs/due.md": Path("due.md"),
        ROOT / "docs/decisions/data-dir.md": Path("decisions/data-dir.md"),
    }

    def placed(page: str, text: str) -> str:
        return str(site.on_site(ROOT / page, text, places))

    assert placed("README.md", "[due](docs/due.md#asking)") == "[due](due.md#asking)"
    assert placed("docs/due.md", "[home](../README.md)") == "[home](index.md)"
    assert placed("docs/decisions/data-dir.md", "[due](../due.md)") == "[due](../due.md)"
    assert placed("README.md", "![A day](docs/pictures/partition.png)") == "![A day](pictures/partition.png)"
    assert placed("docs/due.md", "[code](../etl_project/utc.py)") == "code"
    assert placed("docs/due.md", "[gone](nowhere.md)") == "[gone](nowhere.md)"
    assert placed("docs/due.md", "[out](https://dagster.io)") == "[out](https://dagster.io)"


def test_the_reference_tells_every_command_and_every_key(site: ModuleType) -> None:
    from etl_project.cli.main import COMMANDS  # noqa: PLC0415  # loads every command

    commands = site.commands()
    assert [f"## `etl {name}`" for name in COMMANDS if f"## `etl {name}`" not in commands] == []
    keys = site.source_keys()
    assert "| `patterns` |" in keys and "**has to be said**" in keys and "## ValueWords" in keys
