"""A drop folder, an archive and a quarantine in a temporary folder, for tests of the incoming layer."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from etl_project.sources.bucket.handed import FETCHED, LOCK
from etl_project.sources.intake import admit, archive, quarantine, scan
from etl_project.sources.reading import judge
from etl_project.sources.spec import SourceColumn, SourceSpec

DAY = date(2024, 3, 5)
NOW = datetime(2024, 3, 6, 12, tzinfo=UTC)
HEADER = b"id,amount,at,note\n"

SPEC = SourceSpec(
    name="sales",
    patterns=("*{date}*.csv", "*{date}*.csv.gz", "*{date}*.csv.zst"),
    columns={"id": "id", "amount": "amount", "at": "sold_at", "note": "note"},
    types=(
        SourceColumn("id", "INTEGER", nullable=False),
        SourceColumn("amount", "DECIMAL(8,2)"),
        SourceColumn("sold_at", "TIMESTAMP WITH TIME ZONE"),
        SourceColumn("note", "VARCHAR"),
    ),
    start_date=date(2024, 1, 1),
    time_zone="Europe/London",
)


@contextmanager
def unprivileged() -> Iterator[None]:
    """As a user whom permissions stop (root is stopped by none)."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(before)


def spec(**changes: Any) -> SourceSpec:
    """The usual source with some settings changed."""
    return dataclasses.replace(SPEC, **changes)


def lines(*records: str) -> bytes:
    """A file with the usual header and these lines."""
    return HEADER + "".join(f"{record}\n" for record in records).encode()


def rows(count: int, first: int = 1) -> bytes:
    """A good file of so many rows."""
    return lines(*(f"{number},1.50,2024-03-05 10:00:00,n{number}" for number in range(first, first + count)))


def read(content: bytes, folder: Path, source: SourceSpec = SPEC, name: str = "a-2024-03-05.csv") -> list[judge.Batch]:
    """What the judge makes of a file with this content."""
    path = folder / "content"
    path.write_bytes(content)
    return list(judge.read(path, source, name, DAY))


def all_rows(batches: Iterable[judge.Batch]) -> list[dict[str, Any]]:
    """The rows of all batches."""
    return [row for batch in batches for row in batch.rows.to_pylist()]


def all_rejects(batches: Iterable[judge.Batch]) -> list[dict[str, Any]]:
    """The rejects of all batches."""
    return [row for batch in batches for row in batch.rejects.to_pylist()]


class World:
    """One source's folders, and the steps of the incoming layer over them."""

    def __init__(self, root: Path, source: SourceSpec = SPEC) -> None:
        self.root = root
        self.spec = source
        self.incoming, self.archive, self.quarantine = (root / name for name in ("incoming", "archive", "quarantine"))
        self.folder = self.incoming / source.name
        self.folder.mkdir(parents=True, exist_ok=True)
        self._age = 1_700_000_000

    @property
    def roots(self) -> tuple[Path, Path, Path]:
        return self.incoming, self.archive, self.quarantine

    def drop(self, name: str, content: bytes) -> Path:
        """Put a settled file into the drop folder; later ones are newer."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        self._age += 1
        os.utime(path, (self._age, self._age))
        return path

    def files(self) -> list[str]:
        """What lies in the drop folder, in order, but the file that is locked while objects are fetched."""
        found = (path.relative_to(self.folder) for path in self.folder.rglob("*") if path.is_file())
        return sorted(map(str, {*found} - {Path(FETCHED, LOCK)}))

    def scan(self) -> scan.Scan:
        return scan.scan(self.folder, self.spec, NOW)

    def receive(self, threads: int = 1, max_removed_ratio: float | None = None) -> list[admit.Received]:
        """Take in everything that waits; a failure is raised."""
        waiting = self.scan().waiting
        results = admit.receive_all(waiting, self.spec, *self.roots, threads, max_removed_ratio=max_removed_ratio)
        for failed in results.failed:
            raise failed.error
        return list(results.received)

    def end(self) -> None:
        """What follows when files were judged: nothing, where they lie in the folder."""

    def outcomes(self) -> dict[str, str]:
        return {one.name: one.outcome for one in self.receive()}

    def accepted(self, day: date = DAY) -> dict[str, bytes]:
        """The current version of each name."""
        return {one.name: one.path.read_bytes() for one in archive.accepted(self.archive, self.spec, day)}

    def quarantined(self) -> list[quarantine.Quarantined]:
        return quarantine.listing(self.quarantine)

    def rows(self, day: date = DAY) -> pa.Table:
        """Everything that the day's archive gives."""
        versions = archive.accepted(self.archive, self.spec, day)
        tables = [b.rows for one in versions for b in judge.read(one.path, self.spec, one.name, day)]
        return pa.concat_tables([judge.rows_schema(self.spec).empty_table(), *tables])

    def state(self) -> dict[bytes, Any]:
        """Every file that counts, with its content (a reason without its times and without temporary files)."""
        found: dict[bytes, Any] = {}
        for parent, _, files in os.walk(self.root):
            for file in files:
                path = Path(parent, file)
                if file.startswith(".etl-") or path.parts[-2:] == (FETCHED, LOCK):
                    continue
                content: Any = path.read_bytes()
                if path.suffix == ".json" and self.quarantine in path.parents:
                    content = {k: v for k, v in json.loads(content).items() if k != "refused_at"}
                found[os.fsencode(path.relative_to(self.root))] = content
        return found
