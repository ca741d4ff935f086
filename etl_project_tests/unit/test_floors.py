"""The floors of docs/architecture.md: imports go down, never up, deferred ones included."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "etl_project"
GROUND = ("settings", "failures", "faults", "atomic", "utc", "loading", "extras", "sqlite_log", "file_lock")
FLOORS = (
    *(("cli",), ("definitions",), ("demo", "new_source"), ("watch", "contract_change", "openlineage"), ("proofs",)),
    *(("kafka", "http_out"), ("http_in",), ("due",), ("sources",), ("pipelines",)),
    *(("declare",), ("instance",), ("exclusion",), ("storage",)),
    GROUND,
)
"""From the top. Packages on one floor do not know each other, but for the modules of the ground."""

FORMER = {"assets": "declare", "incoming": "sources"}
"""Where users' files still find what has moved: a door, and nothing behind it."""

PROCESSES = {"proofs.prove.rebuild"}
"""Modules that are started as processes of their own, and so may load the definitions: nobody imports them."""


def modules() -> Iterator[tuple[str, Path]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        yield name.removesuffix(".__init__"), path


def imported(path: Path) -> Iterator[str]:
    """What a module imports of this package, at any depth of its code, without the package's own name."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module is not None and node.level == 0:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        for name in names:
            if name.startswith("etl_project."):
                yield name.removeprefix("etl_project.")


def floor_of(name: str) -> int:
    return next(n for n, floor in enumerate(FLOORS) if name.partition(".")[0] in floor)


def climbs(name: str, target: str) -> bool:
    """Whether an import does not go down."""
    here, there = name.partition(".")[0], target.partition(".")[0]
    if here == there or (here in GROUND and there in GROUND):
        return False
    return floor_of(there) <= floor_of(here)


def test_every_module_stands_on_a_floor() -> None:
    known = {name for floor in FLOORS for name in floor} | FORMER.keys()
    assert {name.partition(".")[0] for name, _ in modules()} - known == {"__init__"}


def test_imports_only_go_down() -> None:
    up = sorted(
        f"{name} imports {target}"
        for name, path in modules()
        if name.partition(".")[0] not in FORMER and name != "__init__"
        for target in set(imported(path))
        if target.partition(".")[0] != "__init__"
        and climbs(name, target)
        and not (name in PROCESSES and target.startswith("definitions"))
    )
    assert up == []


def test_an_import_that_climbs_would_be_seen() -> None:
    assert climbs("storage.contract", "due.pending") and climbs("watch.status", "cli.main")
    assert climbs("kafka.landing", "http_out.client"), "side by side"
    assert not climbs("due.pending", "storage.contract") and not climbs("atomic", "faults")


def entries(path: Path) -> Iterator[str]:
    """The modules that a module names after `from`, without the package's own name."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module is not None and node.module.startswith("etl_project."):
            yield node.module.removeprefix("etl_project.")


def test_packages_are_entered_by_their_front_doors() -> None:
    around = sorted(
        f"{name} imports {target}"
        for name, path in modules()
        for target in entries(path)
        if "." in target
        and target.partition(".")[0] != name.partition(".")[0]
        and name.partition(".")[0] not in FORMER
        and target.partition(".")[0] not in GROUND
    )
    assert around == []


def test_former_places_hold_nothing_but_a_door() -> None:
    for name, path in modules():
        new = FORMER.get(name.partition(".")[0])
        if new is not None:
            assert all(target.startswith(new) for target in imported(path)), name
            assert not any(
                isinstance(node, ast.FunctionDef | ast.ClassDef) for node in ast.parse(path.read_text()).body
            )


def test_every_package_says_what_it_is_for() -> None:
    bare = [
        name
        for name, path in modules()
        if path.name == "__init__.py" and not ast.get_docstring(ast.parse(path.read_text()))
    ]
    assert bare in ([], ["__init__"])


@pytest.mark.parametrize(
    ("module", "without"),
    [
        *((name, ("dagster", "duckdb", "pandas", "pyarrow")) for name in GROUND),
        ("http_in.receiver", ("dagster", "duckdb", "pandas")),
        ("cli.main", ("dagster", "duckdb", "pandas")),
        ("definitions", ("httpx2", "stamina")),
        *(
            ("storage", (f"etl_project.{name}",))
            for floor in FLOORS[:-1]
            for name in floor
            if name not in ("storage", "pipelines")
        ),
    ],
)
def test_a_leaf_loads_nothing_that_it_does_not_need(module: str, without: tuple[str, ...]) -> None:
    script = f"import sys, etl_project.{module}; print(*(name for name in {without!r} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
