"""Losses: offsets that were gone (retention, deleted records) before they could be landed, on record.

Belongs here: the record of a loss. Does not belong here: noticing one (`landing`), judging the chain (`offsets`).
"""

from __future__ import annotations

import json
from pathlib import Path

from etl_project import atomic, utc
from etl_project.kafka import format as landed
from etl_project.kafka.format import Span


def record(folder: Path, span: Span, group: str) -> Path:
    """Make the loss of these offsets durable, before anything beyond them is landed; gives the path of the record.

    It stays, and keeps the check red, until somebody renames it to `acknowledged_...`. Recording it twice changes
    nothing.
    """
    path = folder / landed.lost_name(span)
    content = {
        **span._asdict(),
        "group": group,
        "noticed_at": utc.now().isoformat(timespec="seconds"),
        "reason": "the broker no longer has these offsets: retention or a deletion was faster than the landing",
    }
    with atomic.replacing(path, "kafka.lost") as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return path
