"""Transforms that give other rows for the same input are caught; well-behaved ones never are.

Real Dagster runs on real stores. What differs from build to build in a real system (the clock, the scheduling of
threads, hash seeds) differs here by the number of the turn, so that it differs every time.
"""

# No `from __future__ import annotations` here: Dagster reads annotations as they stand.

import math
import random
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import pyarrow as pa
import pytest
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus

from etl_project import utc
from etl_project.declare.daily_table import daily
from etl_project.due import red_checks
from etl_project.due.execution import QUIET
from etl_project.proofs import reproducible
from etl_project.proofs.verify.targets import stored_assets
from etl_project.storage import DuckDBPartitionIOManager, ParquetPartitionIOManager, Slice, Sql, receipts_of
from etl_project.storage.contract import Commit, Deviation

RED = AssetCheckExecutionRecordStatus.FAILED
FIRST = date(2024, 1, 1)
DAILY = daily(FIRST)
DAYS = [FIRST + timedelta(days=n) for n in range(10)]
LINES = [(n, f"p{n % 7}", f"c{n % 3}", 0.1 * n + 1e-9 * n**2, Decimal(n) / 8) for n in range(40)]

Row = dict[str, Any]


class World:
    """A store of lines and the assets built from them. `turn` stands for all that no build controls."""

    def __init__(self, folder: Path, instance: dg.DagsterInstance) -> None:
        self.turn = 0
        self.file: str | None = "version 1"
        self.extra = 0
        self.instance = instance
        self.resources = {
            "io_manager": DuckDBPartitionIOManager(url=str(folder / "w.duckdb"), schema="main"),
            "lake": ParquetPartitionIOManager(root=str(folder / "lake")),
        }

        @dg.asset(partitions_def=DAILY, backfill_policy=dg.BackfillPolicy.single_run(), code_version="1")
        def lines(context: dg.AssetExecutionContext) -> pa.Table:
            book = receipts_of(context.get_step_execution_context())
            for key in context.partition_keys:
                book.add("files", key, self.file)
            rows = [(day, *line) for day in utc.days_of(context) for line in LINES[self.extra :]]
            names = ["batch_date", "n", "product", "customer", "weight", "price"]
            return pa.Table.from_pylist([dict(zip(names, row, strict=True)) for row in self.shuffled(rows)])

        self.lines = lines

    def shuffled(self, rows: Sequence[Any]) -> list[Any]:
        """The rows as they come from threads: in another order every turn."""
        mixed = list(rows)
        random.Random(self.turn).shuffle(mixed)
        return mixed

    def definitions(self, assets: Sequence[Any], version: str = "1") -> dg.Definitions:
        alike = [a.map_asset_specs(lambda spec: spec.replace_attributes(code_version=version)) for a in assets]
        plain = dg.Definitions(assets=[self.lines, *alike], executor=dg.in_process_executor)
        checks = reproducible.checks(stored_assets(plain, self.resources))
        return dg.Definitions.merge(plain, dg.Definitions(asset_checks=checks, resources=self.resources))

    def built(
        self,
        definitions: dg.Definitions,
        days: Sequence[date] = DAYS[:1],
        **more: Any,
    ) -> dict[str, dg.AssetCheckEvaluation]:
        """Build everything over these days, one turn later; the result of each check."""
        self.turn += 1
        job = definitions.resolve_implicit_global_asset_job_def()
        tags = utc.run_tags(days[0], days[-1])
        done = job.execute_in_process(instance=self.instance, tags=tags, run_config={**QUIET, **more})
        assert done.success
        return {e.asset_key.to_user_string(): e for e in done.get_asset_check_evaluations()}

    def red_days(self) -> set[str | None]:
        """The days on which the check of the picks is red, as the UI and `etl status` have them."""
        key = dg.AssetCheckKey(dg.AssetKey("picks"), reproducible.NAME)
        shown = self.instance.event_log_storage.get_asset_check_partition_info([key])
        red = {one.partition_key for one in shown if one.latest_execution_status is RED and one.is_current} - {None}
        assert red == {check.partition for check in red_checks(self.instance, [key])}
        return red

    def commits(self) -> dict[tuple[str, str | None], Commit]:
        stores = [manager.store() for manager in self.resources.values()]
        return {key: commit for store in stores for key, commit in store.last_commits().items()}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    (tmp_path / "home").mkdir()
    with dg.DagsterInstance.ephemeral(str(tmp_path / "home")) as instance:
        yield World(tmp_path, instance)


