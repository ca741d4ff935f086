"""The words of `defs.yaml` for checks of the typed rows, and what is wrong with them.

Belongs here: the YAML's own shape. What a check looks at, and its result, is `row_checks`'s.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any, Literal

import dagster as dg
from pydantic import Field

from etl_project.sources.spec import SpecError

Kind = Literal["not_null", "unique", "accepted_values", "accepted_range", "row_count", "freshness"]
_TAKES: dict[str, tuple[str, ...]] = {
    "not_null": ("columns",),
    "unique": ("columns",),
    "accepted_values": ("columns", "values"),
    "accepted_range": ("columns", "min", "max"),
    "row_count": ("min", "max"),
    "freshness": ("within_hours",),
}
EXAMPLES = {
    "not_null": "{check: not_null, columns: [customer_id]}",
    "unique": "{check: unique, columns: [order_no]}",
    "accepted_values": "{check: accepted_values, columns: [country], values: [DE, FR]}",
    "accepted_range": "{check: accepted_range, columns: [amount], min: 0, max: 10000}",
    "row_count": "{check: row_count, min: 1, max: 100000}",
    "freshness": "{check: freshness, within_hours: 26}",
}


class CheckWords(dg.Model):
    """One check of the rows of each day."""

    check: Kind = Field(description="What is looked at.")
    columns: Sequence[str] = Field(default=(), description="Columns of the table. `unique`: together.")
    values: Sequence[Any] = Field(default=(), description="`accepted_values`: what the columns may hold, besides NULL.")
    min: Any = Field(default=None, description="The smallest value, or number of rows, included.")
    max: Any = Field(default=None, description="The largest value, or number of rows, included.")
    within_hours: float | None = Field(
        default=None, description="`freshness`: the table is to be materialized again within so many hours."
    )
    name: str = Field(default="", description="Name of the check; by default its kind and its columns.")
    severity: Literal["error", "warn"] = Field(default="error", description="What a failure is.")
    blocking: bool = Field(default=False, description="Nothing is built of a day that fails.")

    @property
    def called(self) -> str:
        """The name under which Dagster knows it."""
        return self.name or "_".join([self.check, *self.columns])


def refuse_unusable(checks: Sequence[CheckWords], columns: Collection[str]) -> None:
    """Raise SpecError (retrying does not help) naming everything that is wrong with these checks."""
    problems = [problem for one in checks for problem in _problems(one, columns)]
    names = [one.called for one in checks if one.check != "freshness"]
    problems += [
        f"checks: {name!r} is there twice; give one a name" for name in sorted({*names}) if names.count(name) > 1
    ]
    if sum(one.check == "freshness" for one in checks) > 1:
        problems.append("checks: freshness is there twice")
    if problems:
        raise SpecError("; ".join(problems))


def _problems(one: CheckWords, columns: Collection[str]) -> Iterator[str]:
    said, like = f"checks: {one.called}", f"write it like {EXAMPLES[one.check]}"
    takes = _TAKES[one.check]
    given = {
        name for name in ("columns", "values", "min", "max", "within_hours") if getattr(one, name) not in (None, ())
    }
    given -= {name for name in ("columns", "values") if not list(getattr(one, name))}
    if extra := sorted(given - {*takes}):
        yield f"{said} takes no {', '.join(extra)}; {like}"
    for name in ("columns", "values", "within_hours"):
        if name in takes and name not in given:
            yield f"{said} needs {name}; {like}"
    if "min" in takes and not given & {"min", "max"}:
        yield f"{said} needs min, max or both; {like}"
    yield from (f"{said}: there is no column {name} in the contract" for name in one.columns if name not in columns)
    if one.check == "row_count":
        counts = [limit for limit in (one.min, one.max) if limit is not None]
        if not all(isinstance(limit, int) and not isinstance(limit, bool) and limit >= 0 for limit in counts):
            yield f"{said}: min and max are whole numbers from 0; {like}"
    if one.check == "freshness" and one.within_hours is not None and not one.within_hours > 0:
        yield f"{said}: within_hours is {one.within_hours}; it must be above 0, like 26"
    if one.check == "freshness" and one.blocking:
        yield f"{said} cannot be blocking: it is about days that were not built"
