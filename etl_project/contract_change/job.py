"""The job: `etl contract plan` and `apply` from Dagster's launchpad.

Belongs here: the config and a shell over `plan` and `apply`. It says in its log what the commands print.
"""

# No `from __future__ import annotations` here: Dagster reads the annotations of the op as they stand.

from collections.abc import Sequence

import dagster as dg
from pydantic import Field

from etl_project.contract_change.apply import apply
from etl_project.contract_change.plan import ACCEPTABLE, Wanted, plan
from etl_project.contract_change.words import in_words
from etl_project.due import WITHOUT_DAYS, Project
from etl_project.proofs import Stored
from etl_project.storage import reported

JOB = "contract_apply"


class ContractChange(dg.Config):
    """What `etl contract apply` takes; as it stands, the job only says what would happen."""

    assets: list[str] = Field(default=[])
    rename: list[str] = Field(default=[])
    drop: list[str] = Field(default=[])
    accept: list[str] = Field(default=[])
    carry_out: bool = False


def contract_job(project: Project, targets: Sequence[Stored]) -> dg.JobDefinition:
    """Makes tables what their contracts say; without `carry_out: true` it only plans. Days to build again are pending
    after it. The code location has to be reloaded first, so that it has read the contracts as they are now."""

    @dg.op(name="apply_contracts", description=contract_job.__doc__)
    def apply_contracts(context: dg.OpExecutionContext, config: ContractChange) -> None:
        with reported(context.instance, context.run_id):
            if unknown := set(config.accept) - set(ACCEPTABLE):
                raise ValueError(f"accept: {', '.join(sorted(unknown))}; there are {', '.join(ACCEPTABLE)}")
            wanted = Wanted.of(config.assets, config.rename, config.drop)
            found = (
                apply(project, targets, wanted, config.accept, context.instance).plan
                if config.carry_out
                else plan(project, targets, wanted)
            )
        for line in in_words(found):
            context.log.info(line)

    @dg.job(name=JOB, description=contract_job.__doc__, tags=WITHOUT_DAYS)
    def job() -> None:
        apply_contracts()

    return job
