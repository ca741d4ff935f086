"""Outcome: what became of a file that was taken in, or why it was not.

Belongs here: these words, and the reason file of a refusal. Does not belong here: deciding (`admit`, `many_days`).
"""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Literal, NamedTuple

import pyarrow as pa

from etl_project import utc
from etl_project.sources import names
from etl_project.sources.intake import quarantine
from etl_project.sources.intake.private_copy import Copy
from etl_project.sources.intake.scan import Entry, Waiting
from etl_project.sources.reading import judge
from etl_project.sources.reading.file_format import SourceFile
from etl_project.sources.reading.file_refused import FileRefused
from etl_project.sources.reading.small_files import Verdict
from etl_project.sources.spec import SourceSpec

Outcome = Literal["accepted", "identical", "duplicate", "refused", "vanished", "unsettled"]


class Received(NamedTuple):
    """What became of one file. `rows` and `rejected` are counted where it was judged; `reason` says why it was not
    accepted. `vanished` and `unsettled` files (gone, or changed while read) were left alone. `days`: those that an
    accepted file of many days holds."""

    name: str
    day: date | None
    outcome: Outcome
    rows: int | None = None
    rejected: int | None = None
    sha256: str | None = None
    reason: str | None = None
    days: tuple[date, ...] = ()


class Judged(NamedTuple):
    """A file that can be used. `days`: those that its rows and rejects say themselves."""

    rows: int
    rejected: int
    ends_in_a_reject: bool
    days: frozenset[date] = frozenset()


def judged(sent: SourceFile, spec: SourceSpec) -> Judged:
    """The file read in full. Raises FileRefused (retrying does not help) for one that cannot be used."""
    rows = rejected = 0
    ends_in_a_reject = False
    days: set[date] = set()
    for batch in judge.read_file(sent, spec):
        rows += batch.rows.num_rows
        rejected += batch.rejects.num_rows
        if batch.rows.num_rows or batch.rejects.num_rows:
            ends_in_a_reject = _last_line(batch.rejects) > _last_line(batch.rows)
        if sent.span is not None:
            for records in (batch.rows, batch.rejects):
                days.update(day for day in records["batch_date"].unique().to_pylist() if day is not None)
    return Judged(rows, rejected, ends_in_a_reject, frozenset(days))


def of_verdict(verdict: Verdict) -> Judged:
    """The same of a file that was judged together with others. Raises FileRefused likewise."""
    if verdict.refused is not None:
        raise verdict.refused
    return Judged(verdict.rows, verdict.rejected, verdict.ends_in_a_reject)


def _last_line(records: pa.Table) -> int:
    return int(records["source_line"][-1].as_py()) if records.num_rows else 0


def reason_of(
    copy: Copy,
    entry: Entry | Waiting,
    spec: SourceSpec,
    day: date | None,
    kind: quarantine.Kind,
    refusal: FileRefused,
    archive_sequence: int = 0,
) -> quarantine.Reason:
    """What stands beside a refused file."""
    return quarantine.Reason(
        source=spec.name,
        key=quarantine.key_of(spec.name, day, entry.name, copy.sha256),
        kind=kind,
        day=day,
        name=names.shown(entry.name),
        sha256=copy.sha256,
        size_bytes=entry.size,
        reason=refusal.reason,
        found=refusal.found,
        expected=refusal.expected,
        refused_at=utc.now(),
        archive_sequence=archive_sequence,
    )


def put_aside(root: Path, reason: quarantine.Reason, entry: Entry | Waiting, copy: Copy) -> Received:
    """Move the copy into quarantine, and say so."""
    quarantine.put(root, reason, entry.name, copy.path)
    outcome: Outcome = "duplicate" if reason.kind == "duplicate" else "refused"
    told = f"{reason.reason}: found {reason.found}, expected {reason.expected}"
    return Received(entry.name, reason.day, outcome, sha256=copy.sha256, reason=told)
