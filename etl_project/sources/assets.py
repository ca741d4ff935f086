"""The assets of a source: files taken in, raw rows in the lake, typed rows and rejects in the warehouse.

Thin Dagster shells over the pure functions beside this module.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import MISSING, Field, fields
from datetime import date
from pathlib import Path
from typing import Any, cast

import dagster as dg
import pyarrow as pa

from etl_project import settings, utc
from etl_project.declare import (
    LAKE,
    WAREHOUSE,
    code_version,
    contract_metadata,
    contracts,
    daily_partitions,
    lake,
    single_run,
)
from etl_project.failures import Permanent
from etl_project.sources import checks as incoming_checks
from etl_project.sources import completeness, presentation, row_checks, typed
from etl_project.sources.asset_names import Names
from etl_project.sources.day_reader import DayReader, Unreadable
from etl_project.sources.intake import admit, archive, lost, quarantine, scan
from etl_project.sources.intake.outcome import Received
from etl_project.sources.intake.trouble import CannotReceive
from etl_project.sources.names import shown
from etl_project.sources.reading import judge, small_files
from etl_project.sources.reading.file_format import SourceFile
from etl_project.sources.spec import SourceSpec
from etl_project.storage import ALLOW_SHRINK_TAG, Partial, input_hash, receipts_of, reported

SOURCE_METADATA = "etl/source"
"""Asset metadata: the asset takes in the files of this source."""

RECEIVING_THREADS = 4
"""Receiving waits for the disk most of the time (copy, fsync, rename), so a few threads pay even on one core."""

MOST_TOLD = 100
"""Files of which the log of a run speaks one by one; the counts of each day are noted with it in any case."""

REJECTS_CONTRACT = """
CREATE TABLE "{name}" (
    batch_date  DATE    NOT NULL,
    source_file VARCHAR NOT NULL,
    source_line BIGINT  NOT NULL,
    column_name VARCHAR,
    reason      VARCHAR NOT NULL,
    raw_text    VARCHAR,
    PRIMARY KEY (batch_date, source_file, source_line)
);
COMMENT ON TABLE "{name}" IS 'Rows of accepted files that could not be typed: rows in the files = rows stored + these';
COMMENT ON COLUMN "{name}".batch_date IS 'UTC batch date of the file';
COMMENT ON COLUMN "{name}".source_file IS 'Name of the file';
COMMENT ON COLUMN "{name}".source_line IS 'Line of the file on which the row begins; the header is line 1';
COMMENT ON COLUMN "{name}".column_name IS 'First column at fault; empty where the row has no columns to speak of';
COMMENT ON COLUMN "{name}".reason IS 'Everything that is wrong with the row';
COMMENT ON COLUMN "{name}".raw_text IS 'The row as it stood in the file';
"""


class NoLongerAccepted(Permanent):
    """A file in the archive does not fit the contract any more. Retrying does not help; the old rows are intact."""


def definitions(
    spec: SourceSpec, contract: contracts.TableContract, options: typed.SourceOptions, folder: Path
) -> dg.Definitions:
    """The four assets of a source and their checks."""
    common = {
        "partitions_def": daily_partitions(),
        "backfill_policy": single_run(),
        "group_name": folder.name,
    }
    owners = list(options.owners)
    module = code_version.Module(__name__, Path(__file__))
    version = code_version.of_module(module, folder, settled=_settled(spec, options))
    return dg.Definitions(
        assets=[
            _files(spec, {**common, "owners": owners}, keeps_rows=options.max_removed_ratio is not None),
            _raw_and_rejects(spec, contract, version, owners, common),
            typed.table(spec, contract, options, {**common, "code_version": version, "owners": owners}),
        ],
        asset_checks=[*incoming_checks.checks(spec), *row_checks.checks(spec, contract, options.checks)],
    )


_NOT_OF_ROWS = ("settle_seconds", "quiet_seconds")


def _settled(spec: SourceSpec, options: typed.SourceOptions) -> str:
    """What the settings of a source came to. Its YAML may name environment variables, which say what rows it gives.

    How long a file has to settle, and how long it is kept, says nothing about its rows.
    """
    said = {
        one.name: value
        for one in fields(spec)
        if one.init and one.name not in _NOT_OF_ROWS and (value := getattr(spec, one.name)) != _default(one)
    }
    return repr((said, dict(options.computed)))


def _default(one: Field[Any]) -> Any:
    """The value of a setting of which nothing is said: so it may come into being without a change to any version."""
    return one.default if one.default_factory is MISSING else one.default_factory()


def _files(spec: SourceSpec, common: Mapping[str, Any], *, keeps_rows: bool) -> dg.AssetsDefinition:
    """Files that wait are judged and archived or quarantined; the archive is what everything is built from.

    `keeps_rows`: no file takes all rows of a day away, unless the run says that it is meant.
    """

    @dg.asset(  # type: ignore[untyped-decorator]  # options given as ** hide the overload
        name=Names.of(spec.name).files,
        kinds={"file"},
        description=f"Accepted files of {spec.name}: judged against the contract, then archived for good.",
        metadata={SOURCE_METADATA: spec.name},
        freshness_policy=completeness.freshness_policy(spec),
        required_resource_keys={"run_lock"},
        **common,
    )
    def files(context: dg.AssetExecutionContext) -> dg.MaterializeResult[None]:
        configured = settings.load()
        days = set(utc.days_of(context))
        with reported(context.instance, context.run_id):
            waiting = scan.scan(configured.incoming / spec.name, spec, utc.now()).waiting
        results = admit.receive_all(
            [file for file in waiting if file.day in days],
            spec,
            configured.incoming,
            configured.archive,
            configured.quarantine,
            threads=RECEIVING_THREADS,
            may_empty=not keeps_rows or context.run.tags.get(ALLOW_SHRINK_TAG) == "true",
        )
        for line in told(results.received):
            context.log.info(line)
        with reported(context.instance, context.run_id):
            _refuse_failed(results.failed)
        for day in sorted(days):
            received = [file for file in results.received if file.day == day]
            metadata = day_metadata(received, configured.archive, spec, day)
            context.add_asset_metadata(metadata, partition_key=day.isoformat())
        return dg.MaterializeResult()

    return cast(dg.AssetsDefinition, files)


def told(received: Sequence[Received]) -> Iterator[str]:
    """What became of the files, in words: each of them, and only the first of very many.

    A line is an event of the run's log, and an event takes longer than a small file.
    """
    for file in received[:MOST_TOLD]:
        yield f"{shown(file.name)} ({_days_of(file)}): {file.outcome}{f': {file.reason}' if file.reason else ''}"
    more = Counter(file.outcome for file in received[MOST_TOLD:])
    if more:
        counts = ", ".join(f"{count} {outcome}" for outcome, count in sorted(more.items()))
        yield f"and {more.total()} more files: {counts}"


def _days_of(file: Received) -> str:
    """The day of the file, or those that its rows are of, for a person."""
    if not file.days:
        return "no day" if file.day is None else str(file.day)
    return f"{len(file.days)} days, {file.days[0]} to {file.days[-1]}" if len(file.days) > 1 else str(file.days[0])


def _refuse_failed(failed: Sequence[admit.Failed]) -> None:
    """Raise one error for all files that could not be received. They are where they were, and are due again."""
    if failed:
        lines = "; ".join(f"{shown(one.waiting.name)}: {one.error}" for one in failed)
        raise CannotReceive(f"{len(failed)} files could not be received, the others were: {lines}")


def day_metadata(received: Sequence[Received], root: Path, spec: SourceSpec, day: date) -> dict[str, Any]:
    """What the UI shows of a day's files: how many count, and what happened to those that came now."""
    accepted = archive.accepted(root, spec, day)
    outcomes = Counter(file.outcome for file in received)
    return {
        "files": len(accepted),
        "input_hash": archive.fingerprint(accepted),
        **{f"{outcome} now": count for outcome, count in sorted(outcomes.items())},
        "archive": dg.MetadataValue.path(archive.day_folder(root, spec, day)),
    }


