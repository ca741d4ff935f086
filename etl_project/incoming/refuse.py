"""The job for files that belong to no day: no usable date in the name, before the start, or too far ahead.

No day's run would ever pick them up, so a run of its own puts them into quarantine.
"""

from typing import TYPE_CHECKING

import dagster as dg

from etl_project import partitions
from etl_project.failures import reported
from etl_project.incoming import scan
from etl_project.incoming.names import shown
from etl_project.incoming.receive import refuse
from etl_project.runs import REFUSE_JOB, WITHOUT_DAYS

if TYPE_CHECKING:
    from etl_project.situation import Project


def refuse_job(project: "Project") -> dg.JobDefinition:
    """A job that quarantines what waits in any source's drop folder without belonging to a day."""

    @dg.op(description="Put files that belong to no day into quarantine, each with its reason.")
    def refuse_undated(context: dg.OpExecutionContext) -> None:
        configured = project.settings
        with reported(context.instance, context.run_id):
            for spec in project.sources:
                for file in scan.scan(configured.incoming / spec.name, spec, partitions.now()).undated:
                    context.log.warning(f"{spec.name}: {shown(file.entry.name)}: {file.reason}")
                    refuse(file, spec, configured.incoming, configured.archive, configured.quarantine)

    @dg.job(name=REFUSE_JOB, description=refuse_job.__doc__, tags=WITHOUT_DAYS)
    def job() -> None:
        refuse_undated()

    return job
