"""Looking at the versions of a day: through the commands, through the IO manager, through a run."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg
import pandas as pd
import pyarrow as pa
import pytest

from etl_project import settings
from etl_project.cli import history, show
from etl_project.cli.main import load
from etl_project.declare.daily_table import daily
from etl_project.failures import EtlError
from etl_project.proofs import chosen, listing, stored_assets
from etl_project.sources.component import FileSource
from etl_project.storage import DuckDBPartitionIOManager, ParquetPartitionIOManager, checked
from etl_project.storage.contract import ReadRefused, Request, Scope, input_hash
from etl_project.storage.dagster.scopes import UnsupportedAsset

DAY, DATE = "2024-01-01", date(2024, 1, 1)


class World:
    """An asset `orders` that keeps two versions, with as many commits as it is built; `kind` says where."""

    def __init__(self, folder: Path, kind: str) -> None:
        self.values = [1]
        self.seen: list[Any] = []
        partitions = daily(DATE)

        @dg.asset(partitions_def=partitions, metadata={"keep_versions": 2})
        def orders() -> pd.DataFrame:
            return pd.DataFrame({"batch_date": [DATE] * len(self.values), "n": self.values, "c": "x|y"})

        @dg.asset(partitions_def=partitions, ins={"orders": dg.AssetIn(metadata={"as_of": 1})})
        def copied(orders: pd.DataFrame) -> pd.DataFrame:
            self.seen.append(sorted(orders["n"]))
            return orders

        place = {"duckdb": {"url": str(folder / "w.duckdb")}, "parquet": {"root": str(folder / "lake")}}[kind]
        manager = {"duckdb": DuckDBPartitionIOManager, "parquet": ParquetPartitionIOManager}[kind]
        self.assets = [orders, copied]
        self.resources = {"io_manager": manager(**place)}
        self.definitions = dg.Definitions(assets=self.assets, resources=self.resources)

    def commit(self, value: int) -> None:
        """A commit of `orders` outside of a run."""
        rows = pa.table({"batch_date": pa.array([DATE], pa.date32()), "n": [value], "c": ["x|y"]})
        self.target.store.replace(self.target.table, Scope.days(DATE, DATE), rows, Request("a run"))

    def build(self, asset: str, *values: int) -> None:
        self.values = list(values)
        selection = [asset]
        assert dg.materialize(self.assets, resources=self.resources, partition_key=DAY, selection=selection).success

    @property
    def target(self) -> Any:
        return chosen(stored_assets(self.definitions), ["orders"])[0]


@pytest.fixture(params=["duckdb", "parquet"], scope="module")
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> World:
    """Four commits; nobody writes after that."""
    made = World(tmp_path_factory.mktemp("world"), request.param)
    for value in (1, 2, 3, 4):
        made.commit(value)
    return made


@pytest.fixture
def say(world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs a command and gives what it says."""

    @contextmanager
    def opened() -> Iterator[Any]:
        yield SimpleNamespace(definitions=world.definitions)

    for module in (history, show):
        monkeypatch.setattr(module, "opened", opened)

    def run(name: str, *arguments: str) -> str:
        load(name).main(list(arguments), standalone_mode=False)
        return capsys.readouterr().out

    return run


def test_every_commit_is_listed_with_where_its_rows_are(world: World) -> None:
    assert [(one.sequence, one.where) for one in listing(world.target, DAY)] == [
        *((4, "current"), (3, "kept"), (2, "kept"), (1, "gone"))
    ]


def test_history_says_of_each_commit_what_changed(say: Callable[..., str]) -> None:
    found = json.loads(say("history", "orders", "--day", DAY, "--json"))
    assert [(one["sequence"], one["rows_are"], one["rows_added"], one["rows_removed"]) for one in found] == [
        *((4, "current", 1, 1), (3, "kept", 1, 1), (2, "kept", 1, 1), (1, "gone", 1, 0))
    ]
    assert "current" in say("history", "orders", "--day", DAY)


def test_show_reads_what_a_commit_left(say: Callable[..., str]) -> None:
    assert say("show", "orders", "--day", DAY, "--csv") == f"batch_date,n,c\n{DAY},4,x|y\n"
    assert say("show", "orders", "--day", DAY, "--csv", "--at", "2") == f"batch_date,n,c\n{DAY},2,x|y\n"
    assert "0 of 1 rows" in say("show", "orders", "--day", DAY, "--at", "3", "--limit", "0")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("show", "orders", "--day", DAY, "--at", "1"), "the rows of commit 1 were replaced and are not kept"),
        (("show", "orders", "--day", DAY, "--at", "9"), "there is no commit 9; there are 1, 2, 3, 4"),
        (("show", "orders"), "name one, like --day 2025-03-20"),
        (("history", "orders", "--day", "2024-01-02"), "was never committed for 2024-01-02"),
        (("history", "orders", "--day", "01.02.2024"), "has no partition '01.02.2024'"),
        (("history", "nothing"), "There is no stored asset 'nothing'"),
    ],
)
def test_what_is_not_there_is_one_clear_line(say: Callable[..., str], arguments: tuple[str, ...], said: str) -> None:
    with pytest.raises(EtlError, match=said):
        say(*arguments)


