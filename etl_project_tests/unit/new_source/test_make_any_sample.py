"""A source made from whatever sample accepts that very sample, and what is like it."""

from __future__ import annotations

from datetime import UTC, date
from pathlib import Path
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from etl_project.new_source import make
from etl_project.new_source.column_types import Evidence
from etl_project.sources.component import FileSource
from etl_project.sources.reading import judge
from etl_project.sources.reading.values.convert import Converter
from etl_project.sources.spec import SourceColumn
from etl_project_tests.deployments import REAL_FILES, needs_real_files
from etl_project_tests.unit.new_source.test_make import made

FIXED = settings.default.derandomize  # type: ignore[union-attr]
"""The same examples every time teach less the more of them there are."""
LINES = st.lists(
    st.lists(st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), max_size=12), min_size=3, max_size=3),
    min_size=1,
    max_size=20,
)


@given(LINES)
@settings(max_examples=10 if FIXED else 20, deadline=None)
def test_whatever_the_texts_are_a_source_accepts_the_very_sample_it_was_made_from(
    tmp_path_factory: pytest.TempPathFactory, lines: list[list[str]]
) -> None:
    folder = tmp_path_factory.mktemp("sample")
    rows = [",".join('"' + text.replace('"', '""') + '"' for text in line) for line in lines]
    source = made(folder, "alpha,beta,gamma\n" + "\n".join(rows) + "\n")
    assert (source.accepted, source.rejected) == (len(lines), 0)


NUMBERS = st.lists(
    st.one_of(
        st.decimals(allow_nan=False, allow_infinity=False, places=3).map(str),
        st.integers().map(str),
        st.floats(allow_nan=False, allow_infinity=False).map(repr),
        st.dates().map(str),
        st.datetimes(timezones=st.just(UTC)).map(str),
        st.booleans().map(str),
    ),
    min_size=1,
    max_size=6,
)


@given(NUMBERS)
@example(["0.001", "1" + 35 * "0"])
@example(["0.00000000000000000000000000000000000001", "1"])
@settings(max_examples=100 if FIXED else 300, deadline=None)
def test_values_of_any_type_are_values_of_the_type_that_was_guessed_for_them(values: list[str]) -> None:
    texts, evidence = pa.array(values), Evidence()
    for at in range(len(texts)):
        evidence.see(texts[at : at + 1])
    found = Converter(ZoneInfo("UTC")).column(texts, SourceColumn("value", evidence.guess().type))
    assert found.null_count == 0


def test_numbers_that_no_decimal_holds_together_are_text_and_it_is_said_why() -> None:
    evidence = Evidence()
    evidence.see(pa.array(["0.001", "1" + 35 * "0"]))
    guess = evidence.guess()
    assert guess.type == "VARCHAR"
    assert "36 digits before and 3 after the point" in " ".join(guess.notes)


@needs_real_files
def test_a_source_made_from_one_real_file_accepts_all_of_them_in_the_columns_of_the_demo(tmp_path: Path) -> None:
    folder = make("orders", REAL_FILES / "2010-12-01.csv", tmp_path / "pipelines").folder
    spec = FileSource.resolve_from_dict(yaml.safe_load((folder / "defs.yaml").read_text())["attributes"]).spec(folder)
    assert {column.name: column.type for column in spec.targets} == {
        "invoice_no": "VARCHAR",
        "stock_code": "VARCHAR",
        "description": "VARCHAR",
        "quantity": "BIGINT",
        "invoice_date": "TIMESTAMP WITH TIME ZONE",
        "unit_price": "DECIMAL(18,4)",
        "customer_id": "BIGINT",
        "country": "VARCHAR",
    }
    batches = [
        batch
        for path in sorted(REAL_FILES.glob("*.csv"))
        for batch in judge.read(path, spec, path.name, date.fromisoformat(path.stem))
    ]
    assert sum(batch.rows.num_rows for batch in batches) == 209_029
    assert not any(batch.rejects.num_rows for batch in batches)
