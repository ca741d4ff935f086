"""The job for files without a day in their name, whose rows say it (`day_from`), and asking for it.

No day's run can take such a file in: nobody knows its days before it has been read. So a run of its own does, and every
day that the file holds is due afterwards, by what the archive has of it. There is no such job where no source says so.
"""

import hashlib
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

import dagster as dg

from etl_project import utc
from etl_project.due import attempts
from etl_project.due.attempts import MANY_DAYS_JOB, WITHOUT_DAYS
from etl_project.failures import EtlError, Transient
from etl_project.settings import Settings
from etl_project.sources import Names, Received, SourceSpec, admit, assets, scan
from etl_project.storage import reported

if TYPE_CHECKING:
    from etl_project.due.snapshot import Project, Snapshot


class NotTakenIn(Transient):
    """Files could not be taken in; they are where they were. Retrying helps once what is in the way is mended."""


def many_days_jobs(project: "Project") -> list[dg.JobDefinition]:
    """A job that takes in what waits in the drop folders of sources whose rows say their day, if there are such."""
    specs = [spec for spec in project.sources if spec.day_from is not None]
    if not specs:
        return []

    @dg.op(description="Take in files whose rows say their day; each lies under every day that it holds afterwards.")
    def take_in_files(context: dg.OpExecutionContext) -> None:
        with reported(context.instance, context.run_id):
            errors = [error for spec in specs for error in _take_in(project.settings, spec, context)]
            if errors:
                raise NotTakenIn("; ".join(errors))

    @dg.job(name=MANY_DAYS_JOB, description=many_days_jobs.__doc__, tags=WITHOUT_DAYS)
    def job() -> None:
        take_in_files()

    return [job]


def requests(snapshot: "Snapshot", instance: dg.DagsterInstance) -> tuple[list[dg.RunRequest], list[str]]:
    """One run that takes in what waits, if anything does, or why it has to wait.

    What failed is asked for again with growing pauses.
    """
    waiting = snapshot.many_days
    if not waiting:
        return [], []
    state = f"many days:{hashlib.sha256(repr(sorted(waiting.items())).encode()).hexdigest()}"
    earlier = attempts.attempts(instance, state)
    until = attempts.wait_until(earlier)
    if until is not None and until > snapshot.at:
        names = ", ".join(sorted(waiting))
        return [], [f"files of {names} could not be taken in; tried again after {until:%Y-%m-%d %H:%M:%S} UTC"]
    tags = {attempts.STATE_TAG: state}
    return [dg.RunRequest(run_key=f"{state}:{len(earlier)}", job_name=MANY_DAYS_JOB, tags=tags)], []


def _take_in(configured: Settings, spec: SourceSpec, context: dg.OpExecutionContext) -> list[str]:
    """Take in a source's files; what went wrong. No source keeps the others from theirs."""
    log: logging.Logger = context.log
    received: list[Received] = []
    try:
        waiting = scan.scan(configured.incoming / spec.name, spec, utc.now()).many_days
        roots = configured.incoming, configured.archive, configured.quarantine
        for one in admit.receive_all_of_many_days(waiting, spec, *roots):
            received.append(one)
    except EtlError as error:
        return [str(error)]
    except OSError as error:  # Before any file was at work: of the lock, or of what a kill had left unfinished.
        return [f"{spec.name}: {error.filename}: {error.strerror}. Its files wait where they are; retrying helps."]
    finally:
        for line in assets.told(received):
            log.info(line)
        _say_which_days(configured, spec, received, context)
    return []


def _say_which_days(
    configured: Settings, spec: SourceSpec, received: Sequence[Received], context: dg.OpExecutionContext
) -> None:
    """An event for every day that has new files, as a run that takes in the files of a day makes it."""
    for day in sorted({day for one in received for day in one.days}):
        of_day = [one for one in received if day in one.days]
        context.log_event(
            dg.AssetMaterialization(
                asset_key=Names.of(spec.name).files,
                partition=day.isoformat(),
                metadata=assets.day_metadata(of_day, configured.archive, spec, day),
            )
        )
