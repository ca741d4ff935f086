"""Code version: a short text that is another one as soon as something changes that makes an asset's rows.

Belongs here: which files count, and their hash. Nothing is imported or run for it: modules are read as text, and what
they import is taken from their syntax (a name that is only put together when it runs is not seen). So it is the same on
every machine, in every folder, with or without `.pyc`.

What counts for an asset:

* the module that defines it, and every module of the same package that this one imports, directly or through others;
  the package is the top-level one, and within this project's own a part of it (`etl_project.pipelines`,
  `etl_project.sources`): the framework is no part of a pipeline;
* `*.sql` and `*.yaml` in the folder of the pipeline, and for the assets of a source what its settings came to;
* the versions of duckdb, pandas and pyarrow, and of this project.

A change of code alone asks for no run. It only means that a rebuild may rightly give other rows.
"""

from __future__ import annotations

import ast
import hashlib
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache  # noqa: TID251
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import dagster as dg

RESULT_LIBRARIES = ("duckdb", "pandas", "pyarrow", "etl-project")
_BESIDE = ("*.sql", "*.yaml")
_IMPORT_CALLS = ("import_module", "__import__")
_BLOCKS = ("body", "orelse", "finalbody", "handlers", "cases")
"""Where a statement holds statements."""
_OURS = __name__.partition(".")[0]


class Module(NamedTuple):
    """A module by its full name, and the file with its source."""

    name: str
    path: Path


def of_function(function: Callable[..., Any], folder: Path | None = None) -> str | None:
    """The version of the asset that this function computes; None where its source is not in a file.

    `folder` is the pipeline's, by default that of the module. A function that comes from elsewhere (a factory) depends
    on who called it: then every Python file of the folder counts too.
    """
    file = getattr(sys.modules.get(function.__module__), "__file__", None)
    if file is None or not file.endswith(".py"):
        return None
    module = Module(function.__module__, Path(file))
    folder = folder or module.path.parent
    return of_module(module, folder, () if module.path.parent == folder else ("*.py",))


def of_module(module: Module, folder: Path, patterns: Iterable[str] = (), settled: str = "") -> str:
    """The version of what this module computes from the files in `folder`; `patterns` name more of them.

    `settled`: what settings came to that the files only name (environment variables); the same text, the same settings.
    """
    digest = hashlib.sha256()
    for name, source in sorted(_reached(module).items()):
        digest.update(f"module {name}\0{source}\0".encode())
    for path in sorted({path for pattern in (*_BESIDE, *patterns) for path in folder.glob(pattern)}):
        digest.update(f"file {path.name}\0{_text(path)}\0".encode())
    for library in RESULT_LIBRARIES:
        digest.update(f"{library}=={_installed(library)}\n".encode())
    if settled:
        digest.update(f"settled {settled}\n".encode())
    return digest.hexdigest()[:16]


def filled_in(assets: dg.Definitions) -> dg.Definitions:
    """The definitions, with a code version for every asset that has none and whose source is in a file."""
    versions: dict[dg.AssetKey, str] = {}
    for declared in assets.assets or ():
        bare = [spec.key for spec in _specs(declared) if spec.code_version is None]
        function = getattr(getattr(getattr(declared, "node_def", None), "compute_fn", None), "decorated_fn", None)
        found = of_function(function) if bare and function is not None else None
        versions |= dict.fromkeys(bare, found) if found is not None else {}
    if not versions:
        return assets
    return assets.map_asset_specs(
        func=lambda spec: spec.replace_attributes(code_version=versions.get(spec.key, spec.code_version))
    )


def _specs(declared: object) -> Iterable[dg.AssetSpec]:
    return declared.specs if isinstance(declared, dg.AssetsDefinition) and declared.is_executable else ()


def _reached(start: Module) -> Mapping[str, str]:
    """The source of the module and of all that it reaches by imports within its package, by full name."""
    parts = start.name.split(".")
    depth = len(parts) if start.path.name == "__init__.py" else len(parts) - 1
    root = start.path.parents[depth] if depth < len(start.path.parents) else None
    if root is None or _located(root, start.name) != start.path:
        return {start.name: _text(start.path)}  # It was loaded under a name of its own: nothing says where others are.
    boundary = parts[: 2 if parts[0] == _OURS else 1]
    found: dict[str, str] = {}
    seen: set[str] = set()
    waiting = [start.name]
    while waiting:
        name = waiting.pop()
        # Most names are those of libraries, or of functions: the disk is asked once, and for names of the package only.
        if name in seen or name.split(".")[: len(boundary)] != boundary:
            continue
        seen.add(name)
        if (path := _located(root, name)) is not None:
            found[name] = _text(path)
            waiting += _imported(found[name], name, path.name == "__init__.py")
    return found


def _located(root: Path, name: str) -> Path | None:
    """The file of a module; None where it is no file below the root."""
    place = root.joinpath(*name.split("."))
    candidates = (place.with_name(f"{place.name}.py"), place / "__init__.py")
    return next((path for path in candidates if path.is_file()), None)


# The answer follows from the arguments alone, and the assets of a project reach the same modules again and again.
@lru_cache(maxsize=256)
def _imported(source: str, name: str, is_package: bool) -> tuple[str, ...]:
    """Every name that an import of the module may load, packages above included."""
    return tuple(_names_imported(source, name, is_package))


def _names_imported(source: str, name: str, is_package: bool) -> Iterator[str]:
    package = name.split(".") if is_package else name.split(".")[:-1]
    yield ".".join(package)
    for node in _importing(_parsed(source), source):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _with_packages(alias.name)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield from _with_packages(base)
            yield from (f"{base}.{alias.name}" for alias in node.names)  # A module of the package, if it is one.
        elif isinstance(node, ast.Call) and (asked := _asked_for(node)) is not None:
            level = len(asked) - len(asked.lstrip("."))
            above = package[: len(package) - level + 1] if level else []
            yield from _with_packages(".".join([*above, *filter(None, [asked.lstrip(".")])]))


def _importing(tree: ast.Module, source: str) -> Iterator[ast.AST]:
    """Every node that may import: all statements, and the expressions too where a call that imports can be among them.

    Nine nodes of ten are parts of expressions, and hardly a module imports in one: looking at all of them took a tenth
    of the time in which a command loads the project.
    """
    if any(name in source for name in _IMPORT_CALLS):
        yield from ast.walk(tree)
        return
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        waiting += (inner for name in _BLOCKS for inner in getattr(node, name, ()))


def _asked_for(call: ast.Call) -> str | None:
    """The module that `importlib.import_module` or `__import__` is called with, where it stands there as text."""
    function = call.func
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", None)
    if name not in _IMPORT_CALLS or not call.args:
        return None
    first = call.args[0]
    return first.value if isinstance(first, ast.Constant) and isinstance(first.value, str) else None


def _parsed(source: str) -> ast.Module:
    """The syntax tree; an empty one where the source is none, which the import itself will complain about."""
    try:
        return ast.parse(source)
    except SyntaxError:
        return ast.Module([], [])


def _with_packages(name: str) -> Iterator[str]:
    """The name and the packages above it: importing a module runs their `__init__.py` too."""
    parts = name.split(".")
    return (".".join(parts[:count]) for count in range(1, len(parts) + 1))


def _text(path: Path) -> str:
    """The source, whatever its line ends and its encoding."""
    return path.read_text(encoding="utf-8", errors="backslashreplace")


def _installed(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return "not installed"
