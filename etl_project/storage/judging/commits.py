"""Commit records as plain values: the JSON in which they travel inside files, and are cached.

Belongs here: the two ways between a record and what JSON holds. Does not belong here: where records lie (`tables`,
`lake`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Any

from etl_project.storage.contract import Commit, Deviation, Example, Restored


def to_json(commit: Commit) -> str:
    """The record as text; `from_json` gives it back."""
    return json.dumps(to_fields(commit))


def from_json(text: str) -> Commit:
    """The record that `to_json` wrote; fields that a later version added are passed over."""
    return from_fields(json.loads(text))


def to_fields(commit: Commit) -> dict[str, Any]:
    """The record as what JSON can hold."""
    deviation = None if commit.deviation is None else asdict(commit.deviation)
    fields = {**vars(commit), "committed_at": commit.committed_at.isoformat(), "deviation": deviation}
    restored = fields.pop("restored")
    return fields if restored is None else {**fields, "restored": asdict(restored)}


def from_fields(fields: Mapping[str, Any]) -> Commit:
    """The record that `to_fields` gave, or an earlier version of it."""
    values = {name: value for name, value in fields.items() if name in Commit.__dataclass_fields__}
    values["committed_at"] = datetime.fromisoformat(values["committed_at"])
    values["schema_changes"] = tuple(values["schema_changes"])
    values["deviation"] = deviation_of(values.get("deviation"))
    values["restored"] = restored_of(values.get("restored"))
    return Commit(**values)


def restored_of(fields: Mapping[str, Any] | None) -> Restored | None:
    """What a record says about rows that were brought back; fields that a later version added are passed over."""
    known = Restored.__dataclass_fields__
    return None if fields is None else Restored(**{name: value for name, value in fields.items() if name in known})


def deviation_of(fields: Mapping[str, Any] | None) -> Deviation | None:
    """The deviation that a record carries, or that of an earlier version; None for one without."""
    if fields is None:
        return None
    examples = tuple(Example(example["old"], example["new"]) for example in fields["examples"])
    repeats = fields.get("repeats", 0)  # Records of an earlier version have none.
    return Deviation(fields["fingerprint"], tuple(fields["columns"]), examples, fields["note"], repeats)
