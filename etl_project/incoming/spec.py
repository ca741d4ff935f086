"""Source specifications: what one source of files looks like, as data, checked when it is made.

Belongs here: the settings of a source (names, format, columns, zone, limits) and the target types of its contract.
Does not belong here: reading files (`judge`), looking for them (`scan`), where the settings come from (the component).
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import pyarrow as pa

from etl_project.failures import Permanent

Format = Literal["csv", "tsv", "jsonl", "parquet"]
FilesPerDay = Literal["many", "latest"]
EmptyDays = Literal["missing", "allowed"]

ADDED = ("batch_date", "source_file", "source_line")
"""Columns that every row gets from its file; a source cannot name its own so."""

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
    "DATE": pa.date32(),
    "TIMESTAMP": pa.timestamp("us"),
    "TIMESTAMP WITH TIME ZONE": pa.timestamp("us", "UTC"),
}
_DECIMAL = re.compile(r"DECIMAL\((\d+),\s*(\d+)\)")


class SpecError(Permanent):
    """The settings of a source cannot be used. The message lists everything that is wrong with them."""


@dataclass(frozen=True)
class Column:
    """One column of the contract. `type` is DuckDB's name for it, as DESCRIBE prints it."""

    name: str
    type: str
    nullable: bool = True

    @property
    def arrow(self) -> pa.DataType:
        """The Arrow type that carries this column without loss. Raises SpecError for a type no text can give."""
        decimal = _DECIMAL.fullmatch(self.type)
        if decimal:
            return pa.decimal128(int(decimal[1]), int(decimal[2]))
        if self.type not in _PLAIN_TYPES:
            raise SpecError(f"column {self.name}: type {self.type} cannot be read from a file")
        return _PLAIN_TYPES[self.type]


@dataclass(frozen=True)
class SourceSpec:
    """One source of daily files. Raises SpecError (retrying does not help) naming everything wrong at once.

    `patterns`: names as in a shell (`*`, `?`), with `{date}` for the day as YYYY-MM-DD; `*` also spans folders.
    `columns`: name in the file's header -> column of the contract; the file has exactly these, in any order.
    `types`: the columns of the contract; those that no file column maps to are none of this module's business.
    `time_zone`: the IANA zone of local times in the file. `max_expanded_bytes`: a file's size once decompressed.
    """

    name: str
    patterns: tuple[str, ...]
    columns: Mapping[str, str]
    types: tuple[Column, ...]
    start_date: date
    format: Format = "csv"
    delimiter: str | None = None
    encoding: str = "utf-8"
    time_zone: str = "UTC"
    files_per_day: FilesPerDay = "many"
    empty_days: EmptyDays = "missing"
    max_rejected_ratio: float = 0.01
    max_expanded_bytes: int = 16 * 2**30
    max_line_bytes: int = 4 * 2**20
    settle_seconds: float = 1.0
    _by_name: Mapping[str, Column] = field(init=False, repr=False, compare=False, default_factory=dict)

    def __post_init__(self) -> None:
        problems = [*_problems_of_names(self), *_problems_of_columns(self), *_problems_of_values(self)]
        if problems:
            raise SpecError(f"source {self.name!r}: " + "; ".join(problems))
        object.__setattr__(self, "_by_name", {column.name: column for column in self.types})

    @property
    def separator(self) -> str:
        """The delimiter in force: the one given, or the format's own."""
        return self.delimiter or ("\t" if self.format == "tsv" else ",")

    @property
    def targets(self) -> tuple[Column, ...]:
        """The contract columns that a file fills, in the order of `columns`."""
        return tuple(self._by_name[name] for name in self.columns.values())


def _problems_of_names(spec: SourceSpec) -> Iterator[str]:
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", spec.name):
        yield "the name of a source is letters, digits and _, and starts with a letter"
    if not spec.patterns:
        yield "patterns is empty"
    for pattern in spec.patterns:
        if pattern.count("{date}") != 1:
            yield f"pattern {pattern!r} must hold {{date}} exactly once"


def _problems_of_columns(spec: SourceSpec) -> Iterator[str]:
    known = {column.name: column for column in spec.types}
    targets = list(spec.columns.values())
    if not targets:
        yield "columns is empty"
    for name in dict.fromkeys(targets):
        if name in ADDED:
            yield f"column {name} is filled in from the file itself; no column of the file can be mapped to it"
        elif targets.count(name) > 1:
            yield f"column {name} is mapped {targets.count(name)} times"
        elif name not in known:
            yield f"column {name} is not in the contract (it has {', '.join(known) or 'no columns'})"
        else:
            try:
                _ = known[name].arrow
            except (SpecError, ValueError) as error:
                yield str(error)


def _problems_of_values(spec: SourceSpec) -> Iterator[str]:
    for setting, allowed in (
        ("format", ("csv", "tsv", "jsonl", "parquet")),
        ("files_per_day", ("many", "latest")),
        ("empty_days", ("missing", "allowed")),
    ):
        if getattr(spec, setting) not in allowed:
            yield f"{setting} is {getattr(spec, setting)!r}; it can be {', '.join(allowed)}"
    if len(spec.separator) != 1 or not spec.separator.isascii() or spec.separator in '"\r\n\0':
        yield f"delimiter is {spec.delimiter!r}; it must be one ASCII character, no quote and no line end"
    try:
        codecs.lookup(spec.encoding)
    except LookupError:
        yield f"encoding {spec.encoding!r} is not known"
    try:
        ZoneInfo(spec.time_zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        yield f"time_zone {spec.time_zone!r} is not known; write an IANA name like Europe/London"
    if not 0 <= spec.max_rejected_ratio <= 1:
        yield f"max_rejected_ratio is {spec.max_rejected_ratio}; it must lie between 0 and 1"
    for setting in ("max_expanded_bytes", "max_line_bytes"):
        if getattr(spec, setting) < 1:
            yield f"{setting} is {getattr(spec, setting)}; it must be at least 1"
    if not 0 <= spec.settle_seconds < float("inf"):
        yield f"settle_seconds is {spec.settle_seconds}; it must be 0 or more"
