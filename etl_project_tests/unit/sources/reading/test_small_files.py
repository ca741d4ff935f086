"""Small files judged together: each comes out as it does alone, whatever lies beside it."""

from __future__ import annotations

import gzip
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from etl_project.sources import names
from etl_project.sources.intake.archive import Accepted
from etl_project.sources.reading import judge, small_content, small_files
from etl_project.sources.reading.file_format import SourceFile
from etl_project.sources.reading.file_refused import FileRefused
from etl_project.sources.spec import SourceColumn, SourceSpec

DAY = date(2025, 3, 20)
COLUMNS = (
    SourceColumn("id", "BIGINT", False),
    SourceColumn("amount", "DECIMAL(12,2)", True),
    SourceColumn("at", "DATE", True),
)


def source(kind: Literal["csv", "jsonl"], **more: object) -> SourceSpec:
    late = "event_column" in more
    return SourceSpec(
        name="s",
        patterns=("{date}_*",),
        columns={column.name: column.name for column in COLUMNS},
        types=tuple(replace(c, nullable=c.nullable and not (late and c.name == "at")) for c in COLUMNS),
        start_date=date(2020, 1, 1),
        format=kind,
        max_rejected_ratio=0.5,
        **more,  # type: ignore[arg-type]
    )


CSV, JSONL = source("csv"), source("jsonl")
LATE = source("csv", event_column="at", lateness_days=1)

csv_line = st.sampled_from(
    ["1,2.50,2025-03-20", "2,,", "x,1,2025-03-20", "3,1.234,2025-03-19", "4", "", '5,"1",2025-02-30', "6,1,2025-03-18"]
)
csv_file = st.builds(
    lambda head, lines, end: (head + "\n" + "\n".join(lines) + end).encode(),
    st.sampled_from(["id,amount,at", "id,amount,at", "id,amount,at", "id,amount"]),
    st.lists(csv_line, max_size=8),
    st.sampled_from(["", "\n", "\r\n"]),
)
json_line = st.sampled_from(
    [
        '{"id":1,"amount":2.50,"at":"2025-03-20"}',
        '{"id":2,"amount":null,"at":null}',
        '{"id":"x","amount":1,"at":"2025-03-20"}',
        '{"id":3,"id":4,"amount":1,"at":null}',
        "[1]",
        "no",
        "",
    ]
)
json_file = st.builds(
    lambda lines, end: ("\n".join(lines) + end).encode(), st.lists(json_line, max_size=8), st.sampled_from(["", "\n"])
)
FEW = settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])


def alone(files: list[SourceFile], spec: SourceSpec) -> tuple[list[small_files.Verdict], pa.Table, pa.Table]:
    """The verdicts, and the rows and rejects of the good files, each judged by itself."""
    verdicts, rows, rejects = [], [judge.rows_schema(spec).empty_table()], [judge.REJECTS_SCHEMA.empty_table()]
    for file in files:
        try:
            batches = list(judge.read(file.path, spec, file.name, DAY))
        except FileRefused as refused:
            verdicts.append(small_files.Verdict(file, refused=refused))
            continue
        counts = [sum(getattr(one, kind).num_rows for one in batches) for kind in ("rows", "rejects")]
        assert judge.count_rows(spec, Accepted(file.name, 1, "", str(file.path))) == (sum(counts), 0)
        verdicts.append(small_files.Verdict(file, *counts))
        rows += [one.rows for one in batches]
        rejects += [one.rejects for one in batches]
    return verdicts, pa.concat_tables(rows), pa.concat_tables(rejects)


def assert_as_alone(files: list[SourceFile], spec: SourceSpec) -> None:
    judged = list(small_files.read(files, spec, DAY))
    expected, rows, rejects = alone(files, spec)
    verdicts = [verdict for one in judged for verdict in one.verdicts]
    assert [(v.file, v.rows, v.rejected, str(v.refused)) for v in verdicts] == [
        (v.file, v.rows, v.rejected, str(v.refused)) for v in expected
    ]
    good = pa.array([names.shown(v.file.name) for v in verdicts if v.refused is None], pa.string())
    for mine, theirs in ((1, rejects), (0, rows)):
        table = pa.concat_tables(one.batch[mine] for one in judged)
        kept = table.filter(pa.compute.is_in(table["source_file"], value_set=good))
        assert kept.combine_chunks().equals(theirs.combine_chunks())


def written(folder: Path, contents: list[bytes], suffix: str) -> list[SourceFile]:
    files = [SourceFile(folder / f"{at}", f"{DAY}_{at:03}.{suffix}") for at in range(len(contents))]
    for file, content in zip(files, contents, strict=True):
        file.path.write_bytes(content)
    return files


@FEW
@given(contents=st.lists(csv_file, max_size=12), late=st.booleans())
def test_csv_files_come_out_as_they_do_alone(tmp_path: Path, contents: list[bytes], late: bool) -> None:
    assert_as_alone(written(tmp_path, contents, "csv"), LATE if late else CSV)


@FEW
@given(contents=st.lists(json_file, max_size=12))
def test_json_files_come_out_as_they_do_alone(tmp_path: Path, contents: list[bytes]) -> None:
    assert_as_alone(written(tmp_path, contents, "jsonl"), JSONL)


def test_files_that_are_large_compressed_or_unreadable_keep_their_place_among_the_small_ones(tmp_path: Path) -> None:
    small = b"id,amount,at\n1,2,2025-03-20\nx,1,\n2,1,\n"
    large = b"id,amount,at\n" + b"".join(b"%d,2.50,2025-03-20\n" % n for n in range(20_000))
    files = written(
        tmp_path, [small, large, b"", small, b"id,amount,at\n\xff,1,\n", gzip.compress(small), small], "csv"
    )
    assert files[1].path.stat().st_size > small_content.SMALL_BYTES
    files[5] = files[5]._replace(name=f"{DAY}_5.csv.gz")
    assert_as_alone(files, CSV)


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_many_files_are_several_groups_in_their_order(tmp_path: Path, kind: str) -> None:
    line = b'{"id":%d,"amount":1,"at":null}\n' if kind == "jsonl" else b"id,amount,at\n%d,1,\n"
    files = written(tmp_path, [b"".join([line % n] * (10 if kind == "jsonl" else 1)) for n in range(1_000)], kind)
    assert_as_alone(files, JSONL if kind == "jsonl" else CSV)
