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
from etl_project.storage.lake import footer
from etl_project.storage.lake.files import Files, Held
from etl_project.storage.lake.parquet import in_memory, parquet
from etl_project.storage.sql import Binds, quote, text, unique

_TRIES = 3
_UNREADABLE = (duckdb.Error, pa.ArrowException, OSError, ValueError, KeyError, TypeError)
"""What reading a damaged file, or the JSON in its footer, may raise."""


def examine(lake: Files, asset: str, partitions: Partitions) -> Looked:
    """Every file that is asked for: whether it can be read, and its content against the record it carries."""
    looked = Looked()
    keys = sorted((key for key in lake.keys(asset) if partitions.holds(key) and partitions.owns(key)), key=str)
    for first in range(0, len(keys), lake.copies_at_once):
        with lake.copies(asset, keys[first : first + lake.copies_at_once]) as files:
            looked.commits |= _portion(looked, asset, files, lake.beside)
    looked.rows = sum(record.rows for record in looked.commits.values())
    return looked


def _portion(looked: Looked, asset: str, files: Mapping[str | None, Held], beside: Path) -> Mapping[str | None, Commit]:
    """Some files at once; each of them alone only where they do not come out right together."""
    records = {key: record for key, held in files.items() if (record := _record(looked, asset, key, held))}
    portion = {key: files[key] for key in records}
    there = _together([held.path for held in portion.values()], beside)
    for key, held in portion.items():
        if there is None or differs(records[key], there.get(str(held.path), EMPTY)):
            looked.findings += _alone(asset, key, held, beside)
    return records


def _record(looked: Looked, asset: str, key: str | None, held: Held) -> Commit | None:
    """The record in the footer; a file without one, or with a broken one, is noted."""
    try:
        record = footer.last_record(held.path)
    except _UNREADABLE as error:
        looked.findings.append(Finding("corrupt", asset, key, held.shown, f"cannot be read: {_line(error)}"))
        return None
    if record is None and held.path.exists():
        told = "a file without a commit record"
        looked.findings.append(Finding("uncommitted", asset, key, held.shown, told))
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


def _alone(asset: str, key: str | None, held: Held, beside: Path) -> list[Finding]:
    """One file that did not come out right among others: what is wrong with it, if anything is."""
    try:
        for _ in range(_TRIES):
            record = footer.last_record(held.path)
            there = _tallies([held.path], beside).get(str(held.path), EMPTY)
            if record == footer.last_record(held.path):
                break
    except FileNotFoundError:
        return []
    except _UNREADABLE as error:
        return [Finding("corrupt", asset, key, held.shown, f"cannot be read: {_line(error)}")]
    if record is None or not differs(record, there):
        return []
    told = f"{there.rows} rows, {there.fingerprint}; the record in its footer says {said(record)}"
    return [Finding("corrupt", asset, key, held.shown, told)]


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]
