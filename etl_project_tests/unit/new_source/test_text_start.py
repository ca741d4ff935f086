"""What stands before the records of a sample, and how its lines are parted, becomes settings that read it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from etl_project.new_source import make, text_start
from etl_project_tests.unit.new_source.test_containers import said

ROWS = "id;amount\n1;2.50\n2;3.00\n3;4.00\n"


@pytest.mark.parametrize(
    ("text", "delimiter", "names", "words"),
    [
        (ROWS, ";", ("id", "amount"), {}),
        ("Report of the bank\nmade, today\n\n" + ROWS, ";", ("id", "amount"), {"skip_lines": 3}),
        ("Account, 4711\n" + ROWS + "Total;9.50\n", ";", ("id", "amount"), {"skip_lines": 1}),
        ("Account, 4711\n" + ROWS + "EOF 3\n", ";", ("id", "amount"), {"skip_lines": 1}),
        ("sep=;\n" + ROWS, ";", ("id", "amount"), {}),
        ("sep=,\nid,a;b\n1,2;3\n", ",", ("id", "a;b"), {}),
        (ROWS.replace("\n", ";\n"), ";", ("id", "amount"), {"trailing_delimiter": True}),
        ("id;amount\n1;2.50;\n2;3.00;\n", ";", ("id", "amount"), {"trailing_delimiter": True}),
        ("sep=;\nid;amount;\n1;2.50;\n", ";", ("id", "amount"), {"trailing_delimiter": True}),
        ("id;amount;\n1;2.50;x\n", ";", ("id", "amount", ""), {}),
        ("1;A\n2;B\n", ";", ("column_1", "column_2"), {"header": False, "field_names": ["column_1", "column_2"]}),
        ("note\nplain\ntexts\nhere\n", ",", ("note",), {}),
        ('note\n"a, b"\n"c, d"\n"e, f"\n', ",", ("note",), {}),
        ("id,note\n1,a\n2,b;c\n3,d;e\n4,f;g\n", ",", ("id", "note"), {}),
    ],
)
def test_the_start_of_a_file_is_found_out(
    text: str, delimiter: str, names: tuple[str, ...], words: dict[str, Any]
) -> None:
    found = text_start.of(text.splitlines(keepends=True))
    assert (found.delimiter, found.names, found.words) == (delimiter, names, words)


def test_a_source_reads_the_sample_below_its_titles(tmp_path: Path) -> None:
    path = tmp_path / "bank_2025-03-20.csv"
    path.write_text("sep=;\n" + ROWS.replace("\n", ";\n"))
    assert make("first", path, tmp_path / "pipelines").accepted == 3
    path.write_text("Report of the bank\n\n" + ROWS)
    made = make("second", path, tmp_path / "pipelines")
    assert (made.accepted, made.rejected, said(made, "skip_lines")) == (3, 0, {"skip_lines": 2})
    assert "skip_lines: 2 lines stand above the header, the first is 'Report of the bank'" in made.review


def test_what_nothing_in_the_sample_tells_is_to_be_reviewed(tmp_path: Path) -> None:
    path = tmp_path / "trips_2025-03-20.csv"
    path.write_text('id,day,km\n1,03/04/2025,"1,299"\n2,05/04/2025,"2,500"\n')
    review = make("trips", path, tmp_path / "pipelines").review
    assert any("day: text, since the sample does not tell" in one and "%d/%m/%Y or %m/%d/%Y" in one for one in review)
    assert any("km: text" in one and "thousands_separator , or decimal_separator ," in one for one in review)
