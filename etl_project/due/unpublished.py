"""Unpublished: what candidates keep from being built.

Belongs here: which of the rows that did not pass their checks still count, and what is said of them. Nothing is read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from etl_project.due.graph import Key, Node
from etl_project.due.reasons import Heads, Verdict
from etl_project.storage import Candidate


def verdicts(
    nodes: Iterable[Node], found: Mapping[tuple[str, Key], Candidate], heads: Heads
) -> dict[tuple[str, Key], Verdict]:
    """The partitions of which nothing may be built, because newer rows of them wait that did not pass.

    A candidate of other inputs than the committed rows counts as long as those inputs are there: the partition is due
    then, and what reads it comes with it or after it. Once they are withdrawn, the committed rows are right again.
    """
    by_name = {node.asset: node for node in nodes}
    return {
        (asset, key): Verdict(f"its newest rows are not published: {in_words(one)}")
        for (asset, key), one in found.items()
        if (asset, key) in heads
        and (heads[asset, key].input_hash == one.record.input_hash or not by_name[asset].follows_inputs)
    }


def in_words(one: Candidate) -> str:
    """What waits, since when, and why."""
    record = one.record
    since = f"{record.committed_at:%Y-%m-%d %H:%M} UTC"
    why = f": {one.reason}" if one.reason else ""
    return f"{record.rows:,} rows of run {record.run_id[:8]} ({since}) wait as a candidate{why}"
