"""Layout: how the files of a source may differ from each other and from the plain form of their format.

Belongs here: these settings and what is wrong with them. Every one of them is off by default. Does not belong here:
what they do (`header`, the formats), their words in `defs.yaml` (`layout_words`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from datetime import date
from importlib.util import find_spec
from typing import TYPE_CHECKING

from etl_project.sources.reading import formats
from etl_project.sources.reading.fixed_width import span_of
from etl_project.sources.reading.header import relaxed

if TYPE_CHECKING:
    from etl_project.sources.spec import SourceSpec

UNKNOWN_COLUMNS = "unknown_columns"
"""The column of the table that takes what a file has beside the source's columns, as a JSON object."""


@dataclass(frozen=True, repr=False)
class Layout:
    """Settings of a source; the plain `Layout()` takes files with exactly the source's columns.

    `optional`: columns of the table that a file may lack; they are NULL then. `since`: those that files before that
    day (YYYY-MM-DD) may lack. `unknown_columns`: what a column that the source does not have does: `refuse` the file,
    `ignore` it, or `keep` it as JSON in the column `unknown_columns`. `ignored_columns`: names that a file may have and
    nobody needs. `header_matching`: `exact`, or `relaxed` (case, blanks and invisible characters do not count).
    `skip_lines`: so many lines at the start are none of the file's. `header`: the first line after them names the
    fields; without one, `field_names` does, or `columns` in their order. `comment`: lines that start so are none.
    `quote`, `escape`: one character, or empty for none. `trailing_delimiter`: a record may end with one more.
    `other_delimiters`: tried after the first one. `line_ends`: `lf` (CRLF too) or `any` (a CR alone too).
    `compression`: what the `name` of a file says, `auto` (its first bytes), or one for all. `zip_members`: a pattern of
    the names that are read in a ZIP archive. `sheet`: the one of a workbook that has several.
    `max_expanded_ratio`: a file may unpack to so many times its size. `max_empty_lines_ratio`: so many empty lines to
    each other one may a text file have, beyond a million.
    `positions`: of fixed width, the name of a field: its first and last character, from 1.
    `nested_values`: objects and lists in a VARCHAR column `refuse` the record, or are kept as JSON `text`.
    """

    optional: tuple[str, ...] = ()
    since: Mapping[str, str] | tuple[()] = ()
    unknown_columns: str = "refuse"
    ignored_columns: tuple[str, ...] = ()
    header_matching: str = "exact"
    nested_values: str = "refuse"
    skip_lines: int = 0
    header: bool = True
    field_names: tuple[str, ...] = ()
    comment: str = ""
    quote: str = '"'
    escape: str = ""
    trailing_delimiter: bool = False
    other_delimiters: tuple[str, ...] = ()
    line_ends: str = "lf"
    positions: Mapping[str, str] | tuple[()] = ()
    compression: str = "name"
    zip_members: str = "*"
    sheet: str = ""
    max_expanded_ratio: int = 200
    max_empty_lines_ratio: int = 10

    def __repr__(self) -> str:
        """The settings that are in use: one that is not must not show in any version of the source."""
        used = (
            f"{one.name}={getattr(self, one.name)!r}" for one in fields(self) if getattr(self, one.name) != one.default
        )
        return f"Layout({', '.join(used)})"

    def may_lack(self, column: str, day: date | None) -> bool:
        """Whether a file of this day may come without this column of the table."""
        first = dict(self.since).get(column)
        return column in self.optional or (first is not None and day is not None and day < date.fromisoformat(first))


PLAIN = Layout()


OF_SOME_FORMATS = {
    "skip_lines": "3",
    "header": "false",
    "field_names": "[id, name]",
    "comment": "'#'",
    "quote": '"\'"',
    "escape": "'\\'",
    "trailing_delimiter": "true",
    "other_delimiters": "[';', ',']",
    "line_ends": "any",
    "positions": "{id: 1-6}",
    "compression": "auto",
    "zip_members": "'*.csv'",
    "sheet": "Orders",
}
"""The settings that not every format knows, and a right example of each."""


def problems(spec: SourceSpec) -> Iterator[str]:
    """Everything that is wrong with the layout of a source, each in one line with a right example."""
    for setting, allowed in (
        ("unknown_columns", ("refuse", "ignore", "keep")),
        ("header_matching", ("exact", "relaxed")),
        ("nested_values", ("refuse", "text")),
        ("line_ends", ("lf", "any")),
        ("compression", ("name", "auto", "none", "gzip", "zstd", "zip")),
    ):
        if getattr(spec.layout, setting) not in allowed:
            yield f"{setting} is {getattr(spec.layout, setting)!r}; it can be {', '.join(allowed)}"
    yield from _problems_of_absent_columns(spec)
    yield from _problems_of_unknown_columns(spec)
    yield from _problems_of_matching(spec)
    yield from _problems_of_text(spec)


