"""Source specifications: what one source of files looks like, as data, checked when it is made.

Belongs here: the settings of a source (names, format, columns, zone, limits) and the target types of its contract.
Does not belong here: what is wrong with them (`spec_problems`), reading files (`judge`), looking for them (`scan`),
where the settings come from (the component).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, time
from typing import Any, Literal, TypeVar, cast

import pyarrow as pa

from etl_project.failures import Permanent
from etl_project.sources.name_pattern import NamePattern
from etl_project.sources.reading import formats
from etl_project.sources.reading.layout import PLAIN as PLAIN_LAYOUT
from etl_project.sources.reading.layout import UNKNOWN_COLUMNS, Layout
from etl_project.sources.reading.rows.row_settings import NO_RULES, RowSettings
from etl_project.sources.reading.values.value_settings import PLAIN, ValueSettings

FilesPerDay = Literal["many", "latest", "every"]
EmptyDays = Literal["missing", "allowed"]

ADDED = ("batch_date", "source_file", "source_line")
"""Columns that every row gets from its file; a source cannot name its own so."""

EVENT_TYPES = ("DATE", "TIMESTAMP", "TIMESTAMP WITH TIME ZONE")
"""Types whose values have a UTC day."""

DEFAULT_EXPANDED_BYTES = 16 * 2**30
DEFAULT_LINE_BYTES = 4 * 2**20
LONGEST_LATENESS_DAYS = 366
"""Each day of lateness is one more day of raw rows that every rebuild of a day reads."""

_PLAIN_TYPES = {
    "TINYINT": pa.int8(),
    "SMALLINT": pa.int16(),
    "INTEGER": pa.int32(),
    "BIGINT": pa.int64(),
    "UTINYINT": pa.uint8(),
    "USMALLINT": pa.uint16(),
    "UINTEGER": pa.uint32(),
    "UBIGINT": pa.uint64(),
    "FLOAT": pa.float32(),
    "DOUBLE": pa.float64(),
    "BOOLEAN": pa.bool_(),
    "VARCHAR": pa.string(),
    "JSON": pa.string(),
    "DATE": pa.date32(),
    "TIMESTAMP": pa.timestamp("us"),
    "TIMESTAMP WITH TIME ZONE": pa.timestamp("us", "UTC"),
}
T = TypeVar("T")

_DECIMAL = re.compile(r"DECIMAL\((\d+),\s*(\d+)\)")


class SpecError(Permanent):
    """The settings of a source cannot be used. The message lists everything that is wrong with them."""


@dataclass(frozen=True)
class SourceColumn:
    """One column of the contract. `type` is DuckDB's name for it, as DESCRIBE prints it."""

    name: str
    type: str
    nullable: bool = True

    @property
    def is_nested(self) -> bool:
        """Whether its values are written as JSON."""
        return self.type == "JSON" or self.type.endswith("[]") or self.type.startswith("STRUCT(")

    @property
    def children(self) -> tuple[SourceColumn, ...]:
        """The fields of a STRUCT, the element of a list."""
        import duckdb  # noqa: PLC0415 - commands that read no file do not wait for it

        return tuple(SourceColumn(name, str(kind)) for name, kind in duckdb.sqltype(self.type).children)

    @property
    def arrow(self) -> pa.DataType:
        """The Arrow type that carries this column without loss. Raises SpecError for a type no text can give."""
        decimal = _DECIMAL.fullmatch(self.type)
        if decimal:
            return pa.decimal128(int(decimal[1]), int(decimal[2]))
        if self.type.endswith("[]"):
            return pa.list_(pa.field("element", self.children[0].arrow))
        if self.type.startswith("STRUCT("):
            return pa.struct([pa.field(child.name, child.arrow) for child in self.children])
        if self.type not in _PLAIN_TYPES:
            raise SpecError(f"column {self.name}: type {self.type} cannot be read from a file")
        return _PLAIN_TYPES[self.type]


