"""Layout words: the settings of a `Layout` as `defs.yaml` says them.

Belongs here: names, types and one line of help for each. Does not belong here: what they do, what is wrong with them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import dagster as dg
from pydantic import Field

from etl_project.sources.reading.layout import Layout


class LayoutWords(dg.Model):
    """The words of `defs.yaml` that make a `Layout`."""

    optional: Sequence[str] = Field(default=(), description="Columns of the table that a file may lack: NULL then.")
    since: Mapping[str, str] = Field(
        default={}, description="Column of the table: the first day whose files must have it; before, it may be absent."
    )
    unknown_columns: str = Field(
        default="refuse",
        description="What a column that the source lacks does: `refuse` the file, `ignore` it, or `keep` it as JSON.",
    )
    ignored_columns: Sequence[str] = Field(default=(), description="Columns of the file that nobody needs.")
    header_matching: str = Field(
        default="exact", description="`relaxed`: case, blanks and invisible characters do not count in column names."
    )

    nested_values: str = Field(
        default="refuse", description="`text`: objects and lists in a VARCHAR column are kept as JSON text."
    )

    skip_lines: int = Field(default=0, description="So many lines at the start of a file are none of its own.")
    header: bool = Field(default=True, description="Whether the first line names the fields.")
    field_names: Sequence[str] = Field(
        default=(), description="Without a header: the fields in their order, if not those of `columns`."
    )
    comment: str = Field(default="", description="Lines that start with this are no records.")
    quote: str = Field(default='"', description="One character around a field, or '' for none.")
    escape: str = Field(
        default="", description="One character that takes away the meaning of the next, or '' for none."
    )
    trailing_delimiter: bool = Field(default=False, description="Records may end with one delimiter more.")
    line_ends: str = Field(default="lf", description="`any`: a carriage return alone ends a line too.")
    positions: Mapping[str, str | int] = Field(
        default={}, description="Format `fixed`: name of a field: its first and last character, like 7-26."
    )

    compression: str = Field(
        default="name", description="`auto`: by the bytes of the file, not its name; or none, gzip, zstd, zip for all."
    )
    zip_members: str = Field(default="*", description="The members of a ZIP archive that are read, as a pattern.")
    sheet: str = Field(default="", description="Format `xlsx`: the sheet that is read; the only one if none is named.")
    max_expanded_ratio: int = Field(default=200, description="A file that unpacks to more times its size is refused.")
    max_empty_lines_ratio: int = Field(
        default=10,
        description="A file with more empty lines than this to each other line is refused, beyond a million.",
    )

    def layout(self, other_delimiters: Sequence[str] = ()) -> Layout:
        """The settings as the incoming layer takes them."""
        return Layout(
            optional=tuple(self.optional),
            since=dict(self.since) or (),
            unknown_columns=self.unknown_columns,
            ignored_columns=tuple(self.ignored_columns),
            header_matching=self.header_matching,
            nested_values=self.nested_values,
            skip_lines=self.skip_lines,
            header=self.header,
            field_names=tuple(self.field_names),
            comment=self.comment,
            quote=self.quote,
            escape=self.escape,
            trailing_delimiter=self.trailing_delimiter,
            other_delimiters=tuple(other_delimiters),
            line_ends=self.line_ends,
            positions={name: str(place) for name, place in self.positions.items()} or (),
            compression=self.compression,
            zip_members=self.zip_members,
            sheet=self.sheet,
            max_expanded_ratio=self.max_expanded_ratio,
            max_empty_lines_ratio=self.max_empty_lines_ratio,
        )