def _problems_of_text(spec: SourceSpec) -> Iterator[str]:
    known = formats.FORMATS.get(spec.format)
    for setting, example in OF_SOME_FORMATS.items():
        if (
            known is not None
            and setting not in known.words
            and getattr(spec.layout, setting) != getattr(PLAIN, setting)
        ):
            word = "delimiter" if setting == "other_delimiters" else setting
            others = ", ".join(name for name, one in formats.FORMATS.items() if setting in one.words)
            yield f"{word} is no setting of the format {spec.format}; like {word}: {example} it is one of {others}"
    yield from _problems_of_packing(spec)
    if spec.layout.skip_lines < 0:
        yield f"skip_lines is {spec.layout.skip_lines}; it is a number of lines, like skip_lines: 3"
    for setting, one in (("quote", spec.layout.quote), ("escape", spec.layout.escape)):
        if len(one) > 1 or one in ("\r", "\n", "\0") or (one and one in spec.separators):
            right = f"{setting}: {OF_SOME_FORMATS[setting]}"
            yield f"{setting} is {one!r}; it is one character that is no delimiter, or '' for none, like {right}"
    if spec.layout.quote and spec.layout.quote == spec.layout.escape:
        yield "escape is the quote itself, which is doubled anyway; leave it out, or write escape: '\\'"
    yield from _problems_of_field_names(spec)
    if known is not None and "positions" in known.settings:
        yield from _problems_of_positions(spec.layout.positions)


def _problems_of_packing(spec: SourceSpec) -> Iterator[str]:
    known = formats.FORMATS.get(spec.format)
    if known is not None and known.library and find_spec(known.library) is None:
        yield f"format {spec.format} needs {known.library}: pip install 'etl-project[{known.extra}]'"
    if spec.layout.max_expanded_ratio < 1:
        yield f"max_expanded_ratio is {spec.layout.max_expanded_ratio}; it is a number, like max_expanded_ratio: 1000"
    if spec.layout.max_empty_lines_ratio < 1:
        found = spec.layout.max_empty_lines_ratio
        yield f"max_empty_lines_ratio is {found}; it is a number, like max_empty_lines_ratio: 100"
    if not spec.layout.zip_members:
        yield "zip_members is empty; it is a pattern of names, like zip_members: '*.csv'"


def _problems_of_field_names(spec: SourceSpec) -> Iterator[str]:
    names = spec.layout.field_names
    if names and spec.layout.header:
        yield "field_names are for files without a header; write header: false as well"
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        yield f"field_names holds {', '.join(repeated)} twice; like field_names: [id, name]"
    if not spec.layout.header and not names and len(set(spec.columns.values())) < len(spec.columns):
        yield "header: false takes the fields in the order of columns; one has two names: say field_names: [id, name]"


def _problems_of_positions(positions: Mapping[str, str] | tuple[()]) -> Iterator[str]:
    if not positions:
        yield "positions says where the fields of a fixed width are; like positions: {id: 1-6, name: 7-26}"
    for name, place in dict(positions).items():
        if span_of(place) is None:
            yield f"positions: {name}: {place!r} is no first and last character; like positions: {{{name}: 7-26}}"


def _problems_of_absent_columns(spec: SourceSpec) -> Iterator[str]:
    filled = {column.name: column for column in spec.types if column.name in spec.columns.values()}
    example = next((name for name, column in filled.items() if column.nullable), "device")
    for setting, names, right in (
        ("optional", spec.layout.optional, f"optional: [{example}]"),
        ("since", tuple(dict(spec.layout.since)), f"since: {{{example}: 2025-03-21}}"),
    ):
        for name in names:
            if name not in filled:
                yield f"{setting} names {name!r}, which is no column of the table that the file fills; like {right}"
            elif not filled[name].nullable:
                yield f"{setting} names {name}, which is NOT NULL: a file without it would have no rows; like {right}"

    for name, day in dict(spec.layout.since).items():
        try:
            date.fromisoformat(day)
        except ValueError:
            yield f"since: {name}: {day!r} is no day; write since: {{{name}: 2025-03-21}}"


def _problems_of_unknown_columns(spec: SourceSpec) -> Iterator[str]:
    for name in spec.layout.ignored_columns:
        if name in spec.columns:
            yield f"ignored_columns names {name!r}, which columns maps to {spec.columns[name]}: it is one or the other"
    if spec.layout.unknown_columns != "keep":
        return
    if UNKNOWN_COLUMNS in spec.columns.values():
        yield f"unknown_columns: keep fills the column {UNKNOWN_COLUMNS}; no column of the file can be mapped to it"
    column = next((column for column in spec.types if column.name == UNKNOWN_COLUMNS), None)
    if column is None or column.type not in ("JSON", "VARCHAR") or not column.nullable:
        yield f"unknown_columns: keep needs a column that may be NULL in the contract, like `{UNKNOWN_COLUMNS} JSON`"


def _problems_of_matching(spec: SourceSpec) -> Iterator[str]:
    if spec.layout.header_matching != "relaxed":
        return
    alike: dict[str, str] = {}
    for name, target in spec.columns.items():
        other = alike.setdefault(relaxed(name), name)
        if spec.columns[other] != target:
            yield f"header_matching: relaxed cannot tell {other!r} from {name!r}; write header_matching: exact"
