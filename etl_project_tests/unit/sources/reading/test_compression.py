"""Files that come packed: what is read, under which names, and what is refused before it costs anything."""

from __future__ import annotations

import gzip
import io
import time
import zipfile
from pathlib import Path

import pyarrow as pa
import pytest

from etl_project.sources.intake.archive import Accepted
from etl_project.sources.reading import judge
from etl_project.sources.reading.empty_lines import EmptyLines
from etl_project.sources.reading.file_format import SourceFile
from etl_project.sources.reading.file_refused import FileRefused
from etl_project.sources.reading.layout import Layout
from etl_project.sources.reading.rows.row_settings import RowSettings
from etl_project.sources.spec import SpecError
from etl_project_tests.unit.sources.world import DAY, HEADER, SPEC, all_rejects, all_rows, lines, read, rows, spec

AUTO = spec(layout=Layout(compression="auto"))
LONG_ROW = b"1,1,," + b"x" * 994 + b"\n"
LENIENT = spec(max_rejected_ratio=1.0)
PACKED = {
    "gzip": lambda content: gzip.compress(content, 6),
    "zstd": lambda content: pa.compress(content, "zstd", asbytes=True),
    "zip": lambda content: zipped({"inner.csv": content}),
}


def zipped(members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return sink.getvalue()


@pytest.mark.parametrize("kind", PACKED)
def test_a_packed_file_under_another_name_is_told_plainly_and_read_by_its_bytes_when_said(
    tmp_path: Path, kind: str
) -> None:
    content = PACKED[kind](rows(50))
    for name in ("a-2024-03-05.csv", "a-2024-03-05"):
        with pytest.raises(FileRefused, match=f"{kind}-compressed bytes.*`compression: auto`"):
            read(content, tmp_path, name=name)
        assert len(all_rows(read(content, tmp_path, AUTO, name))) == 50
        assert len(all_rows(read(content, tmp_path, spec(layout=Layout(compression=kind)), name))) == 50


def test_text_that_is_called_packed_is_refused_and_read_by_its_bytes_when_said(tmp_path: Path) -> None:
    for suffix in (".gz", ".zst", ".zip"):
        with pytest.raises(FileRefused, match="broken compressed file"):
            read(rows(50), tmp_path, name=f"a-2024-03-05.csv{suffix}")
        assert len(all_rows(read(rows(50), tmp_path, AUTO, f"a-2024-03-05.csv{suffix}"))) == 50


def test_the_members_of_an_archive_are_read_by_name_and_their_lines_are_counted_on(tmp_path: Path) -> None:
    first, second = lines("1,1,,a", "x,1,,bad"), HEADER + b"3,1,,c\nx,1,,worse"
    content = zipped({"b.csv": second, "a.csv": first, "__MACOSX/._a.csv": b"\0", "x/.DS_Store": b"\0", "d/": b""})
    batches = read(content, tmp_path, LENIENT, "a-2024-03-05.zip")
    assert [(row["id"], row["source_line"]) for row in all_rows(batches)] == [(1, 2), (3, 5)]
    assert [row["source_line"] for row in all_rejects(batches)] == [3, 6]
    assert {row["source_file"] for row in all_rows(batches)} == {"a-2024-03-05.zip"}
    path = tmp_path / "counted"
    path.write_bytes(content)
    assert judge.count_rows(LENIENT, Accepted("a-2024-03-05.zip", 1, "0" * 64, str(path))).records == 4


def test_every_member_has_its_own_header_and_a_bad_one_is_named(tmp_path: Path) -> None:
    swapped = b"note,at,amount,id\nn,,2,7\n"
    content = zipped({"a.csv": lines("1,1,,a"), "b.csv": swapped})
    assert [row["id"] for row in all_rows(read(content, tmp_path, name="a.zip"))] == [1, 7]
    with pytest.raises(FileRefused, match=r"in b\.csv"):
        read(zipped({"a.csv": lines("1,1,,a"), "b.csv": b"other\n1\n"}), tmp_path, name="a.zip")


def test_a_pattern_says_which_members_are_read(tmp_path: Path) -> None:
    content = zipped({"data/a.csv": lines("1,1,,a"), "readme.txt": b"hello"})
    assert len(all_rows(read(content, tmp_path, spec(layout=Layout(zip_members="*.csv")), "a.zip"))) == 1
    with pytest.raises(FileRefused, match=r"in readme\.txt.*`zip_members: '"):
        read(content, tmp_path, name="a.zip")
    with pytest.raises(FileRefused, match=r"no member: found an archive without \*\.tsv"):
        read(content, tmp_path, spec(layout=Layout(zip_members="*.tsv")), "a.zip")


def test_members_may_be_of_any_text_format_and_encoding(tmp_path: Path) -> None:
    source = spec(format="json", encoding="utf-16")
    text = '[{"id":1,"note":"ä"},\n{"id":2,"amount":1,"at":null}]'.encode("utf-16")
    batches = read(zipped({"a.json": text, "b.json": text}), tmp_path, source, "a.zip")
    assert [(row["id"], row["source_line"]) for row in all_rows(batches)] == [(1, 1), (2, 2), (1, 3), (2, 4)]


def test_archives_that_cannot_be_read_to_their_end_are_refused(tmp_path: Path) -> None:
    good = zipped({"a.csv": rows(500)})
    flipped = bytearray(good)
    flipped[200] ^= 1
    for broken in (good[:-30], good[: len(good) // 2], bytes(flipped), zipped({}), b"PK\x03\x04nothing", b""):
        with pytest.raises(FileRefused, match=r"broken compressed file|no member"):
            read(broken, tmp_path, name="a.zip")
    locked = bytearray(good)
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        locked[locked.index(signature) + offset] |= 1
    with pytest.raises(FileRefused, match="locked archive"):
        read(bytes(locked), tmp_path, name="a.zip")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_archives_that_leave_a_doubt_are_refused(tmp_path: Path) -> None:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        archive.writestr("a.csv", rows(1))
        archive.writestr("a.csv", rows(2))
    with pytest.raises(FileRefused, match=r"a\.csv twice"):
        read(sink.getvalue(), tmp_path, name="a.zip")
    two = zipped({"a.csv": rows(1), "b.csv": rows(2)})
    with pytest.raises(FileRefused, match="footer_lines"):
        read(two, tmp_path, spec(rows=RowSettings(footer_lines=1)), "a.zip")
    many = zipped({f"{n}.csv": b"" for n in range(10_001)}, zipfile.ZIP_STORED)
    with pytest.raises(FileRefused, match="too many members"):
        read(many, tmp_path, name="a.zip")


@pytest.mark.parametrize("kind", PACKED)
def test_a_bomb_is_refused_by_its_ratio_within_seconds(tmp_path: Path, kind: str) -> None:
    """120 MB of the same in a few hundred KB, far below max_expanded_bytes."""
    bomb = PACKED[kind](HEADER + LONG_ROW * 120_000)
    began = time.process_time()
    with pytest.raises(FileRefused, match=r"too large for its size once decompressed.*max_expanded_ratio"):
        read(bomb, tmp_path, AUTO)
    assert time.process_time() - began < 20
    path = tmp_path / "content"
    assert sum(batch.rows.num_rows for batch in judge.read(path, AUTO, "a", DAY, accepted=True)) == 120_000


def test_small_files_and_those_that_are_allowed_to_may_shrink_as_they_like(tmp_path: Path) -> None:
    content = gzip.compress(HEADER + LONG_ROW * 60_000)
    assert sum(batch.rows.num_rows for batch in read(content, tmp_path, name="a.csv.gz")) == 60_000
    large = gzip.compress(HEADER + LONG_ROW * 100_000)
    allowed = spec(layout=Layout(max_expanded_ratio=2000))
    assert sum(batch.rows.num_rows for batch in read(large, tmp_path, allowed, "a.csv.gz")) == 100_000


def test_the_sizes_that_an_archive_declares_are_added_up_before_anything_is_unpacked(tmp_path: Path) -> None:
    content = zipped({f"{n}.csv": HEADER + b"1,1,,x\n" * 1_000_000 for n in range(4)})
    with pytest.raises(FileRefused, match="too large once decompressed"):
        read(content, tmp_path, spec(max_expanded_bytes=20_000_000), "a.zip")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"layout": Layout(compression="bz2")}, "compression is 'bz2'; it can be name, auto, none, gzip, zstd, zip"),
        ({"layout": Layout(zip_members="")}, r"zip_members is empty.*like zip_members: '\*\.csv'"),
        ({"layout": Layout(max_expanded_ratio=0)}, "like max_expanded_ratio: 1000"),
        (
            {"layout": Layout(compression="auto"), "format": "parquet"},
            "compression is no setting of the format parquet",
        ),
    ],
)
def test_a_wrong_value_is_one_line_with_a_right_example(settings: dict[str, object], words: str) -> None:
    with pytest.raises(SpecError, match=words):
        spec(**settings)
    assert SPEC.layout == Layout()


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b" \t\n"])
@pytest.mark.parametrize("name", ["a-2024-03-05.csv", "a-2024-03-05.csv.gz"])
def test_a_file_of_empty_lines_is_refused_before_it_is_read_to_its_end(tmp_path: Path, name: str, end: bytes) -> None:
    content = rows(3) + end * 3_000_000 + rows(3)
    packed = gzip.compress(content, 1) if name.endswith(".gz") else content
    with pytest.raises(FileRefused, match="hardly anything but empty lines"):
        read(packed, tmp_path, LENIENT, name)


def test_some_million_empty_lines_are_no_harm_where_that_is_said_or_the_file_was_accepted_once(tmp_path: Path) -> None:
    content = rows(3) + b"\n" * 1_200_000 + b"5,1.50,,\n"
    said = spec(layout=Layout(max_empty_lines_ratio=1_000_000))
    assert len(all_rows(read(content, tmp_path, said))) == 4
    assert len(all_rows(list(judge.read(tmp_path / "content", SPEC, "a.csv", DAY, accepted=True)))) == 4


def test_many_empty_lines_among_many_others_are_no_harm(tmp_path: Path) -> None:
    watch = EmptyLines(SourceFile(tmp_path, "a.csv"), SPEC)
    block = b"5\n\n\n" * 100_000
    for _ in range(20):
        watch.see(block, block.count(b"\n"))
    with pytest.raises(FileRefused, match="4000000 empty lines and 2000000 others") as caught:
        EmptyLines(SourceFile(tmp_path, "a.csv"), spec(layout=Layout(max_empty_lines_ratio=1))).see(
            block * 20, 6_000_000
        )
    assert "\n" not in str(caught.value)