def test_an_input_can_be_read_as_of_a_commit_that_is_kept(tmp_path: Path) -> None:
    world = World(tmp_path, "duckdb")
    world.commit(1)
    world.commit(2)
    world.build("copied")
    assert world.seen == [[1]]
    [commit] = chosen(stored_assets(world.definitions), ["copied"])[0].store.history("copied", DAY)
    head = world.target.store.history("orders", DAY)[-1]
    # What is asked for follows the input as it is now, or the day would be due for ever.
    assert commit.input_hash == input_hash([("orders", DAY, head.fingerprint)])


@pytest.mark.parametrize("kind", ["duckdb", "parquet"])
def test_a_notebook_reads_a_moment(tmp_path: Path, kind: str) -> None:
    world = World(tmp_path, kind)
    world.commit(1)
    at = world.target.store.history("orders", DAY)[-1].committed_at.isoformat()
    world.commit(2)

    def read(as_of: Any) -> list[int]:
        found = world.definitions.load_asset_value("orders", partition_key=DAY, metadata={"as_of": as_of})
        return list(found["n"])

    assert (read(at), read(1), read(2)) == ([1], [1], [2])
    for wrong in ("2024-01-01", "yesterday", True, 1.5):
        with pytest.raises(ReadRefused, match="neither the number of a commit, like 3, nor a time with its offset"):
            read(wrong)


@pytest.mark.parametrize("wrong", [-1, "3", True, 1.5, 10**6, "0d", "3 days", "30D", "-2w"])
def test_a_wrong_number_of_versions_is_refused_when_definitions_load(tmp_path: Path, wrong: Any) -> None:
    @dg.asset(metadata={"keep_versions": wrong})
    def orders() -> None: ...

    @dg.asset(metadata={"keep_versions": wrong})
    def stored() -> pd.DataFrame: ...

    manager = DuckDBPartitionIOManager(url=str(tmp_path / "w.duckdb"))
    with pytest.raises(
        UnsupportedAsset, match=r"keep_versions is .*, not a number from 0 to 1000, like 3, or an age, like 30d"
    ):
        checked(dg.Definitions(assets=[orders, stored], resources={"io_manager": manager}))


def test_the_setting_of_the_project_holds_where_an_asset_says_nothing(tmp_path: Path) -> None:
    configured = settings.load({"ETL_DATA_DIR": str(tmp_path), "ETL_KEEP_VERSIONS": "5"})
    manager = DuckDBPartitionIOManager(url=str(tmp_path / "w.duckdb"), keep_versions=configured.keep_versions)
    silent, own = dg.AssetSpec("a"), dg.AssetSpec("b", metadata={"keep_versions": 0})
    assert (manager.table(silent).keep_versions, manager.table(own).keep_versions) == (5, 0)
    aged = settings.load({"ETL_DATA_DIR": str(tmp_path), "ETL_KEEP_VERSIONS": "8w"})
    days = DuckDBPartitionIOManager(
        url=str(tmp_path / "w.duckdb"),
        keep_versions=aged.keep_versions,
        keep_versions_days=aged.keep_versions_days,
    )
    by_age = dg.AssetSpec("c", metadata={"keep_versions": "30d"})
    found = [days.table(spec) for spec in (silent, own, by_age)]
    assert [(t.keep_versions, t.keep_versions_days) for t in found] == [(1000, 56), (0, None), (1000, 30)]
    with pytest.raises(settings.SettingsError, match="ETL_KEEP_VERSIONS='many' is no number of versions; write 0 to"):
        settings.load({"ETL_DATA_DIR": str(tmp_path), "ETL_KEEP_VERSIONS": "many"})


def test_a_source_says_it_for_every_table_of_its_folder() -> None:
    source = FileSource(name="shop", patterns=["shop_{date}.csv"], columns={"a": "a"}, keep_versions=4)
    specs = [dg.AssetSpec("silent"), dg.AssetSpec("own", metadata={"keep_versions": 0})]
    found = source._keeping_versions(dg.Definitions(assets=specs)).resolve_all_asset_specs()
    assert {spec.key.to_user_string(): spec.metadata["keep_versions"] for spec in found} == {"silent": 4, "own": 0}


def test_a_source_limits_what_a_rerun_may_change_in_its_table_alone() -> None:
    columns = {"shop": "shop", "amount": "amount"}
    source = FileSource(
        name="shop",
        patterns=["shop_{date}.csv"],
        columns=columns,
        max_changed_ratio=0.3,
        max_sum_change={"amount": 0.2},
    )
    found = source._limited(dg.Definitions(assets=[dg.AssetSpec("shop"), dg.AssetSpec("raw_shop")]))
    limits = {spec.key.to_user_string(): spec.metadata for spec in found.resolve_all_asset_specs()}
    assert limits["shop"]["max_sum_change"] == {"amount": 0.2} and "max_changed_ratio" not in limits["raw_shop"]
    manager = DuckDBPartitionIOManager(url="w.duckdb")
    table = manager.table(dg.AssetSpec("shop", metadata=limits["shop"]))
    assert (table.max_changed_ratio, table.max_sum_change) == (0.3, (("amount", 0.2),))
    for wrong in ({"max_sum_change": 0.2}, {"max_sum_change": {"amount": -1}}, {"max_changed_ratio": 2}):
        with pytest.raises(UnsupportedAsset, match=r"max_(sum_change|changed_ratio) is"):
            manager.table(dg.AssetSpec("shop", metadata=wrong))
