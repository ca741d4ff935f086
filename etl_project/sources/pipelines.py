"""Pipelines: the folders of a package of pipelines, loaded so that a mistake in one does not keep the others away.

Belongs here: finding the folders, loading their components, and telling a mistake in a `defs.yaml` or `contract.sql`
from an error of Python. Does not belong here: what becomes of the definitions (`definitions`).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType

import dagster as dg
from dagster.components.core.component_tree import ComponentTree

from etl_project import loading
from etl_project.sources import mistakes
from etl_project.sources.component import FileSource, folders_with_defs
from etl_project.sources.spec import SourceSpec


@dataclass(frozen=True)
class Source:
    """A declared source: its folder, what its YAML says, and what that comes to."""

    folder: Path
    component: FileSource
    spec: SourceSpec


class Pipelines:
    """The folders of a package. `broken`: what is wrong with those that cannot be loaded, each in one line."""

    def __init__(self, package: ModuleType, root: Path) -> None:
        self._package = package
        self._root = root
        self._whole = ComponentTree.from_module(defs_module=package, project_root=root)
        self._folder = self._whole.defs_module_path
        self.broken: dict[Path, str] = {}
        for folder in folders_with_defs(self._folder):
            if (wrong := mistakes.in_text(folder)) is not None:
                self.broken[folder] = wrong
        self._apart = bool(self.broken) or not self._can_be_read()
        self.sources = tuple(self._sources())

    def _can_be_read(self) -> bool:
        """Whether the tree of all folders can be read: a component that is none keeps it from that.

        What it was, the trees of the single folders say.
        """
        try:
            self._whole.find_root_decl()
        except Exception:  # noqa: BLE001
            return False
        return True

    def definitions(self) -> dg.Definitions:
        """Everything that the folders declare but the broken ones; those that turn out to be broken are noted."""
        if not (self._apart or self.broken):
            try:
                return _built(self._whole)
            except Exception:  # Which folder it was, and whether it is a mistake of its files, the parts tell.
                built = dg.Definitions.merge(*self._parts())
                if not self.broken:
                    raise
                return built
        return dg.Definitions.merge(*self._parts())

    def _sources(self) -> Iterator[Source]:
        for folder in folders_with_defs(self._folder):
            if folder in self.broken:
                continue
            try:
                component = self._tree_of(folder).load_component(folder)
                if isinstance(component, FileSource):
                    yield Source(folder, component, component.spec(folder))
            except Exception as error:  # noqa: BLE001  # Raised again unless it is a mistake of the files.
                self._note(folder, error)

    def _parts(self) -> Iterator[dg.Definitions]:
        for folder in sorted(path for path in self._folder.iterdir() if path.is_dir()):
            if folder in self.broken or folder.name.startswith((".", "_")):
                continue
            try:
                yield _without_tree(_built(self._tree(self._module(folder))))
            except Exception as error:  # noqa: BLE001  # Raised again unless it is a mistake of the files.
                self._note(folder, error)
        names = [path.stem for path in sorted(self._folder.glob("*.py")) if not path.stem.startswith("_")]
        modules = [import_module(f"{self._package.__name__}.{name}") for name in names]
        yield dg.load_definitions_from_modules(modules)

    def _note(self, folder: Path, error: Exception) -> None:
        line = mistakes.one_line(folder, error)
        if line is None:
            raise error
        self.broken[folder] = line

    def _tree_of(self, folder: Path) -> ComponentTree:
        """The tree of all folders reads every YAML: where that cannot be, each folder is a tree of its own."""
        return self._tree(self._module(folder)) if self._apart else self._whole

    def _tree(self, module: ModuleType) -> ComponentTree:
        return ComponentTree.from_module(defs_module=module, project_root=self._root)

    def _module(self, folder: Path) -> ModuleType:
        name = f"{self._package.__name__}.{folder.name}"
        return sys.modules.get(name) or import_module(name)


def _built(tree: ComponentTree) -> dg.Definitions:
    """What the tree declares; for the UI with the schemas of all types of components, a third of what loading takes."""
    return tree.build_defs(tree.defs_module_path) if loading.is_for_a_run() else tree.build_defs()


def _without_tree(built: dg.Definitions) -> dg.Definitions:
    """The definitions without the tree that they were loaded from: Dagster merges only one of those."""
    names = ("assets", "schedules", "sensors", "jobs", "resources", "executor", "loggers", "asset_checks", "metadata")
    return dg.Definitions(**{name: getattr(built, name) for name in names})


def buildable(definitions: dg.Definitions) -> tuple[dg.Definitions, list[str]]:
    """The definitions without the assets that read, directly or through others, one that is not among them; and these.

    Checks of such assets, and checks that read them, go with them.
    """
    assets = [one for one in definitions.assets or () if isinstance(one, dg.AssetsDefinition)]
    there = {key for one in assets for key in one.keys}
    found: set[dg.AssetKey] = set()
    while more := {
        key for one in assets if set(_read_by(one)) - (there - found) for key in one.keys if key not in found
    }:
        found |= more
    kept = [
        one
        for one in definitions.assets or ()
        if not (isinstance(one, dg.AssetsDefinition) and found.intersection(one.keys))
    ]
    checks = [one for one in definitions.asset_checks or () if set(_read_by(one)) <= there - found]
    names = ("schedules", "sensors", "jobs", "resources", "executor", "loggers", "metadata", "component_tree")
    rest = {name: getattr(definitions, name) for name in names}
    return dg.Definitions(assets=kept, asset_checks=checks, **rest), sorted(key.to_user_string() for key in found)


def _read_by(declared: dg.AssetsDefinition) -> Iterator[dg.AssetKey]:
    """What assets or checks read, but for each other; what a check is about is read, too."""
    yield from (key for key in declared.keys_by_input_name.values() if key not in declared.keys)
    yield from (dep.asset_key for spec in declared.specs for dep in spec.deps if dep.asset_key not in declared.keys)
    yield from (check.asset_key for check in declared.check_keys if check.asset_key not in declared.keys)
