"""Transforms that are reproducible and transforms that are not, and a world in which that shows.

What differs from build to build in a real system (the clock, the scheduling of threads, hash seeds) differs here by
the number of the turn, so that it differs every time.
"""

# No `from __future__ import annotations` here: Dagster reads annotations as they stand.

import hashlib
import math
import random
import uuid
from collections.abc import Callable, Sequence
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import pyarrow as pa
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus

from etl_project import utc
from etl_project.declare.daily_table import daily
from etl_project.due import red_checks
from etl_project.due.execution import QUIET
from etl_project.proofs import reproducible
from etl_project.proofs.verify.targets import stored_assets
from etl_project.storage import DuckDBPartitionIOManager, ParquetPartitionIOManager, Slice, Sql, receipts_of
from etl_project.storage.contract import Commit

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
    """A text whose hash depends on the turn, as that of every text does on PYTHONHASHSEED, and on nothing else: by the
    seed of a process one turn in a hundred would have the same order."""

    turn = 0

    def __hash__(self) -> int:
        return int.from_bytes(hashlib.sha256(f"{Seeded.turn} {self}".encode()).digest()[:7])

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
