"""Row settings: which records of a file are rows and which rows may stand beside each other, as data.

Belongs here: the settings, those rules of the contract that a single row can break, and what is wrong with them. Does
not belong here: applying them (`row_rules`, `skipping`, `control_totals`, `twins`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, get_args

if TYPE_CHECKING:
    from etl_project.sources.spec import SourceSpec

OnDuplicateKey = Literal["reject", "first", "last"]
TOTALS = re.compile(r"rows|(sum|min|max|count)\((\w+)\)")
"""What a sender may give a control total of."""


@dataclass(frozen=True)
class Computed:
    """A column of the table that no file brings: SQL over the raw row. `of_one_row`: it looks at no other row, so that
    a value that it cannot give is the fault of that row."""

    name: str
    type: str
    nullable: bool
    sql: str
    of_one_row: bool = True


@dataclass(frozen=True)
class RowSettings:
    """What is a row, and which rows fit together.

    `computed`: see `Computed`. `checks`: the CHECKs of the contract that a single row can break. `keys`: the columns of
    its primary key and UNIQUE constraints. `skip_rows_where`: SQL over the texts of a record (the columns of the table,
    `raw_text`, `source_line`); where it is true the record is no row. `footer_lines`: so many records at the end of a
    file are no rows. `expect`: a total over the rows of the file (`rows`, `sum(amount)`) and where in the skipped
    records the sender says what it should be. `on_duplicate_key`: which of the rows that share a key become rejects:
    all of them, or all but the first or the last in the order of files and lines; None: the day is refused.
    `repeated_hour_by`: columns that tell series of times apart (`repeated_hour: in_file_order`).
    """

    computed: tuple[Computed, ...] = ()
    checks: tuple[str, ...] = ()
    keys: tuple[tuple[str, ...], ...] = ()
    skip_rows_where: str | None = None
    footer_lines: int = 0
    expect: Mapping[str, str] = field(default_factory=dict)
    on_duplicate_key: OnDuplicateKey | None = None
    repeated_hour_by: tuple[str, ...] | None = None

    @property
    def of_rows(self) -> tuple[Computed, ...]:
        """The computed columns whose values follow from one row."""
        return tuple(one for one in self.computed if one.of_one_row)

    def computed_column(self, name: str) -> Computed | None:
        """The computed column of this name, if there is one."""
        return next((one for one in self.computed if one.name == name), None)


NO_RULES = RowSettings()
"""What every source has that says nothing, and whose contract asks for nothing of a row."""


def problems(spec: SourceSpec) -> Iterator[str]:
    """Everything that is wrong, each with its key and a right example."""
    rows = spec.rows
    if rows.footer_lines < 0 or isinstance(rows.footer_lines, bool):
        yield f"footer_lines is {rows.footer_lines}; it is the number of lines at the end that are no rows, like 1"
    yield from _problems_of_totals(spec)
    if rows.on_duplicate_key is not None:
        yield from _problems_of_keys(spec)
    event = rows.computed_column(spec.event_column) if spec.event_column is not None else None
    if event is not None and re.search(r"\bbatch_date\b", event.sql, re.IGNORECASE):
        yield f"event_column {event.name} is computed from batch_date, which is the day that it decides"
    for name in rows.repeated_hour_by or ():
        if name not in spec.filled:
            yield f"repeated_hour_by names {name!r}, which is not one of the columns that the file fills"


def _problems_of_totals(spec: SourceSpec) -> Iterator[str]:
    filled = set(spec.filled)
    if spec.rows.expect and not (spec.rows.footer_lines or spec.rows.skip_rows_where):
        yield "expect needs footer_lines or skip_rows_where: the lines in which the sender gives its totals"
    for total in spec.rows.expect:
        found = TOTALS.fullmatch(total)
        if found is None or (found[2] is not None and found[2] not in filled):
            yield f"expect names {total!r}; it can be rows, or sum, min, max or count of a column, like sum(amount)"


def _problems_of_keys(spec: SourceSpec) -> Iterator[str]:
    rows = spec.rows
    if rows.on_duplicate_key not in get_args(OnDuplicateKey):
        yield f"on_duplicate_key is {rows.on_duplicate_key!r}; it can be {', '.join(get_args(OnDuplicateKey))}"
    if not rows.keys:
        yield "on_duplicate_key needs a key in the contract, like PRIMARY KEY (batch_date, id)"
    if spec.lateness_days:
        yield "on_duplicate_key looks at the files of one day; with lateness_days say deduplicate_on"
    if spec.deduplicate_on:
        yield "on_duplicate_key and deduplicate_on contradict each other: say one of them"
    for name in {name for key in rows.keys for name in key}:
        computed = rows.computed_column(name)
        if computed is not None and not computed.of_one_row:
            yield f"on_duplicate_key: the key has {name}, which is computed from other rows too"
