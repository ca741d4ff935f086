"""`etl show`."""

from __future__ import annotations

import csv
import sys
from contextlib import AbstractContextManager
from typing import Annotated, Any, TextIO

import pyarrow as pa
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from etl_project.cli import plain_letters
from etl_project.cli.common import opened
from etl_project.cli.console import console
from etl_project.proofs import chosen, partition_of, rows_at, rows_of_candidate, stored_assets

Asset = Annotated[str, typer.Argument(help="The stored asset, as `etl status` names it.")]
Day = Annotated[str | None, typer.Option("--day", help="The day (UTC), or another partition key.")]
At = Annotated[int | None, typer.Option("--at", help="The rows that this commit left (`etl history` has the numbers).")]
Unpublished = Annotated[bool, typer.Option("--candidate", help="The rows that did not pass their checks.")]
Limit = Annotated[int, typer.Option("--limit", min=0, help="How many rows to show.")]
AsCsv = Annotated[bool, typer.Option("--csv", help="Write all rows as CSV, NULL as nothing.")]

_WIDTH_IN_A_PIPE = 200


def show(
    asset: Asset,
    day: Day = None,
    at: At = None,
    candidate: Unpublished = False,
    limit: Limit = 20,
    as_csv: AsCsv = False,
) -> None:
    """The rows of a day, as they are, as a commit that is kept had left them, or as they would be published.

    Exit code: 0, 2 where there are none, or they are not kept.
    """
    if candidate and at is not None:
        raise typer.BadParameter("--candidate names rows that no commit left: leave --at out.")
    with opened() as found:
        [target] = chosen(stored_assets(found.definitions), [asset])
        key = partition_of(target, day)
        rows = target.store.batches(rows_of_candidate(target, key) if candidate else rows_at(target, key, at))
        if as_csv:
            with plain_letters.nothing_instead(sys.stdout):
                write_csv(rows, sys.stdout)
        else:
            print_rows(rows, limit)


def write_csv(rows: AbstractContextManager[pa.RecordBatchReader], out: TextIO) -> None:
    """All rows, batch by batch."""
    writer = csv.writer(out, lineterminator="\n")
    with rows as batches:
        writer.writerow(batches.schema.names)
        for batch in batches:
            writer.writerows(zip(*(column.to_pylist() for column in batch.columns), strict=True))


def print_rows(rows: AbstractContextManager[pa.RecordBatchReader], limit: int) -> None:
    """The first rows as a table, and how many there are."""
    table, count = Table(box=None), 0
    with rows as batches:
        for name in batches.schema.names:
            table.add_column(escape(name), no_wrap=True)
        for batch in batches:
            for row in batch.slice(0, max(limit - count, 0)).to_pylist():
                table.add_row(*(_text(value) for value in row.values()))
            count += batch.num_rows
    (console if console.is_terminal else Console(width=_WIDTH_IN_A_PIPE)).print(table)
    console.print(f"{min(limit, count):,} of {count:,} rows", highlight=False)


def _text(value: Any) -> str:
    return "[dim]NULL[/]" if value is None else escape(str(value))
