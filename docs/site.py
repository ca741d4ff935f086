"""The documentation as a site: the pages of docs/, and a reference made of the code itself.

Belongs here: what a page needs to stand on a site (links that lead out of docs/), and the pages that nobody has to
write because the code says it: the commands with their options, the keys of `defs.yaml`, the public names. Does not
belong here: text. `make docs` runs it; everything it makes lies in build/, nothing of it is committed.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
MADE = ROOT / "build" / "docs"
_LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")
_API = {
    "etl_project.declare.daily_table": ["daily_table", "single_run"],
    "etl_project.sources.component": ["FileSource"],
    "etl_project.storage.dagster.file_io_managers": ["DuckDBPartitionIOManager", "ParquetPartitionIOManager"],
    "etl_project.storage.contract": ["Store", "Table", "Scope", "Slice", "Commit", "Head", "StoreBusy"],
    "etl_project.storage.engines.duckdb_file": ["DuckDBStore"],
    "etl_project.storage.lake.store": ["ParquetStore"],
    "etl_project.storage.dagster.partition_lock": ["PartitionLock"],
    "etl_project.exclusion.run_lock": ["RunLock"],
    "etl_project.failures": [],
}


def pages() -> dict[Path, Path]:
    """Every page that is written by hand, and where it stands on the site; the README is its home."""
    fixed = {ROOT / "README.md": "index.md", ROOT / "CONTRIBUTING.md": "contributing.md"}
    fixed |= {ROOT / "CHANGELOG.md": "changelog.md"}
    own = {page: str(page.relative_to(ROOT / "docs")) for page in sorted((ROOT / "docs").rglob("*.md"))}
    return {page: Path(place) for page, place in {**fixed, **own}.items()}


def on_site(page: Path, text: str, places: dict[Path, Path]) -> str:
    """The page with its links as they are on the site. What is no page of it (a source file) is named, not linked."""

    def link(found: re.Match[str]) -> str:
        mark, words, target = found.groups()
        if target.startswith(("http:", "https:", "#")):
            return found[0]
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve()
        place = places.get(file)
        if place is None and file.is_relative_to(ROOT / "docs") and file.is_file():
            place = file.relative_to(ROOT / "docs")
        if place is None and file.exists():
            return words
        if place is None:  # left as it is: the strict build names it
            return found[0]
        return f"{mark}[{words}]({os.path.relpath(place, places[page].parent)}{'#' + anchor if anchor else ''})"

    return _LINK.sub(link, text)


def commands() -> str:
    """Every command of `etl`, with its arguments and options, as its own help says it."""
    from typer.cli import get_docs_for_click  # noqa: PLC0415  # needs the project's own requirements
    from typer.main import get_command  # noqa: PLC0415

    from etl_project.cli.main import COMMANDS, app, load  # noqa: PLC0415

    group: Any = get_command(app)
    lines = ["# The `etl` command", "`etl --help` says the same."]
    with group.make_context("etl", [], resilient_parsing=True) as context:
        for name in COMMANDS:
            lines.append(get_docs_for_click(obj=load(name), ctx=context, indent=1, name=name, call_prefix="etl"))
    return "\n\n".join(lines)


def source_keys() -> str:
    """Every key of a source's `defs.yaml`: its type, what it is when it is not said, and what it does."""
    from etl_project.sources.component import FileSource  # noqa: PLC0415

    model: Any = FileSource.get_model_cls()
    schema = model.model_json_schema()
    for base in FileSource.__mro__:  # Dagster's schema leaves out what inherited keys say of themselves
        for key, field in getattr(base, "model_fields", {}).items():
            schema["properties"].get(key, {}).setdefault("description", field.description or "")
    lines = ["# Keys of `defs.yaml`", ""]
    lines += [
        "Under `attributes:` of a `type: etl_project.sources.component.FileSource`. Any value may also be a template,"
    ]
    lines += ['like `"{{ env.ZONE }}"`.', ""]
    lines += list(_table(schema))
    for name, part in schema.get("$defs", {}).items():
        lines += [f"## {name}", part.get("description", ""), "", *_table(part)]
    return "\n".join(lines)


def _table(schema: dict[str, Any]) -> Iterator[str]:
    yield from ("| key | type | default | what it does |", "| --- | --- | --- | --- |")
    needed = set(schema.get("required", []))
    fields = schema.get("properties", {})
    for key in sorted(fields, key=lambda key: key not in needed):
        field = fields[key]
        default = "**has to be said**" if key in needed else _default(field.get("default"))
        yield f"| `{key}` | {_type(field)} | {default} | {_cell(field.get('description', ''))} |"
    yield ""


def _type(field: dict[str, Any]) -> str:
    if "$ref" in field:
        name = str(field["$ref"]).rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "enum" in field:
        return ", ".join(f"`{one}`" for one in field["enum"])
    if "anyOf" in field:
        kinds = [_type(one) for one in field["anyOf"] if one.get("type") != "null"]
        # Every key may also be a template, which is a string: said once, above the table.
        return " or ".join(dict.fromkeys(kinds if kinds[-1] != "string" or len(kinds) == 1 else kinds[:-1]))
    if field.get("type") == "array":
        return f"list of {_type(field.get('items', {}))}"
    if field.get("type") == "object" and isinstance(field.get("additionalProperties"), dict):
        return f"map to {_type(field['additionalProperties'])}"
    return str(field.get("type", "any"))


def _default(value: Any) -> str:
    return "" if value is None or value in ("__DAGSTER_UNSET_DEFAULT__", "") else f"`{value}`"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def api() -> str:
    """What the docstrings say of the public names."""
    lines = ["# Python API"]
    for module, names in _API.items():
        lines += [f"\n::: {module}.{name}\n" for name in names] or [f"\n::: {module}\n"]
    return "\n".join(lines)


def decisions() -> str:
    """A list of the decisions, by their titles."""
    pages = (ROOT / "docs" / "decisions").iterdir()
    titles = {page.name: page.read_text(encoding="utf-8").split("\n", 1)[0] for page in pages}
    lines = [f"* [{title.removeprefix('# ')}]({name})" for name, title in sorted(titles.items())]
    return "\n".join(["# Decisions", "", "One short page each: what was chosen, instead of what, and why.", "", *lines])


def make() -> None:
    """Write the pages of the site into build/docs, over whatever an earlier call left there."""
    shutil.rmtree(MADE, ignore_errors=True)
    places = pages()
    shutil.copytree(ROOT / "docs", MADE, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    for page, place in places.items():
        (MADE / place).write_text(on_site(page, page.read_text(encoding="utf-8"), places), encoding="utf-8")
    (MADE / "reference").mkdir()
    made = {"reference/etl": commands(), "reference/defs": source_keys(), "reference/api": api()}
    for name, text in {**made, "decisions/index": decisions()}.items():
        (MADE / f"{name}.md").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    make()
    sys.exit(subprocess.run(["zensical", "build", "--strict", "--clean"], cwd=ROOT, check=False).returncode)
