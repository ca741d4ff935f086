"""One day in one CSV file of 1 GB: DuckDB's read_csv + COPY to Parquet beside the strict reading of the project.

    python benchmarks/incoming_one_gb.py [--megabytes 1024] [--rounds 3] [--ways ...]

All write one Parquet file of the same rows, each in a process of its own, in alternating rounds. The best round of each
counts; the ratios are of these, of CPU seconds too: those hold on a machine that others use.

* duckdb: read_csv + COPY, all cores, types guessed, nothing refused, nothing kept safe
* judge + COPY: the strict reading alone, written as DuckDB writes
* raw build: the strict reading of the archived file into the lake, as the raw asset does: fingerprint, commit record,
  fsync, rename
* receive: the step before it: hash, private copy, judgement of every row, fsync, rename into the archive
* receive + raw build: the whole way from the drop folder to the lake, which reads the file twice

What the strict reading does in addition to DuckDB's: every value held to the rules of the contract, file and line
number in every row, rejects with reason and raw text.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import resource
import subprocess
import sys
import tempfile
import time
from datetime import UTC, date, datetime
from pathlib import Path

import duckdb
import pyarrow as pa

from etl_project.sources.intake import admit, archive, scan
from etl_project.sources.reading import judge
from etl_project.sources.spec import SourceColumn, SourceSpec
from etl_project.storage.contract import Request, Scope, Table
from etl_project.storage.lake.store import ParquetStore

DAY = date(2024, 3, 5)
NAME = f"orders-{DAY}.csv"
SPEC = SourceSpec(
    name="orders",
    patterns=("*{date}*.csv",),
    columns={
        "InvoiceNo": "invoice_no",
        "StockCode": "stock_code",
        "Description": "description",
        "Quantity": "quantity",
        "InvoiceDate": "invoiced_at",
        "UnitPrice": "unit_price",
        "CustomerID": "customer_id",
        "Country": "country",
    },
    types=(
        SourceColumn("invoice_no", "VARCHAR", nullable=False),
        SourceColumn("stock_code", "VARCHAR", nullable=False),
        SourceColumn("description", "VARCHAR"),
        SourceColumn("quantity", "INTEGER", nullable=False),
        SourceColumn("invoiced_at", "TIMESTAMP WITH TIME ZONE", nullable=False),
        SourceColumn("unit_price", "DECIMAL(12,3)", nullable=False),
        SourceColumn("customer_id", "BIGINT"),
        SourceColumn("country", "VARCHAR", nullable=False),
    ),
    start_date=date(2024, 1, 1),
    time_zone="Europe/London",
)


def generate(path: Path, size_bytes: int) -> None:
    """Deterministic lines like a shop's: quoted commas, returns, missing customers, nearly every invoice its own."""
    chance = random.Random(1)
    words = (
        "WHITE",
        "HANGING",
        "HEART",
        "T-LIGHT",
        "HOLDER",
        "METAL",
        "LANTERN",
        "CREAM",
        "CUPID",
        "COAT",
        "RED",
        "WOOLLY",
    )
    tails = []
    for _ in range(200_000):
        text = " ".join(chance.choices(words, k=4))
        description = f'"{text}, {chance.choice(words)}"' if chance.random() < 0.05 else text
        customer = "" if chance.random() < 0.25 else f"{chance.randint(12000, 18000)}.0"
        minute = chance.randrange(24 * 60)
        tails.append(
            f"{chance.randint(10000, 99999)}A,{description},{chance.randint(-3, 60)},2024-03-05 {minute // 60:02d}:"
            f"{minute % 60:02d}:00,{chance.randint(0, 99999) / 1000:.3f},{customer},United Kingdom\n"
        )
    number = 0
    with path.open("w", encoding="utf-8") as file:
        file.write(",".join(SPEC.columns) + "\n")
        while file.tell() < size_bytes:
            file.write("".join(f"{number + n},{tail}" for n, tail in enumerate(tails)))
            number += len(tails)


def by_duckdb(folder: Path, source: Path) -> int:
    target = folder / "duckdb.parquet"
    with duckdb.connect() as connection:
        found = connection.execute(
            f"copy (select * from read_csv('{source}')) to '{target}' (format parquet, compression snappy)"
        ).fetchone()
    assert found is not None
    return int(found[0])


