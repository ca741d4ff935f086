"""A history whose shape changes: columns that come, go, and change their names, and files that were accepted before."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from etl_project.sources.reading import judge
from etl_project.sources.reading.judge import FileRefused
from etl_project.sources.reading.layout import Layout
from etl_project.sources.spec import SourceColumn, SourceSpec, SpecError
from etl_project_tests.unit.sources.world import DAY, all_rejects, all_rows, read, spec

TYPES = (
    SourceColumn("id", "INTEGER", nullable=False),
    SourceColumn("page", "VARCHAR"),
    SourceColumn("device", "VARCHAR"),
)
COLUMNS = {"id": "id", "page": "page", "device": "device"}


def visits(columns: Mapping[str, str] = COLUMNS, fmt: str = "csv", **layout: Any) -> SourceSpec:
    types = TYPES if layout.get("unknown_columns") != "keep" else (*TYPES, SourceColumn("unknown_columns", "JSON"))
    return spec(columns=columns, types=types, format=fmt, layout=Layout(**layout))


def refusal(content: bytes, folder: Path, source: SourceSpec) -> FileRefused:
    with pytest.raises(FileRefused) as caught:
        read(content, folder, source)
    return caught.value


def values(content: bytes, folder: Path, source: SourceSpec) -> list[tuple[Any, ...]]:
    names = [target.name for target in source.targets]
    return [tuple(row[name] for name in names) for row in all_rows(read(content, folder, source))]


def test_an_optional_column_may_be_absent_and_is_null_then(tmp_path: Path) -> None:
    source = visits(optional=("device",))
    assert values(b"id,page\n1,/a\n", tmp_path, source) == [(1, "/a", None)]
    assert values(b"device,id,page\nphone,1,/a\n", tmp_path, source) == [(1, "/a", "phone")]


def test_a_column_may_be_absent_before_the_day_since_which_it_is_sent(tmp_path: Path) -> None:
    later, now = (DAY + timedelta(days=1)).isoformat(), DAY.isoformat()
    assert values(b"id,page\n1,/a\n", tmp_path, visits(since={"device": later})) == [(1, "/a", None)]
    assert values(b"id,page,device\n1,/a,tv\n", tmp_path, visits(since={"device": later})) == [(1, "/a", "tv")]
    assert "missing 'device'" in refusal(b"id,page\n1,/a\n", tmp_path, visits(since={"device": now})).found


def test_a_refusal_names_the_setting_that_would_help(tmp_path: Path) -> None:
    error = refusal(b"id,Page ,extra\n1,/a,x\n", tmp_path, visits())
    assert error.found == "missing 'page', 'device'; not expected 'Page ', 'extra'"
    for words in ("'Page ' is 'page' with `header_matching: relaxed`", "`optional: [page, device]`", "ignored_columns"):
        assert words in error.expected
    near = refusal(b"id,pagge,device\n1,/a,x\n", tmp_path, visits())
    assert "'pagge' is near 'page': give page both names under columns" in near.expected


def test_one_column_may_have_several_names_in_files(tmp_path: Path) -> None:
    source = visits({"id": "id", "Page/URL": "page", "Page_URL": "page", "device": "device"})
    for header in (b"id,Page/URL,device", b"device,Page_URL,id"):
        row = b"1,1,1\n"
        assert values(header + b"\n" + row, tmp_path, source) == [(1, "1", "1")]
    error = refusal(b"id,Page/URL,Page_URL,device\n1,a,b,c\n", tmp_path, source)
    assert error.found == "one column under two names 'Page/URL' and 'Page_URL'"
    assert "missing 'Page/URL' or 'Page_URL'" in refusal(b"id,device\n1,c\n", tmp_path, source).found


@pytest.mark.parametrize("fmt", ["csv", "jsonl", "json", "parquet"])
def test_unknown_columns_are_refused_ignored_or_kept_as_json(tmp_path: Path, fmt: str) -> None:
    rows = [
        {"id": 1, "page": "/a", "device": "tv", "zone": 'ä"', "Area": 2},
        {"id": 2, "page": "/b", "device": None, "zone": None, "Area": 3.5 if fmt == "jsonl" else 3},
    ]
    content = written(rows, fmt)
    plain = [(1, "/a", "tv"), (2, "/b", None)]
    assert values(content, tmp_path, visits(fmt=fmt, unknown_columns="ignore")) == plain
    assert values(content, tmp_path, visits(fmt=fmt, ignored_columns=("zone", "Area"))) == plain
    kept = values(content, tmp_path, visits(fmt=fmt, unknown_columns="keep"))
    assert [row[:3] for row in kept] == plain
    assert [json.loads(row[3]) for row in kept] == (
        [{"zone": 'ä"', "Area": "2"}, {"zone": None, "Area": "3"}]
        if fmt in ("csv", "parquet")
        else [{"zone": 'ä"', "Area": 2}, {"zone": None, "Area": rows[1]["Area"]}]
    )
    half = values(content, tmp_path, visits(fmt=fmt, unknown_columns="keep", ignored_columns=("zone",)))
    assert "zone" not in half[0][3]
    with pytest.raises(FileRefused, match=r"not expected"):
        read(content, tmp_path, visits(fmt=fmt))


def test_nothing_unknown_is_null_among_the_kept(tmp_path: Path) -> None:
    assert values(b"id,page,device\n1,,\n", tmp_path, visits(unknown_columns="keep")) == [(1, None, None, None)]
    line = b'{"id":1,"page":"a","device":"b"}\n{"id":2,"more":null}\n'
    kept = values(line, tmp_path, visits(fmt="jsonl", unknown_columns="keep"))
    assert [row[3] for row in kept] == [None, '{"more":null}']


def test_a_kept_column_that_is_repeated_would_lose_one_and_is_refused(tmp_path: Path) -> None:
    content = b"id,page,device,x,x\n1,,,a,b\n"
    assert refusal(content, tmp_path, visits(unknown_columns="keep")).found == "repeated 'x'"
    assert values(content, tmp_path, visits(unknown_columns="ignore")) == [(1, None, None)]


def test_relaxed_matching_leaves_case_blanks_and_invisible_characters_out(tmp_path: Path) -> None:
    source = visits({"ID": "id", "Page URL": "page", "Gerät": "device"}, header_matching="relaxed")
    for header in (
        "id,page url,gerät",
        " Id\u00a0,PAGE\u00a0\u00a0URL ,GERÄT",
        "\ufeffid,PageURL,\u200bGera\u0308t",
    ):
        assert values(f"{header}\n1,a,b\n".encode(), tmp_path, source) == [(1, "a", "b")]
    assert "not expected 'identity'" in refusal(b"identity,Page URL\n", tmp_path, source).found
    assert "two names 'ID' and 'id'" in refusal("ID,id,Page URL,Gerät\n".encode(), tmp_path, source).found


@pytest.mark.parametrize(
    ("layout", "words"),
    [
        ({"optional": ("nothing",)}, r"optional names 'nothing'.*like optional: \[page\]"),
        ({"optional": ("id",)}, r"optional names id, which is NOT NULL.*like optional: \[page\]"),
        ({"since": {"id": "2025-03-21"}}, r"since names id, which is NOT NULL.*since: \{page: 2025-03-21\}"),
        ({"since": {"page": "21.03.2025"}}, r"'21.03.2025' is no day; write since: \{page: 2025-03-21\}"),
        ({"unknown_columns": "drop"}, "unknown_columns is 'drop'; it can be refuse, ignore, keep"),
        ({"header_matching": "loose"}, "header_matching is 'loose'; it can be exact, relaxed"),
        ({"nested_values": "json"}, "nested_values is 'json'; it can be refuse, text"),
        ({"ignored_columns": ("page",)}, "ignored_columns names 'page', which columns maps to page"),
    ],
)
def test_a_wrong_value_is_one_line_with_a_right_example(layout: dict[str, Any], words: str) -> None:
    with pytest.raises(SpecError, match=words) as caught:
        visits(**layout)
    assert "\n" not in str(caught.value)


def test_keeping_needs_a_column_and_relaxed_names_have_to_differ() -> None:
    with pytest.raises(SpecError, match=r"unknown_columns: keep needs a column.*`unknown_columns JSON`"):
        spec(columns=COLUMNS, types=TYPES, layout=Layout(unknown_columns="keep"))
    with pytest.raises(SpecError, match="relaxed cannot tell 'page' from 'PAGE '"):
        visits({"id": "id", "page": "page", "PAGE ": "device"}, header_matching="relaxed")


def test_what_is_not_used_does_not_show_in_the_version_of_a_source() -> None:
    assert repr(Layout()) == "Layout()"
    assert repr(Layout(optional=("a",))) == "Layout(optional=('a',))"


# --- files that were accepted before -------------------------------------------------------------------------------


def again(content: bytes, folder: Path, source: SourceSpec) -> list[judge.Batch]:
    """The file as it is read from the archive."""
    path = folder / "content"
    path.write_bytes(content)
    return list(judge.read(path, source, "a", DAY, accepted=True))


def test_a_column_that_was_added_later_is_null_in_files_of_the_archive(tmp_path: Path) -> None:
    assert [row["device"] for row in all_rows(again(b"id,page\n1,/a\n", tmp_path, visits()))] == [None]
    assert "missing 'device'" in refusal(b"id,page\n1,/a\n", tmp_path, visits()).found


def test_a_column_that_was_dropped_is_left_out_of_files_of_the_archive(tmp_path: Path) -> None:
    assert [row["page"] for row in all_rows(again(b"old,id,page,device\nx,1,/a,b\n", tmp_path, visits()))] == ["/a"]
    assert "not expected 'old'" in refusal(b"old,id,page,device\nx,1,/a,b\n", tmp_path, visits()).found


def test_what_may_be_a_column_under_a_new_name_is_never_taken_for_null(tmp_path: Path) -> None:
    """Renaming a column in defs.yaml without keeping the old name would lose its values in every rebuild."""
    with pytest.raises(FileRefused, match=r"missing 'device'; not expected 'gadget'"):
        again(b"id,page,gadget\n1,/a,tv\n", tmp_path, visits())


def test_a_column_that_may_not_be_null_keeps_older_files_out(tmp_path: Path) -> None:
    strict = spec(columns=COLUMNS, types=(*TYPES[:2], SourceColumn("device", "VARCHAR", nullable=False)))
    with pytest.raises(FileRefused, match=r"missing 'device'"):
        again(b"id,page\n1,/a\n", tmp_path, strict)


def test_an_unknown_key_in_a_line_of_json_is_a_reject_however_often_it_is_read(tmp_path: Path) -> None:
    source = spec(columns=COLUMNS, types=TYPES, format="jsonl", max_rejected_ratio=1.0)
    content = b'{"id":1,"page":"a","device":"b"}\n{"id":2,"pgae":"b"}\n'
    for batches in (read(content, tmp_path, source), again(content, tmp_path, source)):
        assert [reject["reason"] for reject in all_rejects(batches)] == ["the key 'pgae' is not expected"]


# --- random histories ------------------------------------------------------------------------------------------------

_STEPS = st.lists(
    st.tuples(
        st.sampled_from(["add", "drop", "rename", "reorder", "widen", "allow null"]), st.integers(0, 9), st.booleans()
    ),
    min_size=1,
    max_size=8,
)
_WIDER = {"INTEGER": "BIGINT", "BIGINT": "DECIMAL(30,2)", "DECIMAL(30,2)": "DECIMAL(34,4)", "DECIMAL(34,4)": "VARCHAR"}


class History:
    """A source that changes, and the files that came meanwhile. `told` settings say what an accepted file may lack."""

    def __init__(self, fmt: str) -> None:
        self.fmt = fmt
        self.types = {
            "id": SourceColumn("id", "BIGINT", nullable=False),
            "c0": SourceColumn("c0", "INTEGER", nullable=False),
        }
        self.names = {"id": ["id"], "c0": ["c0"]}
        self.order = ["id", "c0"]
        self.optional: set[str] = set()
        self.since: dict[str, str] = {}
        self.ignored: set[str] = set()
        self.files: list[tuple[date, bytes, dict[str, int], set[str]]] = []
        self.made = 1

    def change(self, step: str, which: int, told: bool) -> None:
        others = [name for name in self.order if name != "id"]
        name = others[which % len(others)] if others else None
        day = DAY + timedelta(days=len(self.files))
        if step == "add":
            new, self.made = f"c{self.made}", self.made + 1
            self.types[new], self.names[new] = SourceColumn(new, "INTEGER"), [new]
            self.order.insert(which % (len(self.order) + 1), new)
            if told and which % 2:
                self.optional.add(new)
            elif told:
                self.since[new] = day.isoformat()
        elif step == "drop" and name is not None:
            self.order.remove(name)
            self.optional.discard(name)
            self.since.pop(name, None)
            if told or self.fmt == "jsonl":
                self.ignored |= set(self.names[name])
        elif step == "rename" and name is not None:
            self.names[name].append(f"{name}_{len(self.names[name])}")
        elif step == "reorder":
            self.order.reverse()
        elif step == "widen" and name is not None:
            kind = self.types[name].type
            self.types[name] = SourceColumn(name, _WIDER.get(kind, kind), self.types[name].nullable)
        elif step == "allow null" and name is not None:
            self.types[name] = SourceColumn(name, self.types[name].type)

    def spec(self) -> SourceSpec:
        return spec(
            columns={alias: name for name in self.order for alias in self.names[name]},
            types=tuple(self.types[name] for name in self.order),
            format=self.fmt,
            layout=Layout(
                optional=tuple(sorted(self.optional)), since=self.since, ignored_columns=tuple(sorted(self.ignored))
            ),
        )

    def send(self, folder: Path) -> None:
        """A file of the next day, as the sender writes it now; it is accepted."""
        day = DAY + timedelta(days=len(self.files))
        row = {name: 100 * len(self.files) + at for at, name in enumerate(self.order)}
        content = written([{self.names[name][-1]: value for name, value in row.items()}], self.fmt)
        path = folder / "content"
        path.write_bytes(content)
        assert sum(batch.rows.num_rows for batch in judge.read(path, self.spec(), "a", day)) == 1
        self.files.append((day, content, row, {self.names[name][-1] for name in row}))

    def check(self, folder: Path) -> None:
        """Every file gives the values it was sent with, or is refused because it looks like a rename; never another."""
        source = self.spec()
        for day, content, row, header in self.files:
            path = folder / "content"
            path.write_bytes(content)
            lacking = {n for n in self.order if n not in row and n not in self.optional}
            lacking -= {name for name, first in self.since.items() if day.isoformat() < first}
            unknown = header - set(source.columns) - self.ignored
            if lacking and unknown:
                with pytest.raises(FileRefused, match=r"missing .*not expected"):
                    list(judge.read(path, source, "a", day, accepted=True))
                continue
            (found,) = all_rows(judge.read(path, source, "a", day, accepted=True))
            for name in self.order:
                value = found[name]
                assert (None if value is None else int(value)) == row.get(name), (day, name)


@pytest.mark.long
@settings(max_examples=80, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(_STEPS, st.sampled_from(["csv", "jsonl", "parquet"]))
def test_every_file_that_was_ever_accepted_stays_buildable(tmp_path: Path, steps: list[Any], fmt: str) -> None:
    history = History(fmt)
    history.send(tmp_path)
    for step in steps:
        history.change(*step)
        history.check(tmp_path)
        history.send(tmp_path)
        history.check(tmp_path)


def written(rows: list[dict[str, Any]], fmt: str) -> bytes:
    """A file of these rows."""
    if fmt == "jsonl":
        return "".join(json.dumps(row) + "\n" for row in rows).encode()
    if fmt == "json":
        return json.dumps(rows, indent=1).encode()
    if fmt == "parquet":
        sink = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(rows), sink)
        return sink.getvalue()
    lines = [",".join(rows[0])]
    for row in rows:
        texts = ("" if value is None else str(value) for value in row.values())
        lines.append(",".join('"' + text.replace('"', '""') + '"' if '"' in text else text for text in texts))
    return ("\n".join(lines) + "\n").encode()
