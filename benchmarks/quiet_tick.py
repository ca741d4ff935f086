"""Ticks of the sensor over 5,000 days x 10 assets, all committed: with nothing to do, and with 100,000 new files.

Prints seconds and the ratio to a floor measured in the same run: listing the archive, a stat of every raw file (in a
bucket, listing it) and reading the last commit records, with nothing made of them. `--days`, `--files` and `--ticks`
change the size. `--servers`: raw files in a bucket and tables in PostgreSQL, those of the tests (ETL_TEST_POSTGRES,
ETL_TEST_S3 and the AWS_ variables).
"""

from __future__ import annotations

import argparse
import gc
import io
import os
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from pathlib import Path

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq

from etl_project import settings, utc
from etl_project.declare import warehouse
from etl_project.due.attempts import bury_the_dead
from etl_project.due.pending import Node
from etl_project.due.sensor import decide
from etl_project.due.snapshot import Project, look
from etl_project.settings import Settings
from etl_project.sources.intake import archive
from etl_project.sources.spec import SourceColumn, SourceSpec
from etl_project.storage.contract import Commit, input_hash
from etl_project.storage.judging.commits import to_json

FIRST = date(2011, 1, 1)
"""No day before the first one of the settings is ever due."""
TABLES = ("shop", *(f"table_{n}" for n in range(6)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--days", type=int, default=5000)
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--ticks", type=int, default=5)
    parser.add_argument("--servers", action="store_true")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if chosen.servers:
            on_servers(Path(folder) / "servers")
        project = make(Path(folder), chosen.days)
        gc.freeze()  # As the project does once it is loaded.
        with dg.DagsterInstance.ephemeral() as instance:

            def tick() -> None:
                bury_the_dead(instance)
                snapshot = look(project, utc.now(), wait=False)
                requests, held = decide(project, snapshot, instance)
                assert not requests and not held, "something is due"

            first, _ = timed(tick)
            quiet, quiet_cpu = map(min, zip(*(timed(tick) for _ in range(chosen.ticks)), strict=True))
            floor, floor_cpu = map(min, zip(*(timed(lambda: bare(project)) for _ in range(chosen.ticks)), strict=True))
            drop(project, chosen.files, chosen.days)
            began = time.perf_counter()
            requests, _ = decide(project, look(project, utc.now(), wait=False), instance)
            busy = time.perf_counter() - began
    where = ", bucket and PostgreSQL" if chosen.servers else ""
    print(f"{chosen.days} days x {len(project.nodes)} assets, all committed{where}")
    print(f"first tick {first:.2f} s, quiet tick {quiet:.2f} s, floor {floor:.2f} s, ratio {quiet / floor:.2f}")
    print(f"of this process's processor time: quiet tick {quiet_cpu:.2f} s, floor {floor_cpu:.2f} s")
    print(f"a tick that finds {chosen.files} new files: {busy:.2f} s, asks for {len(requests)} runs")


def timed(call: Callable[[], None]) -> tuple[float, float]:
    """Seconds, and seconds of this process's processor time: the second holds on a machine that others use."""
    began, cpu = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - began, time.process_time() - cpu


def on_servers(folder: Path) -> None:
    """The settings of a deployment whose raw files and tables are on the servers of the tests."""
    from etl_project_tests import postgres, s3  # Need extras.

    gc.enable()  # Tests do without while they are loaded.
    os.environ |= {"ETL_LAKE": s3.url_of(folder), "ETL_WAREHOUSE": postgres.plain_url_of(folder)}


def put(configured: Settings, files: dict[str, bytes]) -> None:
    """Into the lake, a folder or a bucket."""
    if configured.lake_url is not None:
        from etl_project.storage.lake import address  # Need an extra.
        from etl_project.storage.lake.objects import Objects

        objects = Objects(address.of(configured.lake_url))
        with ThreadPoolExecutor(8) as several:
            list(several.map(lambda one: objects.put(one[0], one[1], None), files.items()))
        return
    for key, content in files.items():
        path = Path(configured.lake) / key
        path.parent.mkdir(parents=True)
        path.write_bytes(content)


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
    commits, files = [], {}
    (configured.incoming / "shop").mkdir(parents=True)
    for n in range(days):
        day = FIRST + timedelta(days=n)
        version = archive.day_folder(configured.archive, spec, day) / f"{day}.csv" / f"000001-{n:064x}"
        version.parent.mkdir(parents=True)
        version.write_text("id\n1\n")
        accepted = archive.fingerprint(archive.accepted(configured.archive, spec, day))
        raw = commit("raw_shop", day, [("shop_files", accepted)])
        file, table = io.BytesIO(), pa.table({"id": [1]}).replace_schema_metadata({"etl_commit": to_json(raw)})
        pq.write_table(table, file)
        files[f"raw_shop/batch_date={day}/data.parquet"] = file.getvalue()
        commits.append(commit("shop_rejects", day, [("shop_files", accepted)]))
        commits.append(shop := commit("shop", day, [("raw_shop", raw.fingerprint)]))
        commits += [commit(name, day, [("shop", shop.fingerprint)]) for name in TABLES[1:]]
    put(configured, files)
    store = warehouse(configured)
    with store.connect() as connection:
        connection.begin()
        records = store.engine.records(connection)
        records.prepare()
        records.claim(commits)
        connection.commit()
    return Project(configured, (spec,), nodes)


def drop(project: Project, files: int, days: int) -> None:
    """Small files in the drop folder, for every other day."""
    folder = project.settings.incoming / "shop"
    for n in range(files):
        day = FIRST + timedelta(days=2 * n % days)
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
    places = [configured.archive / "shop"]
    if configured.lake_url is None:
        places.append(Path(configured.lake) / "raw_shop")
    else:
        from etl_project.storage.lake import address  # Need an extra.
        from etl_project.storage.lake.objects import Objects

        list(Objects(address.of(configured.lake_url)).below("raw_shop"))
    for place in places:
        pending = [os.fspath(place)]
        while pending:
            with os.scandir(pending.pop()) as entries:
                for entry in entries:
                    if entry.is_dir():
                        pending.append(entry.path)
                    elif place.name == "raw_shop":
                        entry.stat()
    store = warehouse(configured)
    with store.look() as connection:
        assert connection is not None
        connection.execute(
            "select asset, partition_key, input_hash, fingerprint, committed_at "
            f"from {store.engine.records(connection).name} "
            "qualify row_number() over (partition by asset, partition_key order by sequence desc) = 1"
        ).to_arrow_table()


if __name__ == "__main__":
    main()