def project_rows(source: Path) -> pa.RecordBatchReader:
    batches = (one for batch in judge.read(source, SPEC, NAME, DAY) for one in batch.rows.to_batches())
    return pa.RecordBatchReader.from_batches(judge.rows_schema(SPEC), batches)


def by_project(folder: Path, source: Path) -> int:
    rows = project_rows(source)
    target = folder / "project.parquet"
    with duckdb.connect() as connection:
        connection.register("rows", rows)
        found = connection.execute(f"copy rows to '{target}' (format parquet, compression snappy)").fetchone()
    assert found is not None
    return int(found[0])


def raw_build(folder: Path, source: Path) -> int:
    store = ParquetStore(folder / "lake")
    (commit,) = store.replace(Table("raw", "raw"), Scope.days(DAY, DAY), project_rows(source), Request("benchmark"))
    return commit.rows


def by_receive(folder: Path, source: Path) -> int:
    return received(folder, source)[1]


def whole_way(folder: Path, source: Path) -> int:
    archived, _ = received(folder, source)
    return raw_build(folder, archived)


def received(folder: Path, source: Path) -> tuple[Path, int]:
    """Take the file in; where the archive has it, and its number of rows."""
    root = Path(tempfile.mkdtemp(dir=folder))
    drop = root / "incoming" / SPEC.name
    drop.mkdir(parents=True)
    os.link(source, drop / source.name)
    (waiting,) = scan.scan(drop, SPEC, datetime.now(UTC)).waiting
    result = admit.receive(waiting, SPEC, root / "incoming", root / "archive", root / "quarantine")
    assert result.rows is not None
    (accepted,) = archive.accepted(root / "archive", SPEC, DAY)
    return Path(accepted.path), result.rows


REFERENCE = "duckdb read_csv + COPY"
WAYS = {
    REFERENCE: by_duckdb,
    "judge + COPY": by_project,
    "raw build": raw_build,
    "receive": by_receive,
    "receive + raw build": whole_way,
}


def one(way: str, folder: Path, source: Path) -> None:
    """One measurement, in this process."""
    start, cpu_start = time.perf_counter(), time.process_time()
    rows = WAYS[way](folder, source)
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu_start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    found = {"seconds": seconds, "cpu_seconds": cpu_seconds, "peak_memory_mb": peak}
    print(json.dumps({name: round(value, 1) for name, value in found.items()} | {"rows": rows}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        one(arguments.one[0], Path(arguments.one[1]), Path(arguments.one[2]))
        return
    results: dict[str, list[dict[str, float]]] = {way: [] for way in dict.fromkeys([REFERENCE, *arguments.ways])}
    with tempfile.TemporaryDirectory() as root:
        source = Path(root, NAME)
        generate(source, arguments.megabytes * 2**20)
        for _ in range(arguments.rounds):
            for way, found in results.items():
                command = [sys.executable, __file__, "--one", way, root, str(source)]
                found.append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
    best = {
        way: [min(one[unit] for one in found) for unit in ("seconds", "cpu_seconds")] for way, found in results.items()
    }
    reference = best[REFERENCE]
    print(f"{'':30}  best s  ratio   CPU s  ratio  peak MB   rounds")
    for way, found in results.items():
        assert {one["rows"] for one in found} == {results[REFERENCE][0]["rows"]}
        columns = "".join(f"{mine:8.1f}{mine / other:7.2f}" for mine, other in zip(best[way], reference, strict=True))
        memory = max(one["peak_memory_mb"] for one in found)
        print(f"{way:30}{columns}{memory:9.0f}   {' '.join(str(one['seconds']) for one in found)}")
    print(
        json.dumps(
            {
                "benchmark": "incoming_one_gb",
                "megabytes": arguments.megabytes,
                "ratios": {way: round(found[0] / reference[0], 2) for way, found in best.items()},
                "results": results,
                "cpus": os.cpu_count(),
                "machine": platform.machine(),
                "load": os.getloadavg(),
            }
        )
    )


if __name__ == "__main__":
    main()
