"""A source's settings are refused with everything that is wrong with them."""

from __future__ import annotations

import pyarrow as pa
import pytest

from etl_project.sources.spec import SourceColumn, SpecError
from etl_project_tests.unit.sources.world import SPEC, spec


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": "../x"}, "name of a source"),
        ({"patterns": ()}, "patterns is empty"),
        ({"patterns": ("*.csv",)}, "exactly once"),
        ({"columns": {}}, "columns is empty"),
        ({"columns": {"id": "nothing"}}, "column nothing is not in the contract"),
        ({"columns": {"id": "source_file"}}, "filled in from the file itself"),
        ({"types": (*SPEC.types[1:], SourceColumn("id", "BLOB"))}, "type BLOB cannot be read"),
        ({"time_zone": "Mars/Olympus"}, "IANA name like Europe/London"),
        ({"time_zone": "../../etc/passwd"}, "IANA name"),
        ({"encoding": "utf-9"}, "encoding 'utf-9' is not known"),
        ({"delimiter": "a\n"}, "no quote and no line end, like ';'"),
        ({"delimiter": '"'}, "no quote and no line end, like ';'"),
        ({"format": "xml"}, "format is 'xml'"),
        ({"files_per_day": "some"}, "files_per_day is 'some'"),
        ({"max_rejected_ratio": 1.5}, "between 0 and 1"),
        ({"max_line_bytes": 0}, "at least 1"),
        ({"settle_seconds": float("nan")}, "0 or more"),
    ],
)
def test_a_setting_that_cannot_work_is_refused(changes: dict[str, object], words: str) -> None:
    with pytest.raises(SpecError, match=words):
        spec(**changes)


def test_all_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(SpecError, match=r"name of a source.*time_zone.*max_rejected_ratio"):
        spec(name="1", time_zone="x", max_rejected_ratio=-1)


def test_targets_follow_the_order_of_the_columns() -> None:
    assert [column.name for column in SPEC.targets] == ["id", "amount", "sold_at", "note"]
    assert SPEC.targets[1].arrow == pa.decimal128(8, 2)


def test_tab_separated_files_have_tabs() -> None:
    assert (spec(format="tsv").separator, spec().separator, spec(delimiter=";").separator) == ("\t", ",", ";")
