"""JSON documents, nested values and paths, and what pandas and nested types leave in a Parquet file."""

from __future__ import annotations

import io
import json
import time
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl_project.sources.reading import judge
from etl_project.sources.reading.judge import FileRefused
from etl_project.sources.reading.layout import Layout
from etl_project.sources.reading.values.value_settings import ValueSettings
from etl_project.sources.spec import SourceColumn, SourceSpec, SpecError
from etl_project_tests.projects import source_project
from etl_project_tests.unit.sources.world import DAY, all_rejects, all_rows, read, spec


def source(
    kind: str = "VARCHAR", fmt: str = "json", columns: dict[str, str] | None = None, **layout: Any
) -> SourceSpec:
    return spec(
        columns=columns or {"id": "id", "value": "value"},
        types=(SourceColumn("id", "INTEGER", nullable=False), SourceColumn("value", kind)),
        format=fmt,
        max_rejected_ratio=1.0,
        layout=Layout(**layout),
    )


def values(content: str | bytes, folder: Path, one: SourceSpec) -> list[Any]:
    raw = content.encode() if isinstance(content, str) else content
    return [row["value"] for row in all_rows(read(raw, folder, one))]


def reasons(content: str | bytes, folder: Path, one: SourceSpec) -> list[str]:
    raw = content.encode() if isinstance(content, str) else content
    return [row["reason"] for row in all_rejects(read(raw, folder, one))]


DOCUMENTS = {
    "lines": '{"id":1,"value":"a"}\n{"id":2,"value":"b"}\n',
    "one line": '{"id":1,"value":"a"} {"id":2,"value":"b"}',
    "an array": '[{"id":1,"value":"a"},\n {"id":2,"value":"b"}]\n',
    "pretty": json.dumps([{"id": 1, "value": "a"}, {"id": 2, "value": "b"}], indent=2),
    "pretty objects": '{\n "id": 1,\n "value": "a"\n}\n{\n "id": 2,\n "value": "b"\n}',
    "a byte order mark": '\ufeff[{"id":1,"value":"a"},{"id":2,"value":"b"}]',
}


@pytest.mark.parametrize("text", DOCUMENTS.values(), ids=DOCUMENTS.keys())
def test_a_document_is_objects_one_after_the_other_or_in_one_array(tmp_path: Path, text: str) -> None:
    assert values(text, tmp_path, source()) == ["a", "b"]


def test_a_record_of_a_document_has_the_line_on_which_it_starts_and_its_own_text(tmp_path: Path) -> None:
    batches = read(b'[\n{"id":1,"value":"a"},\n\n{"id":\n"x"},\n{"id":3}\n]', tmp_path, source())
    assert [row["source_line"] for row in all_rows(batches)] == [2, 6]
    assert [(row["source_line"], row["raw_text"]) for row in all_rejects(batches)] == [(4, '{"id":\n"x"}')]