@dataclass(frozen=True)
class SourceSpec:
    """One source of daily files. Raises SpecError (retrying does not help) naming everything wrong at once.

    `patterns`: names as in a shell (`*`, `?`), with the day as `name_pattern` has it; `*` also spans folders.
    `quiet_seconds`: so long a file stays where it is after it was taken in, and longer while it changes (0: it goes).
    `columns`: name in the file's header -> column of the contract; the file has exactly these, in any order. Names
    for the same column are names that it has in different files. `layout`: how files may differ from this.
    `types`: the columns of the contract; those that no file column maps to are none of this module's business.
    `time_zone`: the IANA zone of local times in the file. `max_expanded_bytes`: a file's size once decompressed.
    `event_column`: rows belong to the UTC day of this column, which may lie up to `lateness_days` before the day of
    their file; without it they belong to the day of their file. `deduplicate_on`: columns that name a row; what comes
    again is left out of the table. `deadline`: when the file of a day must be there, UTC, on the day after.
    `repeats_itself`: the sender may send rows again under another name; a copy of what a day has is then no mistake.
    `unended_last_line`, `same_content_on_days`: what a new file is that looks cut, or has the content of another day.
    `business_zone`: the IANA zone whose days the files, and the rows by `event_column`, are of (none: UTC).
    `date_column`: the column whose day, in that zone, is the day of the file in every row.
    `day_from`: files have no day in their name; the day of a row is that of this column, in the same zone. A file may
    hold rows of many days. `files_per_day` says what two files do that hold the same day; `every`: each of them adds
    its rows, also one that has the name of another. A date in `patterns` says then which of them is the newest.
    `days_left_out`: what becomes of days that an earlier file of the same name held and a newer one does not.
    `encoding`, then `other_encodings`, are tried on all of a file; `valid_utf8`: what a file is that is valid UTF-8
    with letters beyond ASCII although it should be in another encoding.
    `values`: how the values of all columns are written; `column_values`: those of single columns of the contract.
    `rows`: which records are rows, and what the contract asks of each.
    """

    name: str
    patterns: tuple[str, ...]
    columns: Mapping[str, str]
    types: tuple[SourceColumn, ...]
    start_date: date
    format: str = "csv"
    delimiter: str | None = None
    encoding: str = "utf-8"
    other_encodings: tuple[str, ...] = ()
    valid_utf8: Literal["refuse", "as_utf8", "as_declared"] = "refuse"
    time_zone: str = "UTC"
    files_per_day: FilesPerDay = "many"
    empty_days: EmptyDays = "missing"
    max_rejected_ratio: float = 0.01
    max_expanded_bytes: int = DEFAULT_EXPANDED_BYTES
    max_line_bytes: int = DEFAULT_LINE_BYTES
    settle_seconds: float = 1.0
    quiet_seconds: float = 0.0
    event_column: str | None = None
    lateness_days: int = 0
    deduplicate_on: tuple[str, ...] = ()
    deadline: time | None = None
    repeats_itself: bool = False
    unended_last_line: Literal["refuse", "accept"] = "refuse"
    same_content_on_days: Literal["refuse", "accept"] = "refuse"
    date_column: str | None = None
    business_zone: str | None = None
    day_from: str | None = None
    days_left_out: Literal["keep", "remove"] | None = None
    values: ValueSettings = PLAIN
    column_values: Mapping[str, ValueSettings] = field(default_factory=dict)
    layout: Layout = PLAIN_LAYOUT
    rows: RowSettings = NO_RULES
    _timed: tuple[NamePattern, ...] = field(init=False, repr=False, compare=False, default=())
    _by_name: Mapping[str, SourceColumn] = field(init=False, repr=False, compare=False, default_factory=dict)
    _derived: dict[Any, Any] = field(init=False, repr=False, compare=False, default_factory=dict)

    def __post_init__(self) -> None:
        # It needs what is defined here.
        from etl_project.sources import spec_problems  # noqa: PLC0415

        problems = [*spec_problems.problems(self)]
        if problems:
            raise SpecError(f"source {self.name!r}: " + "; ".join(problems))
        object.__setattr__(self, "_by_name", {column.name: column for column in self.types})
        dated = self.day_from is None
        patterns = (NamePattern(pattern, dated=dated) for pattern in self.patterns if "{time}" in pattern or not dated)
        object.__setattr__(self, "_timed", tuple(pattern for pattern in patterns if pattern.orders))

    def derived(self, make: Callable[[SourceSpec], T]) -> T:
        """What `make` gives for this source, made once: a file of five rows would wait for it longer than for its rows.

        `make` is a function or class of a module, and its result is never changed.
        """
        if make not in self._derived:
            self._derived[make] = make(self)
        return cast(T, self._derived[make])

    @property
    def separator(self) -> str:
        """The delimiter in force: the one given, or the format's own."""
        known = formats.FORMATS.get(self.format)
        return self.delimiter if self.delimiter is not None else known.separator if known is not None else ","

    @property
    def separators(self) -> tuple[str, ...]:
        """The delimiters that a file may have, in the order in which they are tried on its first line."""
        return (self.separator, *self.layout.other_delimiters)

    @property
    def encodings(self) -> tuple[str, ...]:
        """The encodings that a file may be in, in the order in which they are tried."""
        declared = (self.encoding, *self.other_encodings)
        return ("utf-8", *declared) if self.valid_utf8 == "as_utf8" and "utf-8" not in declared else declared

    def version_of(self, name: str) -> tuple[str, str]:
        """What the versions of the file share, and what orders them before their sequence: a time in the names."""
        for pattern in self._timed:
            read = pattern.last(name)
            if read is not None:
                made = "" if self.day_from is None or read.day is None else read.day.isoformat()
                return read.group, f"{made}{read.time}"
        return name, ""

    @property
    def names_one_export(self) -> bool:
        """Whether, with `day_from`, every name has a date: that of the export, which has this name alone."""
        dated = [pattern for pattern in self._timed if pattern.forms]
        return self.day_from is not None and len(dated) == len(self.patterns)

    def column(self, name: str) -> SourceColumn:
        """The contract column of this name."""
        return self._by_name[name]

    def typed_column(self, name: str) -> SourceColumn:
        """The column of this name as the rules of rows see it: one that the file fills, or a computed one."""
        computed = self.rows.computed_column(name)
        return self._by_name[name] if computed is None else SourceColumn(name, computed.type, computed.nullable)

    @property
    def settings_of_columns(self) -> Mapping[str, ValueSettings]:
        """How the values of each column are written; a column that is not there has nothing special."""
        if self.values == PLAIN and not self.column_values:
            return {}
        return {target.name: self.column_values.get(target.name, self.values) for target in self.targets}

    @property
    def targets(self) -> tuple[SourceColumn, ...]:
        """The contract columns that a file fills, in the order of `columns`; last the one for unknown columns."""
        return self.derived(_targets)

    @property
    def filled(self) -> tuple[str, ...]:
        """The names of these columns. Several names in `columns` may stand for one of them."""
        kept = (UNKNOWN_COLUMNS,) if self.layout.unknown_columns == "keep" else ()
        return (*dict.fromkeys(self.columns.values()), *kept)


def _targets(spec: SourceSpec) -> tuple[SourceColumn, ...]:
    return tuple(spec.column(name) for name in spec.filled)
