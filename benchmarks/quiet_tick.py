"""Ticks of the sensor over 5,000 days x 10 assets, all committed: with nothing to do, and with 100,000 new files.

Prints seconds and the ratio to a floor measured in the same run: listing the archive, a stat of every raw file and
reading the last commit records, with nothing made of them. `--days`, `--files` and `--ticks` change the size.
"""

from __future__ import annotations

import argparse
import gc
import os
import tempfile
import time
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

import dagster as dg
import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from etl_project import settings, utc
from etl_project.due.attempts import bury_the_dead
from etl_project.due.pending import Node
from etl_project.due.sensor import decide
from etl_project.due.snapshot import Project, look
from etl_project.sources.intake import archive
from etl_project.sources.spec import SourceColumn, SourceSpec
from etl_project.storage.contract import Commit, input_hash
from etl_project.storage.judging.commits import claim, prepare, to_json

TABLES = ("shop", *(f"table_{n}" for n in range(6)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--days", type=int, default=5000)
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--ticks", type=int, default=5)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        project = make(Path(folder), chosen.days)
        gc.freeze()  # As the project does once it is loaded.
        with dg.DagsterInstance.ephemeral() as instance:

            def tick() -> None:
                bury_the_dead(instance)
                snapshot = look(project, utc.now(), wait=False)
                requests, held = decide(project, snapshot, instance)
                assert not requests and not held, "something is due"

            first = timed(tick)
            quiet = min(timed(tick) for _ in range(chosen.ticks))
            floor = min(timed(lambda: bare(project)) for _ in range(chosen.ticks))
            drop(project, chosen.files, chosen.days)
            began = time.perf_counter()
            requests, _ = decide(project, look(project, utc.now(), wait=False), instance)
            busy = time.perf_counter() - began
    print(f"{chosen.days} days x {len(project.nodes)} assets, all committed")
    print(f"first tick {first:.2f} s, quiet tick {quiet:.2f} s, floor {floor:.2f} s, ratio {quiet / floor:.2f}")
    print(f"a tick that finds {chosen.files} new files: {busy:.2f} s, asks for {len(requests)} runs")


def timed(call: Callable[[], None]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def make(folder: Path, days: int) -> Project:
    """A data folder in which every asset of every day is committed."""
    os.environ["ETL_DATA_DIR"] = str(folder)
    configured = settings.load()
    spec = SourceSpec(
        "shop", ("*{date}.csv",), {"id": "id"}, (SourceColumn("id", "INTEGER"),), date(2000, 1, 1), settle_seconds=0
    )
    nodes = (
        Node("shop_files", source="shop"),
        Node("raw_shop", ("shop_files",)),
        Node("shop_rejects", ("shop_files",)),
        Node("shop", ("raw_shop",)),
        *(Node(name, ("shop",)) for name in TABLES[1:]),
    )
    commits = []
    (configured.incoming / "shop").mkdir(parents=True)
    for n in range(days):
        day = date(2010, 1, 1) + timedelta(days=n)
        version = archive.day_folder(configured.archive, spec, day) / f"{day}.csv" / f"000001-{n:064x}"
        version.parent.mkdir(parents=True)
        version.write_text("id\n1\n")
        accepted = archive.fingerprint(archive.accepted(configured.archive, spec, day))
        raw = commit("raw_shop", day, [("shop_files", accepted)])
        path = configured.lake / "raw_shop" / f"batch_date={day}" / "data.parquet"
        path.parent.mkdir(parents=True)
        table = pa.table({"id": [1]}).replace_schema_metadata({"etl_commit": to_json(raw)})
        pq.write_table(table, path)
        commits.append(commit("shop_rejects", day, [("shop_files", accepted)]))
        commits.append(shop := commit("shop", day, [("raw_shop", raw.fingerprint)]))
        commits += [commit(name, day, [("shop", shop.fingerprint)]) for name in TABLES[1:]]
    with duckdb.connect(str(configured.warehouse)) as connection:
        prepare(connection)
        claim(connection, commits)
    return Project(configured, (spec,), nodes)


def drop(project: Project, files: int, days: int) -> None:
    """Small files in the drop folder, for every other day."""
    folder = project.settings.incoming / "shop"
    for n in range(files):
        day = date(2010, 1, 1) + timedelta(days=2 * n % days)
        path = folder / f"{n:06d}" / f"{day}.csv"
        path.parent.mkdir()
        path.write_text("id\n2\n")


def commit(asset: str, day: date, read: list[tuple[str, str]]) -> Commit:
    seen = input_hash((up, day.isoformat(), fingerprint) for up, fingerprint in read)
    fingerprint = f"{hash((asset, day)) & (2**128 - 1):032x}"
    at = utc.now()
    return Commit(
        asset=asset,
        partition=day.isoformat(),
        sequence=1,
        run_id="run",
        code_version="code",
        input_hash=seen,
        fingerprint=fingerprint,
        rows_before=0,
        rows=1,
        rows_added=1,
        rows_removed=0,
        rows_kept=0,
        changed=True,
        committed_at=at,
    )


def bare(project: Project) -> None:
    """Everything that has to be looked at, looked at."""
    configured = project.settings
    for place in ("archive/shop", "lake/raw_shop"):
        pending = [os.fspath(configured.data_dir / place)]
        while pending:
            with os.scandir(pending.pop()) as entries:
                for entry in entries:
                    if entry.is_dir():
                        pending.append(entry.path)
                    elif place.startswith("lake"):
                        entry.stat()
    with duckdb.connect(str(configured.warehouse), read_only=True) as connection:
        connection.execute(
            "select asset, partition_key, input_hash, fingerprint, committed_at from etl_commits "
            "qualify row_number() over (partition by asset, partition_key order by sequence desc) = 1"
        ).to_arrow_table()


if __name__ == "__main__":
    main()
