"""The code version changes with what an asset's rows depend on, and with nothing else."""

from __future__ import annotations

import py_compile
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import dagster as dg
import pytest

from etl_project.declare import code_version
from etl_project.declare.code_version import Module
from etl_project.definitions import load_project
from etl_project.sources import assets
from etl_project.sources.component import FileSource
from etl_project_tests import shop

FILES = {
    "shop/__init__.py": "",
    "shop/money.py": "from . import rounding\nRATE = 2\n",
    "shop/rounding.py": "def cut(x): return x\n",
    "shop/unused.py": "A = 1\n",
    "shop/orders/__init__.py": "",
    "shop/orders/assets.py": "import os, json\nfrom pandas import DataFrame\n"
    "def body():\n    from shop.money import RATE\n    return RATE\n",
    "shop/orders/checks.py": "B = 1\n",
    "shop/orders/report.sql": "select 1\n",
    "shop/orders/defs.yaml": "a: 1\n",
    "shop/orders/notes.md": "words\n",
    "shop/payments/__init__.py": "",
    "shop/payments/assets.py": "def other(): ...\n",
}


def lay_out(folder: Path) -> Path:
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def version(root: Path) -> str:
    module = Module("shop.orders.assets", root / "shop/orders/assets.py")
    return code_version.of_module(module, root / "shop/orders")


@pytest.mark.parametrize(
    "name",
    [
        "shop/orders/assets.py",
        "shop/orders/report.sql",
        "shop/orders/defs.yaml",
        "shop/money.py",
        "shop/rounding.py",
        "shop/__init__.py",
    ],
)
def test_a_change_of_what_the_asset_is_made_of_is_another_version(tmp_path: Path, name: str) -> None:
    before = version(lay_out(tmp_path))
    (tmp_path / name).write_text(FILES[name] + "# changed\n")
    changed = version(tmp_path)
    assert changed != before and version(tmp_path) == changed
    (tmp_path / name).write_text(FILES[name])
    assert version(tmp_path) == before


@pytest.mark.parametrize(
    "name",
    ["shop/unused.py", "shop/orders/checks.py", "shop/orders/notes.md", "shop/payments/assets.py", "pandas.py"],
)
def test_a_change_elsewhere_leaves_the_version_alone(tmp_path: Path, name: str) -> None:
    before = version(lay_out(tmp_path))
    (tmp_path / name).write_text("# changed\n")
    assert version(tmp_path) == before


def test_a_new_sql_file_or_a_renamed_one_is_another_version(tmp_path: Path) -> None:
    before = version(lay_out(tmp_path))
    (tmp_path / "shop/orders/report.sql").rename(tmp_path / "shop/orders/reports.sql")
    renamed = version(tmp_path)
    (tmp_path / "shop/orders/more.sql").write_text("select 2")
    assert len({before, renamed, version(tmp_path)}) == 3


def test_the_version_is_the_same_in_another_folder_with_other_line_ends_and_with_pyc_files(tmp_path: Path) -> None:
    before = version(lay_out(tmp_path / "one"))
    other = lay_out(tmp_path / "two" / "deep")
    for path in other.rglob("*.py"):
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
        py_compile.compile(str(path))
    assert version(other) == before


def test_nothing_is_imported_for_it(tmp_path: Path) -> None:
    lay_out(tmp_path)
    (tmp_path / "shop/money.py").write_text("raise SystemExit('was imported')\n")
    version(tmp_path)
    assert not any(name == "shop" or name.startswith("shop.") for name in sys.modules)


@pytest.mark.parametrize(
    "line",
    [
        'import importlib\nimportlib.import_module("shop.rounding")\n',
        'from importlib import import_module\nhalf = import_module("..rounding", __package__)\n',
        '__import__("shop.rounding")\n',
    ],
)
def test_a_module_that_is_imported_by_its_name_as_text_counts(tmp_path: Path, line: str) -> None:
    lay_out(tmp_path)
    (tmp_path / "shop/rounding.py").write_text("A = 1\n")
    assets = tmp_path / "shop/orders/assets.py"
    assets.write_text(line)
    before = version(tmp_path)
    (tmp_path / "shop/rounding.py").write_text("A = 2\n")
    assert version(tmp_path) != before


@pytest.mark.parametrize(
    "around",
    [
        "class A:\n  def f(self):\n    {}",
        "if 1: pass\nelif 2: {}",
        "for x in y: pass\nelse: {}",
        "try: pass\nexcept OSError: {}",
        "try: pass\nexcept* OSError: {}",
        "try: pass\nfinally: {}",
        "async def f():\n  async with x:\n    {}",
        "while 1: {}",
        "match x:\n  case 1: {}",
    ],
)
def test_an_import_counts_wherever_a_statement_can_stand(tmp_path: Path, around: str) -> None:
    lay_out(tmp_path)
    (tmp_path / "shop/orders/assets.py").write_text(around.format("import shop.unused") + "\n")
    before = version(tmp_path)
    (tmp_path / "shop/unused.py").write_text("A = 2\n")
    assert version(tmp_path) != before


def test_modules_that_import_each_other_and_ones_that_are_no_python_do_not_matter(tmp_path: Path) -> None:
    lay_out(tmp_path)
    (tmp_path / "shop/rounding.py").write_text("import shop.money\n")
    before = version(tmp_path)
    (tmp_path / "shop/rounding.py").write_text("this is (no python")
    assert version(tmp_path) != before


