"""The assets of a source: files taken in, raw rows in the lake, typed rows and rejects in the warehouse.

Thin Dagster shells over the pure functions beside this module.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, fields
from datetime import date
from functools import partial
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
from etl_project.sources import carried, completeness, presentation, raw_rows, row_checks, typed
from etl_project.sources import checks as incoming_checks
from etl_project.sources.asset_names import Names
from etl_project.sources.intake import admit, archive, lost, quarantine, scan
from etl_project.sources.intake.outcome import Received
from etl_project.sources.intake.trouble import CannotReceive
from etl_project.sources.names import shown
from etl_project.sources.reading import judge
from etl_project.sources.spec import SourceSpec
from etl_project.storage import ALLOW_SHRINK_TAG, Partial, built_from, input_hash, receipts_of, reported

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
            _files(spec, {**common, "owners": owners}, max_removed_ratio=options.max_removed_ratio),
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


def _files(spec: SourceSpec, common: Mapping[str, Any], *, max_removed_ratio: float | None) -> dg.AssetsDefinition:
    """Files that wait are judged and archived or quarantined; the archive is what everything is built from.

    `max_removed_ratio`: no file takes a larger share of a day's rows away, unless the run says that it is meant.
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
            max_removed_ratio=None if context.run.tags.get(ALLOW_SHRINK_TAG) == "true" else max_removed_ratio,
        )
        for line in told(results.received):
            context.log.info(line)
        with reported(context.instance, context.run_id):
            _refuse_failed(results.failed)
        for day in sorted(days):
            received = [file for file in results.received if file.day == day]
            metadata = day_metadata(received, configured.archive, spec, day, results.accepted.get(day))
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


def day_metadata(
    received: Sequence[Received],
    root: Path,
    spec: SourceSpec,
    day: date,
    accepted: Sequence[archive.Accepted] | None = None,
) -> dict[str, Any]:
    """What the UI shows of a day's files: how many count (`accepted`, where they are known), and what happened to those
    that came now."""
    accepted = archive.accepted(root, spec, day) if accepted is None else accepted
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
        days: dict[date, archive.Archived] = {}
        missing: dict[str | None, str] = {}
        refused = quarantine.open_days(configured.quarantine, configured.archive, spec)
        for day in utc.days_of(context):
            archived = archive.archived(configured.archive, spec, day)
            meant = context.run.tags.get(ALLOW_SHRINK_TAG) == "true"
            if reason := _why_missing(spec, archived.accepted, day, refused) or _why_lost(
                spec, archived, day, configured, meant=meant
            ):
                missing[day.isoformat()] = reason
                continue
            days[day] = archived
            book.add(own.files, day.isoformat(), archived.fingerprint)
        rejects: list[pa.Table] = []
        wanted = set(context.op_execution_context.selected_output_names)
        raw_wanted = own.raw in wanted
        # Rows and rejects are carried together or not at all: each is the other's proof.
        carry = (
            partial(carried.find, spec, configured, code_version=version) if wanted >= {own.raw, own.rejects} else None
        )

        def day_was_read(day: date, rejected: int, skipped: int) -> None:
            """What the UI shows beside the commit. The event of the day is made after its rows were read."""
            if raw_wanted:
                counts = {"files": len(days[day].accepted), "rejects": rejected}
                counts |= {"skipped": skipped} if skipped else {}
                link = {"archive": presentation.archived_files(spec, configured.archive, day)}
                context.add_asset_metadata({**counts, **link}, own.raw, day.isoformat())

        with reported(context.instance, context.run_id):
            rows = raw_rows.rows(spec, days, rejects, day_was_read, configured.data_dir, carry)
            if raw_wanted:
                yield dg.Output(Partial(rows, missing), output_name=own.raw)
            for _ in rows:
                pass  # Only the rejects were asked for: the rows still have to be read to know them.
            if own.rejects in wanted:
                yield dg.Output(
                    Partial(pa.concat_tables([judge.REJECTS_SCHEMA.empty_table(), *rejects]), missing),
                    output_name=own.rejects,
                )

    return read


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
    spec: SourceSpec, archived: archive.Archived, day: date, configured: settings.Settings, *, meant: bool
) -> str | None:
    """Why a day is not built from what the archive has of it: its rows came from files that are gone. None where they
    did not, or where it is `meant` to be built from what is left of them."""
    own, key = Names.of(spec.name), day.isoformat()
    if archived.accepted and meant:
        return None
    built = lake(configured).last_commits([own.raw], [key]).get((own.raw, key))
    if built is None or built_from(built.input_hash) == input_hash([(own.files, key, archived.fingerprint)]):
        return None
    if archived.accepted:
        return lost.why(spec, archived.versions, day, built.input_hash)
    return "the files that it was built from are not in the archive any more; put the archive back, or send them again"