def by_sql(name: str, query: str, **options: Any) -> dg.AssetsDefinition:
    """A table by a query over the lines."""

    @dg.asset(name=name, partitions_def=DAILY, backfill_policy=dg.BackfillPolicy.single_run(), **options)
    def table(lines: Slice) -> Sql:
        return Sql(query, lines=lines)

    return table


def by_python(
    world: World, name: str, rows_of: Callable[[list[Row]], list[Row]], schema: dict[str, Any], **options: Any
) -> dg.AssetsDefinition:
    """A table by a function over the lines of each day, which come in another order every turn."""
    columns = pa.schema([("batch_date", pa.date32()), *schema.items()])

    @dg.asset(name=name, partitions_def=DAILY, backfill_policy=dg.BackfillPolicy.single_run(), **options)
    def table(context: dg.AssetExecutionContext, lines: pa.Table) -> pa.Table:
        everything = world.shuffled(lines.to_pylist())
        made = []
        for day in utc.days_of(context):
            rows = rows_of([row for row in everything if row["batch_date"] == day])
            made += [{"batch_date": day, **row} for row in rows]
        return pa.Table.from_pylist(made, schema=columns)

    return table


class Seeded(str):
    """A text whose hash depends on the turn, as that of every text does on PYTHONHASHSEED."""

    turn = 0

    def __hash__(self) -> int:
        return hash((Seeded.turn, str(self)))

    def __eq__(self, other: object) -> bool:
        return str(self) == str(other)


def products_in_set_order(world: World) -> Callable[[list[Row]], list[Row]]:
    def rows(lines: list[Row]) -> list[Row]:
        Seeded.turn = world.turn
        products = {Seeded(line["product"]) for line in sorted(lines, key=lambda line: line["n"])}
        return [{"position": n, "product": str(product)} for n, product in enumerate(products)]

    return rows


def weights_summed_as_they_come(lines: list[Row]) -> list[Row]:
    """The last digit depends on the order: thread order, in real life."""
    return [{"weight": sum(1 / (line["n"] + 3) for line in lines)}]


def ranked(lines: list[Row]) -> list[Row]:
    """Ranks within a customer, by product only: lines of one product are ties."""
    counts: dict[str, int] = {}
    made = []
    for line in sorted(lines, key=lambda line: (line["customer"], line["product"])):
        counts[line["customer"]] = counts.get(line["customer"], 0) + 1
        made.append({"n": line["n"], "rank": counts[line["customer"]]})
    return made


KEYED = "CREATE TABLE {} (batch_date DATE, position BIGINT, product VARCHAR, PRIMARY KEY (batch_date, position))"

BAD: dict[str, tuple[Callable[[World], dg.AssetsDefinition], set[str]]] = {
    "clock": (lambda w: by_sql("clock", "select batch_date, n, now() as loaded_at from lines"), {"loaded_at"}),
    "dice": (lambda w: by_sql("dice", "select batch_date, n, random() as score from lines"), {"score"}),
    "picks": (
        lambda w: by_python(
            w, "picks", lambda lines: [{"n": line["n"]} for line in lines[:3]], {"n": pa.int64()}, io_manager_key="lake"
        ),
        {"n"},
    ),
    "set_order": (
        lambda w: by_python(
            w,
            "set_order",
            products_in_set_order(w),
            {"position": pa.int64(), "product": pa.string()},
            metadata={"contract_sql": KEYED.format("set_order")},
        ),
        {"product"},
    ),
    "float_sums": (
        lambda w: by_python(w, "float_sums", weights_summed_as_they_come, {"weight": pa.float64()}),
        {"weight"},
    ),
    "ranks": (lambda w: by_python(w, "ranks", ranked, {"n": pa.int64(), "rank": pa.int64()}), {"rank"}),
}


def test_six_kinds_of_transforms_that_are_not_reproducible_are_all_caught_by_name(world: World) -> None:
    definitions = world.definitions([make(world) for make, _ in BAD.values()])
    first = world.built(definitions)
    assert all(evaluation.passed for evaluation in first.values()), first
    second = world.built(definitions)
    assert {name for name, evaluation in second.items() if not evaluation.passed} == set(BAD)
    commits = world.commits()
    for name, (_, columns) in BAD.items():
        found = commits[name, str(FIRST)].deviation
        assert found is not None and set(found.columns) == columns and 0 < len(found.examples) <= 5, found
        assert second[name].severity == dg.AssetCheckSeverity.ERROR
        said = str(second[name].description)
        assert all(part in said for part in (str(FIRST), f"columns that differ: {', '.join(found.columns)}")), said