def _raw_and_rejects(
    spec: SourceSpec,
    contract: contracts.TableContract,
    version: str,
    owners: Sequence[str],
    common: Mapping[str, Any],
) -> dg.AssetsDefinition:
    """One reading of the archive gives both what could be typed and what could not: together, every row."""
    own = Names.of(spec.name)

    @dg.multi_asset(
        name=f"read_{spec.name}",
        outs={
            own.raw: dg.AssetOut(
                io_manager_key=LAKE,
                is_required=False,
                kinds={"parquet"},
                owners=owners,
                code_version=version,
                description=f"Rows of the accepted files of {spec.name}, typed, with file and line number.",
                # Each day is read under the contract of now: days that were read under an earlier one bind nobody.
                metadata={"dagster/column_schema": presentation.raw_columns(spec, contract), "columns_of_data": True},
            ),
            own.rejects: dg.AssetOut(
                io_manager_key=WAREHOUSE,
                is_required=False,
                kinds={"duckdb"},
                owners=owners,
                code_version=version,
                description=f"Rows of the accepted files of {spec.name} that could not be typed, and why.",
                metadata=contract_metadata(contracts.parse(REJECTS_CONTRACT.format(name=own.rejects))[own.rejects]),
            ),
        },
        deps=[own.files],
        can_subset=True,
        **common,
    )
    def read(context: dg.AssetExecutionContext) -> Iterator[dg.Output[Partial]]:
        configured = settings.load()
        admit.sweep(spec, configured.incoming, configured.archive)
        book = receipts_of(context.get_step_execution_context())
        days: dict[date, Sequence[archive.Accepted]] = {}
        missing: dict[str | None, str] = {}
        refused = quarantine.open_days(configured.quarantine, configured.archive, spec)
        for day in utc.days_of(context):
            accepted = archive.accepted(configured.archive, spec, day)
            meant = context.run.tags.get(ALLOW_SHRINK_TAG) == "true"
            if reason := _why_missing(spec, accepted, day, refused) or _why_lost(
                spec, accepted, day, configured, meant=meant
            ):
                missing[day.isoformat()] = reason
                continue
            days[day] = accepted
            book.add(own.files, day.isoformat(), archive.fingerprint(accepted))
        rejects: list[pa.Table] = []
        raw_wanted = own.raw in context.op_execution_context.selected_output_names

        def day_was_read(day: date, rejected: int, skipped: int) -> None:
            """What the UI shows beside the commit. The event of the day is made after its rows were read."""
            if raw_wanted:
                files = {"files": len(days[day]), "rejects": rejected, **({"skipped": skipped} if skipped else {})}
                link = {"archive": presentation.archived_files(spec, configured.archive, day)}
                context.add_asset_metadata({**files, **link}, own.raw, day.isoformat())

        with reported(context.instance, context.run_id):
            rows = _rows(spec, days, rejects, day_was_read, configured.data_dir)
            if raw_wanted:
                yield dg.Output(Partial(rows, missing), output_name=own.raw)
            for _ in rows:
                pass  # Only the rejects were asked for: the rows still have to be read to know them.
            if own.rejects in context.op_execution_context.selected_output_names:
                yield dg.Output(
                    Partial(pa.concat_tables([judge.REJECTS_SCHEMA.empty_table(), *rejects]), missing),
                    output_name=own.rejects,
                )

    return read


