"""Publishing: what is said of rows that did not pass their checks, wherever they are kept.

Belongs here: the words, and which candidate still waits. Keeping candidates is the stores', running checks is not
storage's at all.
"""

from __future__ import annotations

from etl_project.storage.contract import Candidate, Commit, Scope, Table
from etl_project.storage.judging.messages import ChecksFailed, what

ALLOW_UNCHECKED_TAG = "etl/allow_unchecked"
"""Run tag: `true` publishes the rows of this run whatever their checks would say."""


def waits(one: Candidate, head: Commit | None) -> bool:
    """Whether the rows would be the next commit: one may have come past them while all rows were published."""
    return head is None or head.sequence < one.record.sequence


def refusal(table: Table, scope: Scope, reason: str) -> ChecksFailed:
    """The error of rows that did not pass, for `Request.audit` to raise."""
    return ChecksFailed(
        f"{what(table, scope)}: the new rows did not pass their checks and are not published; readers keep the old "
        f"ones.\n{reason}\nRetrying does not help. Look at them with `etl show` and `etl diff`, option --candidate. "
        "Correct the data or the code; if the rows are right, publish them with `etl rebuild --allow-unchecked`, or by "
        f"a run with the tag {ALLOW_UNCHECKED_TAG}=true.",
        reason,
    )


def not_even_kept(failed: ChecksFailed, error: Exception) -> ChecksFailed:
    """The same, where the rows could not be kept to be looked at."""
    return ChecksFailed(f"{failed}\nThe rows could not be kept as a candidate: {error}", failed.reason)


def no_candidate(table: Table, key: str | None) -> str:
    """What to say where a candidate is asked for and there is none."""
    whose = f"Asset {table.asset!r}" if key is None else f"Asset {table.asset!r}, partition {key!r}"
    setting = (
        "" if table.publish_after_checks else " Its rows are published as they come (publish is not after_checks)."
    )
    return (
        f"{whose}: there is no candidate: no rows of it wait that did not pass their checks.{setting} Retrying does "
        "not help."
    )
