"""The words of `defs.yaml` that say how files may differ: each reaches the source as it was written."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml

from etl_project.sources.component import FileSource
from etl_project.sources.reading.layout import PLAIN, Layout
from etl_project.sources.reading.layout_words import LayoutWords

CONTRACT = (
    "CREATE TABLE t (batch_date DATE NOT NULL, id BIGINT NOT NULL, page VARCHAR, device VARCHAR, unknown_columns JSON)"
)
WRITTEN = """
name: t
patterns: ["{date}.csv"]
columns: {id: id, "Page/URL": page, Page_URL: page, device: device}
optional: [page]
since: {device: 2025-03-21}
unknown_columns: keep
ignored_columns: [FIPS]
header_matching: relaxed
nested_values: text
delimiter: [";", "||"]
skip_lines: 2
header: false
field_names: [id, "Page/URL", device]
comment: "#"
quote: "'"
escape: "\\\\"
trailing_delimiter: true
line_ends: any
compression: auto
zip_members: "*.csv"
max_expanded_ratio: 1000
max_empty_lines_ratio: 100
"""
EXPECTED = Layout(
    optional=("page",),
    since={"device": "2025-03-21"},
    unknown_columns="keep",
    ignored_columns=("FIPS",),
    header_matching="relaxed",
    nested_values="text",
    other_delimiters=("||",),
    skip_lines=2,
    header=False,
    field_names=("id", "Page/URL", "device"),
    comment="#",
    quote="'",
    escape="\\",
    trailing_delimiter=True,
    line_ends="any",
    compression="auto",
    zip_members="*.csv",
    max_expanded_ratio=1000,
    max_empty_lines_ratio=100,
)
ELSEWHERE = {"positions": "fixed", "sheet": "xlsx"}
"""Words of other formats: they are tried with those."""


def source(folder: Path, text: str) -> Any:
    (folder / "contract.sql").write_text(CONTRACT)
    return FileSource.resolve_from_yaml(text).spec(folder)


def test_every_word_reaches_the_source_as_it_was_written(tmp_path: Path) -> None:
    found = source(tmp_path, WRITTEN)
    assert found.layout == EXPECTED
    assert found.separators == (";", "||")
    names = {one.name for one in fields(Layout)} - ELSEWHERE.keys()
    assert [name for name in names if getattr(EXPECTED, name) == getattr(PLAIN, name)] == []
    assert set(LayoutWords.model_fields) >= names - {"other_delimiters"}


@pytest.mark.parametrize(
    ("words", "layout"),
    [
        (
            {"format": "fixed", "positions": {"id": "1-6", "p": "7-9", "d": 10}},
            {"positions": {"id": "1-6", "p": "7-9", "d": "10"}},
        ),
        ({"format": "xlsx", "sheet": "Orders"}, {"sheet": "Orders"}),
    ],
)  # fmt: skip
def test_words_of_single_formats_reach_it_too(tmp_path: Path, words: dict[str, Any], layout: dict[str, Any]) -> None:
    plain = {
        "name": "t",
        "patterns": ["{date}.csv"],
        "columns": {"id": "id", "p": "page", "d": "device"},
        "computed": {"unknown_columns": "null"},
    }
    assert source(tmp_path, yaml.safe_dump({**plain, **words})).layout == Layout(**layout)


def test_a_source_that_says_nothing_has_the_plain_layout(tmp_path: Path) -> None:
    text = 'name: t\npatterns: ["{date}.csv"]\ncolumns: {id: id, p: page, d: device, u: unknown_columns}\n'
    found = source(tmp_path, text)
    assert found.layout == PLAIN and found.separators == (",",)
    assert source(tmp_path, text + "format: tsv\n").separators == ("\t",)
    assert source(tmp_path, text + "delimiter: whitespace\n").separators == ("whitespace",)
