"""The header of a file among its rows is no row, where its columns would take any text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from etl_project.sources.intake import admit
from etl_project.sources.reading import judge
from etl_project.sources.reading.file_refused import FileRefused
from etl_project.sources.reading.layout import Layout
from etl_project.sources.reading.rows.row_settings import RowSettings
from etl_project.sources.spec import SourceColumn, SourceSpec

from ..world import DAY, World, all_rows, read, spec

NAME = "a-2024-03-05.csv"
ROWS = b"word,meaning\na,first\nb,second\n"
TWICE = ROWS + ROWS
BOM = b"\xef\xbb\xbf"
TYPES = (SourceColumn("term", "VARCHAR", nullable=False), SourceColumn("meaning", "VARCHAR"))


def of_words(**changes: Any) -> SourceSpec:
    return spec(**{"columns": {"word": "term", "meaning": "meaning"}, "types": TYPES} | changes)


@pytest.mark.parametrize(
    ("content", "changes"),
    [
        (TWICE, {}),
        (b"meaning,word\nfirst,a\nmeaning,word\n", {}),
        (b"word,meaning\nword,meaning\n", {}),
        ((BOM + ROWS) * 2, {}),
        (BOM + ROWS + BOM + b'"word","meaning"\na,first\n', {}),
        ((BOM + b"Word,meaning\na,first\n") * 2, {"layout": Layout(header_matching="relaxed")}),
        (b"Word, meaning\na,first\nWord, meaning\n", {"layout": Layout(header_matching="relaxed")}),
        (TWICE, {"layout": Layout(unknown_columns="keep"), "types": (*TYPES, SourceColumn("unknown_columns", "JSON"))}),
    ],
)
def test_a_file_with_its_header_among_its_rows_is_refused(
    tmp_path: Path, content: bytes, changes: dict[str, Any]
) -> None:
    with pytest.raises(FileRefused, match="the header again"):
        read(content, tmp_path, of_words(**changes))


@pytest.mark.parametrize(
    ("content", "condition"),
    [
        (TWICE, "term = 'word' and meaning = 'meaning'"),
        ((BOM + ROWS) * 2, "term like '%word%' and meaning like '%meaning%'"),
    ],
)
def test_the_line_and_the_setting_are_named_and_the_setting_leaves_it_out(
    tmp_path: Path, content: bytes, condition: str
) -> None:
    with pytest.raises(FileRefused) as refused:
        read(content, tmp_path, of_words())
    assert "line 4" in refused.value.found
    assert f"skip_rows_where: {condition}" in refused.value.expected
    found = read(content, tmp_path, of_words(rows=RowSettings(skip_rows_where=condition)))
    assert [row["term"] for row in all_rows(found)] == ["a", "b", "a", "b"]


@pytest.mark.parametrize(
    ("content", "changes"),
    [
        (b"word,meaning\nword,a word\na,meaning\nword,\n", {}),
        (b"word\na\nword\n", {"layout": Layout(optional=("meaning",))}),
        (b'{"word": "word", "meaning": "meaning"}\n', {"format": "jsonl", "patterns": ("*{date}*.jsonl",)}),
    ],
)
def test_a_row_that_only_has_some_name_in_it_is_a_row(tmp_path: Path, content: bytes, changes: dict[str, Any]) -> None:
    assert "word" in [row["term"] for row in all_rows(read(content, tmp_path, of_words(**changes)))]


def test_small_files_that_are_judged_together_are_refused_one_by_one(tmp_path: Path) -> None:
    world = World(tmp_path, of_words())
    for name, content in (("a", TWICE), ("b", ROWS), ("c", ROWS + b"c,third\n")):
        world.drop(f"{name}-2024-03-05.csv", content)
    results = admit.receive_all(world.scan().waiting, world.spec, *world.roots)
    assert [one.outcome for one in results.received] == ["refused", "accepted", "accepted"]


def test_a_file_of_the_archive_keeps_its_rows(tmp_path: Path) -> None:
    path = tmp_path / NAME
    path.write_bytes(TWICE)
    assert len(all_rows(judge.read(path, of_words(), NAME, DAY, accepted=True))) == 5