def _rows(
    spec: SourceSpec,
    days: Mapping[date, Sequence[archive.Accepted]],
    rejects: list[pa.Table],
    day_was_read: Callable[[date, int, int], None],
    scratch: Path,
) -> pa.RecordBatchReader:
    """The typed rows of the archived files, day by day and file by file in name order; fills `rejects` on the way.

    `day_was_read` is told each day that was read to its end, the number of its rejects and of its skipped records.
    """

    def batches() -> Iterator[pa.RecordBatch]:
        with _reader(spec, days, scratch) as read:
            yield from batches_of(read)

    def batches_of(read: Callable[[date], Iterator[judge.Batch]]) -> Iterator[pa.RecordBatch]:
        for day in days:
            rejected = skipped = 0
            for batch in read(day):
                if batch.rejects.num_rows:
                    rejects.append(batch.rejects)
                    rejected += batch.rejects.num_rows
                skipped += batch.skipped.num_rows
                yield from batch.rows.to_batches()
            day_was_read(day, rejected, skipped)

    return pa.RecordBatchReader.from_batches(judge.rows_schema(spec), batches())


@contextmanager
def _reader(
    spec: SourceSpec, days: Mapping[date, Sequence[archive.Accepted]], scratch: Path
) -> Iterator[Callable[[date], Iterator[judge.Batch]]]:
    """What gives the batches of a day. Files that hold many days are read once for all of them."""
    if spec.day_from is None:
        yield lambda day: _read_again(spec, days[day], day)
        return
    with DayReader(spec, days, scratch) as reader:

        def read(day: date) -> Iterator[judge.Batch]:
            try:
                yield from reader.day(day)
            except Unreadable as error:
                raise _no_longer_accepted(error.version.name, day, error.refused, error.version.path) from error

        yield read


def _read_again(spec: SourceSpec, accepted: Sequence[archive.Accepted], day: date) -> Iterator[judge.Batch]:
    """The batches of accepted files. They were judged good once: now the contract has changed, or a file has."""
    files = (SourceFile(version.path, version.name, day, accepted=True) for version in accepted)
    for batch, verdicts in small_files.read(files, spec, day):
        for verdict in verdicts:
            file, refused = verdict.file, verdict.refused
            if refused is not None:
                raise _no_longer_accepted(file.name, day, refused, file.path) from refused
        yield batch


def _no_longer_accepted(name: str, day: date, refused: Exception, path: Path) -> NoLongerAccepted:
    return NoLongerAccepted(
        f"{shown(name)} of {day} was accepted once, and no longer is: {refused}. Nothing was changed. "
        f"Retrying does not help. Mend the contract, or send the file again. It lies at {path}."
    )


def _why_missing(
    spec: SourceSpec, accepted: Sequence[archive.Accepted], day: date, refused: Collection[date]
) -> str | None:
    """Why a day cannot be built; None for a day with files, and for a closed day that the source calls empty."""
    if accepted:
        return None
    if day in refused:
        return "its only file is in quarantine: see the reason file there"
    if spec.empty_days == "missing":
        return "no file was accepted (a source may say `empty_days: allowed`)"
    if day >= utc.now().date():
        return "no file was accepted, and the day is not over"
    return None


def _why_lost(
    spec: SourceSpec, accepted: Sequence[archive.Accepted], day: date, configured: settings.Settings, *, meant: bool
) -> str | None:
    """Why a day is not built from what the archive has of it: its rows came from files that are gone. None where they
    did not, or where it is `meant` to be built from what is left of them."""
    own, key = Names.of(spec.name), day.isoformat()
    if accepted and meant:
        return None
    built = lake(configured).last_commits([own.raw], [key]).get((own.raw, key))
    if built is None or built.input_hash == input_hash([(own.files, key, archive.fingerprint(accepted))]):
        return None
    if accepted:
        return lost.why(spec, configured.archive, day, built.input_hash)
    return "the files that it was built from are not in the archive any more; put the archive back, or send them again"
