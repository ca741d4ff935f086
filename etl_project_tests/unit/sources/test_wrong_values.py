"""Wrong values of every setting of a source: one line when it is loaded, with file, line and key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from etl_project.sources import mistakes
from etl_project.sources.component import FileSource

BASE = {"name": "sales", "patterns": ["{date}.csv"], "columns": {"id": "id", "day": "sold_on"}}
CONTRACT = "CREATE TABLE sales (batch_date DATE NOT NULL, id INTEGER NOT NULL, sold_on DATE NOT NULL)"
WRONG: tuple[Any, ...] = ([1], {"a": 1}, "nonsense", 7, -1, True, 1.5)
NUMBERS = ("skip_lines", "max_rejected_ratio", "max_removed_ratio", "max_line_bytes", "lateness_days", "footer_lines")
NUMBERS += ("keep_versions", "max_changed_ratio")


def told(folder: Path, attributes: dict[str, Any]) -> str | None:
    """What is said of these attributes; None where they can be used."""
    document = {"type": "etl_project.sources.component.FileSource", "attributes": attributes}
    (folder / "defs.yaml").write_text(yaml.safe_dump(document))
    wrong = mistakes.in_text(folder)
    if wrong is not None:
        return wrong
    try:
        FileSource.resolve_from_dict(attributes).spec(folder)
    except Exception as error:  # noqa: BLE001 - whatever comes has to become one line
        return mistakes.one_line(folder, error) or f"a traceback: {error!r}"
    return None


@pytest.mark.parametrize("word", sorted(FileSource.model_fields))
def test_a_value_of_the_wrong_kind_is_one_line_that_names_file_and_key(tmp_path: Path, word: str) -> None:
    (tmp_path / "contract.sql").write_text(CONTRACT)
    said = [told(tmp_path, BASE | {word: value}) for value in WRONG]
    refused = [one for one in said if one is not None]
    assert len(refused) >= 2, "a setting that takes anything is none"
    for one in refused:
        assert "\n" not in one and "a traceback" not in one
        assert one.startswith((f"{tmp_path / 'defs.yaml'}:", f"{tmp_path / 'contract.sql'}:"))
        assert word in one or word == "name", "the contract has another table then"


EMPTY: tuple[Any, ...] = ("", [], {}, [""])
MEANT_EMPTY = {
    *("checks", "column_settings", "computed", "deduplicate_on", "expect", "field_names", "max_sum_change", "optional"),
    *(
        "owners",
        "positions",
        "repeated_hour_by",
        "since",
        "ignored_columns",
    ),  # Lists and mappings with nothing in them.
    *("date_format", "timestamp_format", "negatives", "prefixes", "suffixes"),
    *("null_values", "true_values", "false_values"),  # An empty text may be a word, too.
    *("comment", "escape", "quote", "sheet"),  # As text: there is none.
}


@pytest.mark.parametrize("word", sorted(FileSource.model_fields))
def test_an_empty_value_means_none_by_what_is_said_of_it_or_is_one_line(tmp_path: Path, word: str) -> None:
    (tmp_path / "contract.sql").write_text(CONTRACT)
    said = [told(tmp_path, BASE | {word: value}) for value in EMPTY]
    assert all(said) or word in MEANT_EMPTY
    for one in filter(None, said):
        assert "\n" not in one and "a traceback" not in one
        assert one.startswith((f"{tmp_path / 'defs.yaml'}:", f"{tmp_path / 'contract.sql'}:"))


@pytest.mark.parametrize("word", NUMBERS)
def test_true_is_no_number(tmp_path: Path, word: str) -> None:
    (tmp_path / "contract.sql").write_text(CONTRACT)
    assert f"{word} is true; it must be a number, like `{word}: " in str(told(tmp_path, BASE | {word: True}))


def test_nothing_said_and_null_are_the_same(tmp_path: Path) -> None:
    (tmp_path / "contract.sql").write_text(CONTRACT)
    for word in ("keep_versions", "max_removed_ratio", "event_column", "date_column", "business_zone", "day_from"):
        assert told(tmp_path, BASE | {word: None}) is None
