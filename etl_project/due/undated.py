"""The job for files that belong to no day: no usable date in the name, before the start, or too far ahead.

No day's run would ever pick them up, so a run of its own puts them into quarantine.
"""

import logging
from typing import TYPE_CHECKING

import dagster as dg

from etl_project import utc
from etl_project.due.attempts import REFUSE_JOB, WITHOUT_DAYS
from etl_project.failures import EtlError, Transient
from etl_project.settings import Settings
from etl_project.sources import Receiver, SourceSpec, scan, shown
from etl_project.storage import reported

if TYPE_CHECKING:
    from etl_project.due.snapshot import Project


class NotRefused(Transient):
    """Files could not be put into quarantine; they are where they were. Retrying helps once the system lets us."""


def refuse_job(project: "Project") -> dg.JobDefinition:
    """A job that quarantines what waits in any source's drop folder without belonging to a day."""

    @dg.op(description="Put files that belong to no day into quarantine, each with its reason.")
    def refuse_undated(context: dg.OpExecutionContext) -> None:
        with reported(context.instance, context.run_id):
            errors = [error for spec in project.sources for error in _refuse_all(project.settings, spec, context.log)]
            if errors:
                raise NotRefused(f"{len(errors)} failures, the other files are in quarantine: {'; '.join(errors)}")

    @dg.job(name=REFUSE_JOB, description=refuse_job.__doc__, tags=WITHOUT_DAYS)
    def job() -> None:
        refuse_undated()

    return job


def _refuse_all(configured: Settings, spec: SourceSpec, log: logging.Logger) -> list[str]:
    """Put a source's files without a day into quarantine; what went wrong. No file keeps the others from it."""
    errors: list[str] = []
    try:
        undated = scan.scan(configured.incoming / spec.name, spec, utc.now()).undated
        receiver = Receiver(spec, configured.incoming, configured.archive, configured.quarantine)
    except EtlError as error:
        return [str(error)]
    for file in undated:
        log.warning(f"{spec.name}: {shown(file.entry.name)}: {file.reason}")
        try:
            receiver.put_into_quarantine(file)
        except EtlError as error:
            errors.append(str(error))
    return errors