@pytest.mark.parametrize("text", ["[]", "  [ ]\n"])
def test_an_empty_array_is_a_file_without_rows(tmp_path: Path, text: str) -> None:
    assert values(text, tmp_path, source()) == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[{"id":1,"value":"a"}', "the array is not closed"),
        ('[{"id":1,"value":"a"},', "the array is not closed"),
        ('[{"id":1,"value":"a"} {"id":2}]', "no comma between two objects"),
        ('[{"id":1,"value":"a"}] {}', "text after the array"),
        ('[{"id":1,"value":"a"},]', "Expecting value"),
        ('{"id":1,"value":"a"}\n{"id":2', "in line 2"),
        ('{"id":1,"value":"a"},\n{"id":2}', "Expecting value"),
        ("not json", "Expecting value in line 1"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_a_document_that_is_no_json_is_refused_with_its_line(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(FileRefused, match=words):
        read(text.encode(), tmp_path, source())


def test_an_object_of_a_document_has_a_limit_and_a_line_has_none(tmp_path: Path) -> None:
    small = spec(columns={"id": "id"}, format="json", max_line_bytes=1000)
    line = "[" + ",".join(f'{{"id":{n}}}' for n in range(5000)) + "]"
    assert len(all_rows(read(line.encode(), tmp_path, small))) == 5000
    with pytest.raises(FileRefused, match="object too long"):
        read(('[{"id":"' + "x" * 5_000_000 + '"}]').encode(), tmp_path, small)


@given(
    st.lists(st.fixed_dictionaries({"id": st.integers(-9, 9), "value": st.none() | st.text(max_size=9)}), max_size=9),
    st.sampled_from([None, 1]),
    st.booleans(),
    st.booleans(),
)
def test_a_document_gives_what_json_gives(
    tmp_path_factory: pytest.TempPathFactory,
    records: list[dict[str, Any]],
    indent: int | None,
    array: bool,
    ascii: bool,
) -> None:
    def dump(value: Any) -> str:
        return json.dumps(value, indent=indent, ensure_ascii=ascii)

    text = dump(records) if array else "\n".join(map(dump, records)) or "[]"
    if "\\u0000" in text or "\0" in text:
        return
    if records and all(one["value"] is None for one in records):
        assert values(text, tmp_path_factory.mktemp("a"), source()) == [None] * len(records)
    else:
        assert values(text, tmp_path_factory.mktemp("a"), source()) == [one["value"] for one in records]


def test_an_object_that_is_cut_by_a_block_is_whole(tmp_path: Path) -> None:
    """Nine million bytes, of several bytes a character: blocks end within characters, numbers and objects."""
    records = [{"id": n, "value": "ä€" * (n % 50)} for n in range(60_000)]
    found = values(json.dumps(records, ensure_ascii=False), tmp_path, source())
    assert found == [one["value"] for one in records]


def test_the_time_for_a_document_grows_with_its_size_and_not_faster(tmp_path: Path) -> None:
    """Each record looks at its own text alone: lines that were counted are not counted again."""
    text = '{"id":1,"value":"x"}\n' * 150_000
    began = time.process_time()
    batches = read(text.encode(), tmp_path, source())
    assert time.process_time() - began < 30
    assert [row["source_line"] for row in all_rows(batches)][-1] == 150_000


@pytest.mark.parametrize("text", ['[{"id":1,"value":"a"}]', "[\n", '{\n"id":1\n}'])
def test_json_lines_say_that_a_document_is_one(tmp_path: Path, text: str) -> None:
    with pytest.raises(FileRefused, match=r"no JSON Lines.*`format: json`"):
        read(text.encode(), tmp_path, source(fmt="jsonl"))


# --- nested values ---------------------------------------------------------------------------------------------------

NESTED = '{"id":1,"value":{"b":1.50,"a":["x",null,true]}}'


@pytest.mark.parametrize("fmt", ["jsonl", "json"])
def test_a_nested_value_needs_a_column_that_takes_it(tmp_path: Path, fmt: str) -> None:
    assert "`nested_values: text`" in reasons(NESTED, tmp_path, source(fmt=fmt))[0]
    written = '{"b":1.50,"a":["x",null,true]}'
    assert values(NESTED, tmp_path, source(fmt=fmt, nested_values="text")) == [written]
    assert values(NESTED, tmp_path, source("JSON", fmt)) == [written]
    assert "nested" in reasons(NESTED, tmp_path, source("INTEGER", fmt, nested_values="text"))[0]


def test_a_json_column_tells_text_from_numbers(tmp_path: Path) -> None:
    text = '{"id":1,"value":"1"}{"id":2,"value":1}{"id":3,"value":null}{"id":4,"value":true}{"id":5,"value":[]}'
    assert values(text, tmp_path, source("JSON")) == ['"1"', "1", None, "true", "[]"]


def test_json_text_in_a_csv_file_is_a_value_of_a_json_column(tmp_path: Path) -> None:
    content = 'id,value\n1,"{""a"":1}"\n2,\n3,{a}\n4,NaN\n'
    assert values(content, tmp_path, source("JSON", "csv")) == ['{"a":1}', None]
    found = reasons(content, tmp_path, source("JSON", "csv"))
    assert [reason.partition(" (")[0] for reason in found] == ["value: '{a}' is no JSON", "value: 'NaN' is no JSON"]


def test_an_object_is_a_struct_and_a_list_a_list_by_the_rules_of_their_leaves(tmp_path: Path) -> None:
    kind = 'STRUCT("at" TIMESTAMP WITH TIME ZONE, price DECIMAL(8,2), tags VARCHAR[])'
    text = '{"id":1,"value":{"price":1.5,"tags":["a",null],"at":"2024-07-01 10:00"}}{"id":2,"value":{}}{"id":3}'
    at = datetime(2024, 7, 1, 9, tzinfo=UTC)
    assert values(text, tmp_path, source(kind)) == [
        {"at": at, "price": Decimal("1.50"), "tags": ["a", None]},
        {"at": None, "price": None, "tags": None},
        None,
    ]


@pytest.mark.parametrize(
    "value",
    ['{"price":1.555}', '{"price":1,"more":2}', '{"price":1,"price":2}', "[1]", '"x"', "1", '{"tags":"a"}',
     '{"tags":{"a":1}}', '{"tags":[["a"]]}', '{"price":[1]}', '{"price":NaN}'],
)  # fmt: skip
def test_what_a_struct_cannot_hold_without_loss_is_a_reject(tmp_path: Path, value: str) -> None:
    text = f'{{"id":1,"value":{value}}}\n{{"id":2,"value":{{"price":1,"tags":[]}}}}'
    found = source("STRUCT(price DECIMAL(8,2), tags VARCHAR[])")
    assert values(text, tmp_path, found) == [{"price": Decimal("1.00"), "tags": []}]
    assert len(reasons(text, tmp_path, found)) == 1


def test_a_path_reaches_into_objects(tmp_path: Path) -> None:
    columns = {"id": "id", "customer.address.city": "value"}
    text = (
        '{"id":1,"customer":{"address":{"city":"Ulm"}}}{"id":2,"customer":null}{"id":3,"customer":{}}{"id":4}'
        '{"id":5,"customer.address.city":"literal"}{"id":6,"customer":"x"}{"id":7,"customer":{"name":"x"}}'
    )
    assert values(text, tmp_path, source(columns=columns)) == ["Ulm", None, None, None, "literal"]
    assert reasons(text, tmp_path, source(columns=columns)) == [
        "the value of 'customer' is no object, and paths go through it",
        "the key 'customer.name' is not expected",
    ]
    assert len(values(text, tmp_path, source(columns=columns, unknown_columns="ignore"))) == 6


def test_nan_is_a_reject_or_null_as_said(tmp_path: Path) -> None:
    text = '{"id":1,"value":NaN}{"id":2,"value":-Infinity}{"id":3,"value":1.5}'
    none = ValueSettings(null_values=("NaN", "-Infinity"))
    assert len(reasons(text, tmp_path, source("DOUBLE"))) == 2
    assert values(text, tmp_path, replace(source("DOUBLE"), values=none)) == [None, None, 1.5]
    nested = '{"id":1,"value":[NaN]}'
    assert reasons(nested, tmp_path, source("JSON")) == [
        "NaN in 'value' is no JSON (`null_values: [NaN]` makes it null)"
    ]
    assert values(nested, tmp_path, replace(source("JSON"), values=none)) == ["[null]"]


def test_a_field_of_a_struct_is_not_taken_for_the_column_of_the_same_name(tmp_path: Path) -> None:
    settings = {"id": ValueSettings(thousands_separator=".", decimal_separator=",")}
    one = replace(source("STRUCT(id DECIMAL(8,3))"), column_values=settings)
    assert values('{"id":"1.000","value":{"id":"1.000"}}', tmp_path, one) == [{"id": Decimal("1.000")}]


def test_types_that_no_file_gives_are_refused_at_load() -> None:
    for kind in ("MAP(VARCHAR, INTEGER)", "STRUCT(a BLOB)", "BLOB[]", "INTEGER[3]"):
        with pytest.raises(SpecError, match="cannot be read from a file"):
            source(kind)


def test_nested_rows_reach_the_table_and_a_rebuild_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contract = (
        "CREATE TABLE events (batch_date DATE NOT NULL, id BIGINT NOT NULL, city VARCHAR, "
        "tags VARCHAR[], item STRUCT(sku VARCHAR, price DECIMAL(8,2)), unknown_columns JSON)"
    )
    defs = {
        "name": "events",
        "patterns": ["{date}.json"],
        "format": "json",
        "columns": {"id": "id", "buyer.city": "city", "tags": "tags", "item": "item"},
        "unknown_columns": "keep",
    }
    with source_project(tmp_path, defs, contract, monkeypatch, ETL_START_DATE="2025-03-01") as project:
        record = {"id": 1, "buyer": {"city": "Ulm"}, "tags": ["a"], "item": {"sku": "s", "price": 1.5}, "v": [1]}
        project.drop("2025-03-20.json", json.dumps([record, {"id": 2}]))
        assert not project.drain().failed
        rows = "select id, city, tags, item, unknown_columns::varchar from events order by 1"
        expected = [(1, "Ulm", ["a"], {"sku": "s", "price": Decimal("1.50")}, '{"v":[1]}'), (2, None, None, None, None)]
        assert project.query(rows) == expected
        last = "select changed, rows from etl_commits where asset = 'events' order by sequence"
        project.drop("2025-03-20.json", json.dumps([{"id": 2}, record], indent=1))
        assert not project.drain().failed
        assert project.query(rows) == expected
        assert project.query(last) == [(True, 2), (False, 2)]


# --- Parquet ---------------------------------------------------------------------------------------------------------


def parquet(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()


def from_pandas(frame: pd.DataFrame) -> bytes:
    return parquet(pa.Table.from_pandas(frame))


def test_the_index_that_pandas_writes_along_is_no_column(tmp_path: Path) -> None:
    frame = pd.DataFrame({"id": [1, 2, 3, 4], "value": [10, 20, 30, 40]})
    kept = frame[frame["value"] != 30]
    assert b"__index_level_0__" in from_pandas(kept)
    assert values(from_pandas(kept), tmp_path, source("INTEGER", "parquet")) == [10, 20, 40]
    index = source("INTEGER", "parquet", {"id": "id", "__index_level_0__": "value"}, ignored_columns=("value",))
    assert values(from_pandas(kept), tmp_path, index) == [0, 1, 3]
    stranger = parquet(pa.table({"id": [1], "value": [2], "__index_level_0__": [3]}))
    with pytest.raises(FileRefused, match="not expected '__index_level_0__'"):
        read(stranger, tmp_path, source("INTEGER", "parquet"))


def test_an_index_that_the_sender_named_is_a_column_even_where_only_its_steps_are_written(tmp_path: Path) -> None:
    frame = pd.DataFrame({"id": range(70_000)}, index=pd.RangeIndex(5, 140_005, 2, name="value"))
    found = values(from_pandas(frame), tmp_path, source("INTEGER", "parquet"))
    assert found == list(range(5, 140_005, 2))
    named = pd.DataFrame({"id": [1]}, index=pd.Index([7], name="value"))
    assert values(from_pandas(named), tmp_path, source("INTEGER", "parquet")) == [7]
    with pytest.raises(FileRefused, match="not expected 'other'"):
        read(from_pandas(pd.DataFrame({"id": [1], "value": [2]}, index=pd.Index([7], name="other"))), tmp_path,
             source("INTEGER", "parquet"))  # fmt: skip


@pytest.mark.parametrize(
    ("values_", "kind", "expected"),
    [
        (pa.array(["a", None, "a"]).dictionary_encode(), "VARCHAR", ["a", None, "a"]),
        (pa.array([1, None, 2]).dictionary_encode(), "INTEGER", [1, None, 2]),
        (pa.array([Decimal("1.50"), None, Decimal("-2")], pa.decimal256(50, 2)), "DECIMAL(8,2)",
         [Decimal("1.50"), None, Decimal("-2.00")]),
        (pa.array([{"a": 1, "b": [1.5]}, None, {"a": None, "b": None}]), "STRUCT(a INTEGER, b DOUBLE[])",
         [{"a": 1, "b": [1.5]}, None, {"a": None, "b": None}]),
        (pa.array([[date(2024, 1, 1)], [], None]), "DATE[]", [[date(2024, 1, 1)], [], None]),
        (pa.array([["a"], [], None], pa.large_list(pa.large_string())), "JSON", ['["a"]', "[]", None]),
        (pa.array(['{"a": 1}', "1", None]), "JSON", ['{"a": 1}', "1", None]),
        (pa.array([[datetime(2024, 1, 1, 10, tzinfo=UTC)], None, None]), "TIMESTAMP WITH TIME ZONE[]",
         [[datetime(2024, 1, 1, 10, tzinfo=UTC)], None, None]),
    ],
)  # fmt: skip
def test_types_of_parquet_that_text_files_do_not_have(
    tmp_path: Path, values_: pa.Array, kind: str, expected: list[Any]
) -> None:
    content = parquet(pa.table({"id": [1, 2, 3], "value": values_}))
    assert values(content, tmp_path, source(kind, "parquet")) == expected


def test_a_nested_parquet_column_needs_a_column_that_takes_it(tmp_path: Path) -> None:
    content = parquet(pa.table({"id": [1], "value": [{"a": 1e-7, "b": "ä"}]}))
    with pytest.raises(FileRefused, match="nested_values: text"):
        read(content, tmp_path, source(fmt="parquet"))
    assert values(content, tmp_path, source(fmt="parquet", nested_values="text")) == ['{"a":0.0000001,"b":"ä"}']
    with pytest.raises(FileRefused, match="bytes in column 'value'"):
        read(parquet(pa.table({"id": [1], "value": [[b"x"]]})), tmp_path, source("JSON", "parquet"))


def test_counting_agrees_with_reading_for_every_format(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text('[{"id":1},{"id":"x"},{"id":2,"value":"b"},{}]')
    assert judge.count_rows(source(), judge_version(path)).records == 4
    assert len(all_rows(judge.read(path, source(), "a", DAY))) == 2


def judge_version(path: Path) -> Any:
    from etl_project.sources.intake.archive import Accepted  # noqa: PLC0415

    return Accepted("a", 1, "0" * 64, str(path))