def test_another_version_of_a_library_is_another_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = version(lay_out(tmp_path))
    for library in ("duckdb", "pandas", "pyarrow"):
        monkeypatch.setattr(code_version, "version", lambda asked, name=library: "99" if asked == name else "1")
        seen, before = before, version(tmp_path)
        assert before != seen


def imported(root: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> Callable[[], object]:
    """A function of a module that was really imported; it is forgotten when the test ends."""
    monkeypatch.syspath_prepend(str(root))
    for loaded in [name, "shop", "shop.orders", "shop.payments"]:
        monkeypatch.delitem(sys.modules, loaded, raising=False)
    module = __import__(name, fromlist=["x"])
    for loaded in [known for known in sys.modules if known.split(".")[0] == "shop"]:
        monkeypatch.setitem(sys.modules, loaded, sys.modules[loaded])
    found: Callable[[], object] = next(v for v in vars(module).values() if callable(v) and v.__module__ == name)
    return found


def test_a_function_made_elsewhere_counts_with_all_python_of_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = imported(lay_out(tmp_path), "shop.payments.assets", monkeypatch)
    folder = tmp_path / "shop/orders"
    before = code_version.of_function(body, folder)
    (folder / "checks.py").write_text("B = 2\n")
    assert code_version.of_function(body, folder) != before


def test_an_asset_whose_source_is_in_no_file_has_no_version() -> None:
    space: dict[str, Callable[[], object]] = {}
    exec("def body(): ...", {"__name__": "nowhere"}, space)  # noqa: S102
    assert code_version.of_function(space["body"]) is None


def test_assets_that_say_nothing_get_a_version_and_those_that_do_keep_theirs() -> None:
    @dg.asset
    def silent() -> int:
        return 1

    @dg.asset(code_version="mine")
    def outspoken() -> int:
        return 1

    @dg.multi_asset(specs=[dg.AssetSpec("one"), dg.AssetSpec("two", code_version="its own")])
    def several(): ...  # No annotation: Dagster would read it as it stands.

    filled = code_version.filled_in(dg.Definitions(assets=[silent, outspoken, several]))
    versions = {spec.key.to_user_string(): spec.code_version for spec in filled.resolve_all_asset_specs()}
    ours = code_version.of_function(test_nothing_is_imported_for_it)
    assert versions == {"silent": ours, "outspoken": "mine", "one": ours, "two": "its own"} and ours is not None


def test_every_asset_of_the_project_has_one_and_pipelines_do_not_share_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ETL_DATA_DIR", str(tmp_path))
    project, _ = load_project()
    versions = {node.asset: node.code_version for node in project.nodes}
    assert all(versions.values())
    assert versions["daily_sales"] == versions["daily_report"] != versions["orders"] == versions["raw_orders"]


def source_version(folder: Path, **settings: object) -> str | None:
    """The code version of the raw rows of a source with these settings."""
    (folder / "contract.sql").write_text("CREATE TABLE notes (batch_date DATE NOT NULL, id BIGINT, twice BIGINT)")
    declared = {"name": "notes", "patterns": ["{date}.csv"], "columns": {"id": "id"}, "computed": {"twice": "2 * id"}}
    source = FileSource(**{**declared, **settings})
    made = assets.definitions(source.spec(folder), source.contract(folder), source, folder)
    specs = [spec for asset in made.assets or () if isinstance(asset, dg.AssetsDefinition) for spec in asset.specs]
    (raw,) = (spec for spec in specs if spec.key == dg.AssetKey("raw_notes"))
    return raw.code_version


def test_what_the_settings_of_a_source_come_to_is_part_of_its_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its YAML may take them from the environment, and then has the same text for all of them."""
    plain = source_version(tmp_path)
    others = [
        source_version(tmp_path, time_zone="Europe/Berlin"),
        source_version(tmp_path, max_rejected_ratio=0.5),
        source_version(tmp_path, computed={"twice": "3 * id"}),
    ]
    monkeypatch.setenv("ETL_SETTLE_SECONDS", "7")
    assert source_version(tmp_path) == source_version(tmp_path) == plain
    monkeypatch.setenv("ETL_START_DATE", "2020-02-02")
    others.append(source_version(tmp_path))
    assert len({plain, *others}) == 5


def test_another_pipeline_is_no_part_of_this_ones_version(tmp_path: Path) -> None:
    ours = Path(code_version.__file__).parent.parent
    copy = tmp_path / "etl_project"
    shutil.copytree(ours, copy, ignore=shutil.ignore_patterns("__pycache__", "pipelines"))
    shutil.copytree(Path(shop.__file__).parent, copy / "pipelines")

    def sales() -> str:
        folder = copy / "pipelines/orders"
        return code_version.of_module(Module("etl_project.pipelines.orders.assets", folder / "assets.py"), folder)

    before = sales()
    for other in ("pipelines/payments/assets.py", "incoming/judge.py", "storage/payload.py", "assets.py"):
        (copy / other).write_text("# changed\n")
    assert sales() == before
    (copy / "pipelines/orders/chart.py").write_text("# changed\n")
    assert sales() != before
