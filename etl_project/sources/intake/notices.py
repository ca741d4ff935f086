"""Notices: what lies in a drop folder and will not be taken in by itself, in words that name it.

Belongs here: the sentences that sensor, `etl drain` and `etl status` show. Does not belong here: finding these things
(`scan`), or what is in quarantine, which has lists of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from etl_project.sources.intake.scan import Scan
from etl_project.sources.names import shown

_SHOWN = 10


def passed_over(source: str, found: Scan) -> list[str]:
    """Things that are no files to read: links, pipes, devices, subfolders that this user may not list."""
    by_reason: dict[str, list[str]] = {}
    for one in found.passed_over:
        by_reason.setdefault(one.reason, []).append(one.name)
    return [
        f"{source}: not taken in: {_some(sorted(names))} ({reason}). Put the file itself there, or remove it."
        for reason, names in sorted(by_reason.items())
    ]


def being_written(source: str, found: Scan) -> list[str]:
    """Files that have to wait for the process that has them open."""
    if not found.being_written:
        return []
    return [f"{source}: not taken yet, because a process has it open for writing: {_some(found.being_written)}."]


def removed(source: str, folder: Path) -> str:
    """A drop folder that was there once."""
    return (
        f"{source}: the drop folder {shown(str(folder))} is not there any more (not mounted, moved, removed?). Put it "
        "back, or make it anew, empty; until then nothing new is known of this source, and none of its days is empty."
    )


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(map(shown, names[:_SHOWN])) + more
