"""Left candidates: rows that did not pass their checks and wait for nothing any more, removed, in words.

Belongs here: which assets are asked about. Finding and removing is the stores'. An asset that is not loaded, as its
pipeline is broken, is not asked about: whether it still says `publish: after_checks` is not known.
"""

from __future__ import annotations

from itertools import chain

from etl_project.declare import warehouse
from etl_project.due import Project

_NAMED = 10


def tidied(project: Project, *, dry_run: bool = False) -> str:
    """Remove candidates whose day was committed since, and those of assets that are published as they come.

    One line of what was done. Raises StoreBusy and StoreUnavailable (retrying helps); a kill leaves some for next time.
    """
    assets = {node.asset: node.published_after_checks for node in project.nodes}
    stores = project.lake, warehouse(project.settings)
    gone = list(chain.from_iterable(store.drop_left_candidates(assets, dry_run=dry_run) for store in stores))
    named = ", ".join(f"{record.asset} {record.partition or ''}".strip() for record in gone[:_NAMED])
    more = ", ..." if len(gone) > _NAMED else ""
    return (
        f"{len(gone)} candidates that wait for nothing {'would be ' if dry_run else ''}removed"
        f"{f': {named}{more}' if gone else ''}"
    )
