"""Examining files: their content against the commit records in their footers.

Belongs here: looking, with the writer's own fingerprint code. Every file is read in full, its footer too: what is
remembered of footers elsewhere would hide a file that has rotted. Nothing is written and nobody waits: a file that is
replaced meanwhile is looked at again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import duckdb
import pyarrow as pa

from etl_project.storage.contract import Commit, Partitions
from etl_project.storage.judging import fingerprint
from etl_project.storage.judging.findings import Finding, Looked, differs, said
from etl_project.storage.judging.fingerprint import Typed
from etl_project.storage.judging.row_tally import EMPTY, Tally
from etl_project.storage.lake import layout
from etl_project.storage.lake.parquet import in_memory, parquet
from etl_project.storage.sql import Binds, quote, text, unique

FILES_A_QUERY = 500
_TRIES = 3
_UNREADABLE = (duckdb.Error, pa.ArrowException, OSError, ValueError, KeyError, TypeError)
"""What reading a damaged file, or the JSON in its footer, may raise."""


def examine(lake: layout.Lake, asset: str, partitions: Partitions) -> Looked:
    """Every file that is asked for: whether it can be read, and its content against the record it carries."""
    looked = Looked()
    files = {key: path for key, path in lake.files(asset) if partitions.holds(key) and partitions.owns(key)}
    records = {key: record for key, path in files.items() if (record := _record(looked, asset, key, path))}
    keys = sorted(records, key=str)
    for first in range(0, len(keys), FILES_A_QUERY):
        portion = {key: files[key] for key in keys[first : first + FILES_A_QUERY]}
        there = _together(list(portion.values()), lake.root)
        for key, path in portion.items():
            if there is None or differs(records[key], there.get(str(path), EMPTY)):
                looked.findings += _alone(asset, key, path, lake.root)
    looked.commits |= records
    looked.rows = sum(record.rows for record in records.values())
    return looked


def _record(looked: Looked, asset: str, key: str | None, path: Path) -> Commit | None:
    """The record in the footer; a file without one, or with a broken one, is noted."""
    try:
        record = layout.last_record(str(path))
    except _UNREADABLE as error:
        looked.findings.append(Finding("corrupt", asset, key, str(path), f"cannot be read: {_line(error)}"))
        return None
    if record is None and path.exists():
        told = "a file without a commit record"
        looked.findings.append(Finding("uncommitted", asset, key, str(path), told))
    return record


def _together(files: Sequence[Path], root: Path) -> Mapping[str, Tally] | None:
    """The tally of each file that has rows; None when one of them cannot be read."""
    with suppress(duckdb.Error):
        return _tallies(files, root)
    return None


def _tallies(files: Sequence[Path], root: Path) -> Mapping[str, Tally]:
    """Rows and fingerprint of each file that has rows, in one query. Raises duckdb.Error for a damaged file."""
    binds, name = Binds(), unique("file")
    rows = f"{parquet([str(file) for file in files], binds).removesuffix(')')}, filename={text(name)})"
    with in_memory(root) as connection:
        relation = connection.sql(f"SELECT * EXCLUDE {name} FROM {rows}", params=binds.values)
        columns = [Typed(c, quote(c), kind) for c, kind in zip(relation.columns, relation.types, strict=True)]
        query = f"SELECT {name}, count(*), sum(({fingerprint.row_hash(columns)})::HUGEINT) FROM {rows} GROUP BY 1"
        found = connection.execute(query, binds.values).fetchall()
    return {file: Tally(count, fingerprint.render(count, total)) for file, count, total in found}


def _alone(asset: str, key: str | None, path: Path, root: Path) -> list[Finding]:
    """One file that did not come out right among others: what is wrong with it, if anything is."""
    try:
        for _ in range(_TRIES):
            record = layout.last_record(str(path))
            there = _tallies([path], root).get(str(path), EMPTY)
            if record == layout.last_record(str(path)):
                break
    except FileNotFoundError:
        return []
    except _UNREADABLE as error:
        return [Finding("corrupt", asset, key, str(path), f"cannot be read: {_line(error)}")]
    if record is None or not differs(record, there):
        return []
    told = f"{there.rows} rows, {there.fingerprint}; the record in its footer says {said(record)}"
    return [Finding("corrupt", asset, key, str(path), told)]


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]
