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

    def layout(self) -> Layout:
        """The settings as the incoming layer takes them."""
        return Layout(
            optional=tuple(self.optional),
            since=dict(self.since) or (),
            unknown_columns=self.unknown_columns,
            ignored_columns=tuple(self.ignored_columns),
            header_matching=self.header_matching,
            nested_values=self.nested_values,
        )
