"""Reproducible: the asset check that says whether rebuilding a day gives the same rows again.

Belongs here: the check of every asset that our IO managers store, and its verdict over commit records. Does not belong
here: noticing (`judgement`) and explaining (`deviation`), which happen in the write itself.

It looks at all partitions whatever the run built: one that some other run left red is shown as red.
"""

# No `from __future__ import annotations` here: Dagster reads the annotation of `context` as it stands.

from collections.abc import Iterable, Mapping, Sequence

import dagster as dg

from etl_project.declare import by_partition
from etl_project.proofs.verify.targets import Stored
from etl_project.storage import UNKNOWN, Commit, Deviation, deviation, reported

NAME = "reproducible"

_DESCRIPTION = (
    "Rebuilding a partition from the same inputs, config and code gives the same rows. Red until three rebuilds in "
    "a row repeat the rows, or inputs or code change. Yellow: not checked, because an input has no fingerprint."
)
_SHOWN = 10


def checks(targets: Iterable[Stored]) -> list[dg.AssetChecksDefinition]:
    """A check for every stored asset. Its author has nothing to do for it."""
    return [_check(target) for target in targets]


def _check(target: Stored) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=dg.AssetKey.from_user_string(target.asset),
        name=NAME,
        description=_DESCRIPTION,
        partitions_def=target.partitions,
    )
    def reproducible(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        with reported(context.instance, context.run.run_id):
            commits = list(target.store.last_commits([target.asset]).values())
        if target.partitions is None:
            return result(commits)
        found = {str(commit.partition): result([commit]) for commit in commits if target.owns(commit.partition)}
        return by_partition(context, found, result([]))

    return reproducible


def result(commits: Sequence[Commit]) -> dg.AssetCheckResult:
    """The verdict over the last commit of every partition of an asset."""
    red = {str(commit.partition): commit.deviation for commit in commits if commit.deviation is not None}
    if red:
        return _failed(commits, red)
    unchecked = [commit for commit in commits if commit.input_hash == UNKNOWN or commit.code_version is None]
    if unchecked or not commits:
        return _not_checked(commits, unchecked)
    rebuilt = sum(commit.sequence > 1 for commit in commits)
    said = "no rebuild gave other rows" if rebuilt else "built once: nothing to compare with yet"
    return dg.AssetCheckResult(
        passed=True,
        description=said if len(commits) == 1 else f"{len(commits)} partitions: {said}.",
        metadata={"status": "reproducible" if rebuilt else "first build", "partitions": len(commits)},
    )


def _failed(commits: Sequence[Commit], red: Mapping[str, Deviation]) -> dg.AssetCheckResult:
    lines = [f"{key}: " + "\n  - ".join(deviation.in_words(red[key])) for key in sorted(red)[:_SHOWN]]
    told = "\n".join([*lines, *([f"and {len(red) - _SHOWN} more"] if len(red) > _SHOWN else [])])
    columns = sorted({column for each in red.values() for column in each.columns})
    return dg.AssetCheckResult(
        passed=False,
        description=f"Rebuilt from the same inputs, config and code, and the rows are not the same.\n{told}\n"
        "Look for clocks, random numbers, picks without an order, sums of floats; `etl prove` helps.",
        metadata={
            "status": "not reproducible",
            "partitions": len(commits),
            "partitions not reproducible": len(red),
            "columns": ", ".join(columns) or "none",
        },
    )


def _not_checked(commits: Sequence[Commit], unchecked: Sequence[Commit]) -> dg.AssetCheckResult:
    """Not a pass, and nobody's fault: a warning."""
    if not commits:
        why = "nothing is committed yet"
    elif any(commit.input_hash == UNKNOWN for commit in unchecked):
        why = f"an input of {len(unchecked)} of {len(commits)} partitions has no fingerprint"
    else:
        why = "the asset has no code version"
    return dg.AssetCheckResult(
        passed=False,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"Not checked: {why}.",
        metadata={"status": f"not checked: {why}", "partitions": len(commits)},
    )