def sorted_products(lines: list[Row]) -> list[Row]:
    return [{"position": n, "product": p} for n, p in enumerate(sorted({line["product"] for line in lines}))]


def dice_with_a_seed(lines: list[Row]) -> list[Row]:
    dice = random.Random(str(lines[0]["batch_date"]))
    return [{"n": line["n"], "score": dice.random()} for line in sorted(lines, key=lambda line: line["n"])]


def pandas_groups(world: World) -> dg.AssetsDefinition:
    @dg.asset(partitions_def=DAILY, backfill_policy=dg.BackfillPolicy.single_run())
    def groups(lines: pd.DataFrame) -> pd.DataFrame:
        mixed = lines.sample(frac=1, random_state=world.turn)
        sums = mixed.groupby(["batch_date", "customer"], as_index=False).agg(price=("price", "sum"))
        columns = world.shuffled(list(sums.columns))
        return sums[columns]

    return groups


WHOLE_ORDER = "order by product, n"
GOOD: list[Callable[[World], dg.AssetsDefinition]] = [
    lambda w: by_sql("copied", "select * from lines"),
    lambda w: by_sql("sums", "select batch_date, customer, sum(price) as price from lines group by all"),
    lambda w: by_sql(
        "top", f"select * from lines qualify row_number() over (partition by batch_date {WHOLE_ORDER}) <= 3"
    ),
    lambda w: by_sql(
        "numbered", f"select *, row_number() over (partition by batch_date {WHOLE_ORDER}) as nth from lines"
    ),
    lambda w: by_sql("none_left", "select * from lines where n < 0"),
    pandas_groups,
    lambda w: by_python(w, "as_they_come", lambda rows: [{"n": row["n"]} for row in rows], {"n": pa.int64()}),
    lambda w: by_python(
        w, "sorted_set", sorted_products, {"position": pa.int64(), "product": pa.string()}, io_manager_key="lake"
    ),
    lambda w: by_python(
        w, "exact_float_sums", lambda rows: [{"w": math.fsum(row["weight"] for row in rows)}], {"w": pa.float64()}
    ),
    lambda w: by_python(w, "seeded", dice_with_a_seed, {"n": pa.int64(), "score": pa.float64()}),
    lambda w: by_python(
        w,
        "ids_by_content",
        lambda rows: [{"id": str(uuid.uuid5(uuid.NAMESPACE_OID, str(row["n"])))} for row in rows],
        {"id": pa.string()},
    ),
    lambda w: by_python(
        w,
        "odd_values",
        lambda rows: [{"x": x, "y": None} for x in (float("nan"), -0.0, None, 1.5, 1.5)],
        {"x": pa.float64(), "y": pa.string()},
        io_manager_key="lake",
    ),
]


@pytest.mark.long
def test_twelve_well_behaved_transforms_give_no_alarm_over_fifty_rebuilds(world: World) -> None:
    """Five turns over ten days each; then the input is corrected and every day has other rows, which is no alarm."""
    assert len(GOOD) == 12
    definitions = world.definitions([make(world) for make in GOOD])
    world.built(definitions, DAYS)
    seen = []
    for turn in range(7):
        if turn == 5:
            world.file, world.extra = "version 2", 4
        results = world.built(definitions, DAYS)
        assert all(evaluation.passed for evaluation in results.values()), results
        seen.append({key: commit.fingerprint for key, commit in world.commits().items()})
    assert seen[0] == seen[4] != seen[5] == seen[6]
    assert len(seen[6]) == 13 * len(DAYS)


def test_a_red_check_stays_red_until_three_rebuilds_repeat_the_rows(world: World) -> None:
    definitions = world.definitions([BAD["picks"][0](world)])
    world.built(definitions, DAYS[:2])
    world.built(definitions, DAYS[:2])
    assert world.built(definitions, DAYS[2:3])["picks"].passed
    assert world.red_days() == set(map(str, DAYS[:2])), "another day does not make these two good, nor they it bad"
    for repeats in range(4):  # The day alone comes in another order than among others, so the first repeats nothing.
        world.turn = 1
        assert world.built(definitions, DAYS[:1])["picks"].passed is (repeats == 3)
        assert world.red_days() == {str(day) for day in DAYS[repeats == 3 : 2]}
    for _ in range(4):
        world.turn = 50
        last = world.built(definitions, DAYS[1:2])["picks"]
    assert last.passed and world.red_days() == set(), last


