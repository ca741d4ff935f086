"""Field names: the fields of a message against those of its source, before it is landed.

Belongs here: which are missing, which are not expected. What unknown and nested fields do is what they do in any file
(`sources.reading`): they are landed as they were sent, and their source's settings apply where the file is read. So a
field that is ignored today is in the archive when the contract wants it tomorrow.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from etl_project.kafka import format as landed
from etl_project.kafka.subscription import Subscription
from etl_project.sources import header


class FieldNames:
    """The fields that messages of one subscription may have."""

    def __init__(self, subscription: Subscription) -> None:
        spec = subscription.source
        self._names = header.Names(spec)
        self._own = {self._names.target(name) for name in landed.FIELDS}
        self._first: dict[int | None, str] = {}
        for name in subscription.payload:
            self._first.setdefault(self._names.target(name), name)
        self._required = {at for at, name in self._first.items() if not subscription.payload[name]}

    def absent(self, fields: Iterable[str]) -> list[str]:
        """The fields that are null for not being there. Raises UnexpectedFields naming all that is wrong at once."""
        found: set[int | None] = set()
        unknown = []
        for name in fields:
            target = self._names.target(name)
            if target is not None and target not in self._own:
                found.add(target)
            elif target is None and self._names.leads_on(name):
                found.update(map(self._names.target, self._names.below(name)))
            elif target is not None or self._names.is_refused(name):
                unknown.append(name)
        missing = [name for at, name in self._first.items() if at in self._required and at not in found]
        if unknown or missing:
            raise UnexpectedFields(missing, unknown)
        return [name for at, name in self._first.items() if at not in found]


class UnexpectedFields(ValueError):
    """The message has other fields than its source; the text names them."""

    def __init__(self, missing: list[str], unknown: list[str]) -> None:
        both = (("missing", missing), ("not expected", unknown))
        text = "; ".join(f"{what} {', '.join(map(repr, names))}" for what, names in both if names)[:2000]
        hint = " (a source may say `unknown_columns: ignore`, or `keep`)" if set(unknown) - {*landed.FIELDS} else ""
        super().__init__(text + hint)


def value_at(fields: Mapping[str, Any], path: str) -> Any:
    """The value of a field, or of a path through objects (`customer.id`); None where there is none."""
    if path in fields:
        return fields[path]
    value: Any = fields
    for name in path.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value
