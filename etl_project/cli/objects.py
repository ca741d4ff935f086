"""Objects: what commands do and say about the bucket of ETL_INCOMING, and nothing where it is not set.

Importing this loads nothing that a project without a bucket does not need.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from rich.markup import escape

from etl_project import settings, utc
from etl_project.cli.console import console
from etl_project.failures import EtlError

if TYPE_CHECKING:
    from etl_project.due import Project
    from etl_project.sources import looking

_SHOWN = 20


def fetched_first() -> None:
    """Fetch what waits before the project is loaded, since its days begin with its data.

    Objects that are too young get the time to settle once. What could not be fetched is said; whether it still cannot
    be, the pass after the files were taken in finds out.
    """
    configured = settings.load()
    if configured.incoming_url is None:
        return
    from etl_project.definitions import load_project  # noqa: PLC0415  # Takes a second.

    project, _ = load_project(strict=False)
    _, _, unsettled = _fetched(project)
    if unsettled:
        time.sleep(max(spec.settle_seconds for spec in project.sources))
        _fetched(project)


def fetched_after(project: Project) -> tuple[bool, bool]:
    """Send back what became of objects; whether others came meanwhile, and whether all went well."""
    if project.settings.incoming_url is None:
        return False, True
    placed, well, _ = _fetched(project)
    return placed > 0, well


def seen(project: Project) -> looking.Look | None:
    """What waits in the bucket, and what lies there for no source."""
    if project.settings.incoming_url is None:
        return None
    from etl_project.sources import looking  # noqa: PLC0415  # Needs an extra.

    found = looking.look(project.settings, project.sources, utc.now())
    if project.broken:
        return found  # A folder may be that of a source that cannot be loaded.
    return replace(found, stray=looking.stray_of(project.settings, [spec.name for spec in project.sources]))


def waiting_in_words(project: Project) -> list[str]:
    """Which objects wait, for commands that only look."""
    found = seen(project)
    if found is None:
        return []
    return [*(line for spec in project.sources for line in found.notices(spec.name)), *found.stray]


def _fetched(project: Project) -> tuple[int, bool, int]:
    """One pass, told: how many files it placed, whether all went well, and how many objects were too young."""
    from etl_project.sources import fetch  # noqa: PLC0415  # Needs an extra.

    try:
        done = fetch.fetch(project.settings, project.sources)
    except EtlError as error:
        done = fetch.Fetched(problems=[str(error)])
    if done.placed or done.archived or done.refused:
        console.print(done.in_words, highlight=False)
    wrong = [("not fetched", why) for why in done.problems] + [("not taken in", why) for why in done.passed_over]
    for what, why in wrong[:_SHOWN]:
        console.print(f"[red]{what}[/] {escape(why)}", soft_wrap=True, highlight=False)
    if len(wrong) > _SHOWN:
        console.print(f"and {len(wrong) - _SHOWN} more like these", highlight=False)
    return done.placed, not wrong, done.unsettled