def test_new_code_and_new_input_may_give_new_rows(world: World) -> None:
    picks = BAD["picks"][0](world)
    world.built(world.definitions([picks]))
    assert world.built(world.definitions([picks], version="2"))["picks"].passed
    world.file, world.extra = "version 2", 1
    assert world.built(world.definitions([picks], version="2"))["picks"].passed
    assert not world.built(world.definitions([picks], version="2"))["picks"].passed


def test_an_asset_over_other_rows_of_its_input_is_not_blamed_for_them(world: World) -> None:
    """The pick upstream is not reproducible; what is built from it is."""

    @dg.asset(partitions_def=DAILY)
    def after(picks: Slice) -> Sql:
        return Sql("select batch_date, sum(n) as total from picks group by all", picks=picks)

    definitions = world.definitions([BAD["picks"][0](world), after])
    world.built(definitions)
    results = world.built(definitions)
    assert not results["picks"].passed and results["after"].passed


def test_an_input_without_a_fingerprint_is_not_checked_which_is_no_pass(world: World) -> None:
    world.file = None
    definitions = world.definitions([])
    for _ in range(2):
        world.extra += 1
        found = world.built(definitions)["lines"]
        assert not found.passed and found.severity == dg.AssetCheckSeverity.WARN
        assert found.metadata["status"].value.startswith("not checked: an input of 1 of 1")


def test_an_asset_without_a_code_version_is_not_checked(world: World) -> None:
    plain = dg.Definitions(assets=[world.lines, by_sql("copied", "from lines")], executor=dg.in_process_executor)
    checks = reproducible.checks(stored_assets(plain, world.resources))
    definitions = dg.Definitions.merge(plain, dg.Definitions(asset_checks=checks, resources=world.resources))
    found = world.built(definitions)["copied"]
    assert not found.passed and found.metadata["status"].value == "not checked: the asset has no code version"


def test_a_first_build_passes_and_says_that_there_was_nothing_to_compare(world: World) -> None:
    definitions = world.definitions([])
    first, second = world.built(definitions)["lines"], world.built(definitions)["lines"]
    assert first.passed and first.metadata["status"].value == "first build"
    assert second.passed and second.metadata["status"].value == "reproducible"


def test_a_config_other_than_the_default_may_give_other_rows(world: World) -> None:
    class Rate(dg.Config):
        percent: int = 20

    @dg.asset(partitions_def=DAILY)
    def taxed(config: Rate, lines: pa.Table) -> pa.Table:
        return pa.table({"batch_date": pa.array([FIRST], pa.date32()), "tax": [config.percent]})

    definitions = world.definitions([taxed])
    for percent in (20, 19, 19, 20):
        assert world.built(definitions, ops={"taxed": {"config": {"percent": percent}}})["taxed"].passed


def test_every_output_of_a_multi_asset_has_a_check_of_its_own(world: World) -> None:
    @dg.multi_asset(
        outs={"sure": dg.AssetOut(), "unsure": dg.AssetOut(io_manager_key="lake")},
        partitions_def=DAILY,
        deps=["lines"],
    )
    def both() -> Any:
        table = pa.table({"batch_date": pa.array([FIRST], pa.date32()), "n": [1]})
        yield dg.Output(table, "sure")
        yield dg.Output(table.append_column("at", pa.array([datetime.now(UTC)])), "unsure")

    definitions = world.definitions([both])
    world.built(definitions)
    results = world.built(definitions)
    assert results["sure"].passed and not results["unsure"].passed
    assert results["unsure"].metadata["columns"].value == "at"


def test_the_event_of_a_day_that_is_not_reproducible_says_so(world: World) -> None:
    definitions = world.definitions([BAD["dice"][0](world)])
    for _ in range(2):
        world.built(definitions, DAYS[:2])
    event = world.instance.get_latest_materialization_event(dg.AssetKey("dice"))
    assert event is not None and event.asset_materialization is not None
    assert str(event.asset_materialization.metadata["not reproducible"].value).startswith("columns that differ: score")


def test_the_verdict_lists_some_days_and_counts_the_others() -> None:
    at = datetime(2024, 1, 1, tzinfo=UTC)
    good = Commit("a", "2024-01-01", 2, "r", "v", "h", "1:1:2", 1, 1, 0, 0, 1, True, at)
    red = [
        replace(good, partition=f"2024-02-{n:02}", deviation=Deviation("1:1:1", ("x",), (), None)) for n in range(1, 16)
    ]
    result = reproducible.result([good, *red])
    assert not result.passed and result.metadata["partitions not reproducible"].value == 15
    assert "2024-02-10: columns that differ: x" in str(result.description) and "and 5 more" in str(result.description)
    assert reproducible.result([]).severity == dg.AssetCheckSeverity.WARN
