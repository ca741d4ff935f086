"""A file is read in an encoding that it is in, or refused: garbled text is never stored without a word."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl_project.sources.intake.archive import Accepted
from etl_project.sources.reading import compression, judge
from etl_project.sources.reading.judge import FileRefused
from etl_project.sources.spec import SpecError
from etl_project_tests.unit.sources.world import DAY, all_rows, lines, read, spec

CITY = "1,1,,München"


def city(folder: Path, content: bytes, **settings: Any) -> str:
    (row,) = all_rows(read(content, folder, spec(**settings)))
    return str(row["note"])


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1", "cp437", "koi8-r", "shift_jis"])
def test_a_file_in_utf_8_is_not_garbled_by_a_source_of_another_encoding(tmp_path: Path, encoding: str) -> None:
    with pytest.raises(FileRefused) as refused:
        city(tmp_path, lines(CITY), encoding=encoding)
    assert f"encoding: [utf-8, {encoding}]" in str(refused.value) and "valid_utf8: as_declared" in str(refused.value)


def test_it_is_read_as_utf_8_or_as_declared_where_the_source_says_so(tmp_path: Path) -> None:
    garbled = "München".encode().decode("cp1252")
    assert city(tmp_path, lines(CITY), encoding="cp1252", valid_utf8="as_utf8") == "München"
    assert city(tmp_path, lines(CITY), encoding="cp1252", valid_utf8="as_declared") == garbled
    for allowed in ("refuse", "as_utf8"):
        assert city(tmp_path, lines(CITY).decode().encode("cp1252"), encoding="cp1252", valid_utf8=allowed) == "München"


PRICE = "1,1,,5 €"


def test_windows_letters_are_no_invisible_characters_of_an_iso_encoding(tmp_path: Path) -> None:
    windows = lines("2,1,,x") + (PRICE + "\n").encode("cp1252")
    for encoding in ("latin-1", "iso-8859-15"):
        with pytest.raises(FileRefused, match="byte 0x80 in line 3, a control character in") as refused:
            read(windows, tmp_path, spec(encoding=encoding))
        assert "encoding: cp1252" in str(refused.value) and "valid_utf8: as_declared" in str(refused.value)
        assert len(all_rows(read(windows, tmp_path, spec(encoding=encoding, valid_utf8="as_declared")))) == 2
    with pytest.raises(FileRefused, match="valid UTF-8"):
        read(lines(PRICE), tmp_path, spec(encoding="latin-1"))
    both = spec(encoding="latin-1", other_encodings=("cp1252",))
    assert [row["note"] for row in all_rows(read(windows, tmp_path, both))] == ["x", "5 €"]
    with pytest.raises(FileRefused, match=r"byte 0x80 in line 3.*cp1252 .or another.* in place of latin-1"):
        read(windows, tmp_path, spec(encoding="utf-8", other_encodings=("latin-1",)))


@pytest.mark.parametrize("others", [(), ("ascii",)])
def test_a_file_that_was_accepted_before_windows_letters_were_looked_for_stays_readable(
    tmp_path: Path, others: tuple[str, ...]
) -> None:
    path = tmp_path / "content"
    path.write_bytes((PRICE + "\n").join(["id,amount,at,note\n", ""]).encode("cp1252"))
    source = spec(encoding="latin-1", other_encodings=others)
    (row,) = all_rows(judge.read(path, source, "a-2024-03-05.csv", DAY, accepted=True))
    assert row["note"] == "5 \x80"


@pytest.mark.parametrize(
    ("several", "valid_utf8", "never"),
    [
        (("cp437", "cp1252"), "refuse", "'cp1252' stands behind 'cp437'"),
        (("utf-8", "latin-1", "iso-8859-2"), "refuse", "'iso-8859-2' stands behind 'latin-1'"),
        (("koi8-r", "utf-16"), "refuse", "'utf-16' stands behind 'koi8-r'"),
        (("latin-1", "cp1252"), "as_declared", "'cp1252' stands behind 'latin-1'"),
        (("latin-1", "utf-8"), "as_declared", "'utf-8' stands behind 'latin-1'"),
        (("latin-1", "utf-8"), "refuse", ""),
        (("iso-8859-2", "cp1250"), "refuse", ""),
        (("utf-8", "shift_jis", "cp437"), "refuse", ""),
        (("latin-1",), "as_utf8", ""),
        (("latin-1", "iso-8859-1"), "refuse", ""),
    ],
)
def test_an_encoding_that_no_file_could_come_to_is_refused(
    several: tuple[str, ...], valid_utf8: Any, never: str
) -> None:
    declared = {"encoding": several[0], "other_encodings": several[1:], "valid_utf8": valid_utf8}
    if not never:
        assert spec(**declared).encoding == several[0]
        return
    with pytest.raises(SpecError, match=rf"encoding {never}, in which every file can be read.*\[utf-8, "):
        spec(**declared)


def test_of_several_encodings_the_first_that_fits_all_bytes_counts(tmp_path: Path) -> None:
    for order in (("utf-8", "cp1252"), ("cp1252", "utf-8")):
        both = {"encoding": order[0], "other_encodings": order[1:]}
        for written in ("utf-8", "cp1252"):
            assert city(tmp_path, lines(CITY).decode().encode(written), **both) == "München"
    # 0x81 is no letter of cp1252, and the text is no UTF-8 either.
    with pytest.raises(FileRefused, match="text in utf-8 or cp1252"):
        city(tmp_path, lines("1,1,,x") + b"2,1,,\x81\n", encoding="utf-8", other_encodings=("cp1252",))


def test_a_letter_at_the_very_end_of_a_large_packed_file_decides_too(tmp_path: Path) -> None:
    head = lines(*(["1,1,,plain ascii text"] * (compression.PIECE_BYTES // 20)))
    both = spec(encoding="utf-8", other_encodings=("cp1252",))
    for written in ("utf-8", "cp1252"):
        content = gzip.compress(head + (CITY + "\n").encode(written), compresslevel=1)
        path = tmp_path / "a.csv.gz"
        path.write_bytes(content)
        last = list(judge.read(path, both, "a.csv.gz", DAY))[-1]
        assert last.rows["note"][-1].as_py() == "München"
        assert (
            judge.count_rows(both, Accepted("a.csv.gz", 1, "", str(path))).records == compression.PIECE_BYTES // 20 + 1
        )


@given(st.text(st.characters(min_codepoint=32, exclude_characters='",\x7f', exclude_categories=("C",)), min_size=1))
def test_what_is_stored_is_what_was_written_or_nothing(tmp_path_factory: pytest.TempPathFactory, note: str) -> None:
    folder = tmp_path_factory.mktemp("text")
    for written in ("utf-8", "cp1252"):
        try:
            content = lines(f"1,1,,{note}").decode().encode(written)
        except UnicodeEncodeError:
            continue
        if written == "utf-8" or not is_utf8(content) or content.isascii():
            assert city(folder, content, encoding="utf-8", other_encodings=("cp1252",)) == note


def is_utf8(content: bytes) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"encoding": "utf-9"}, "encoding 'utf-9' is not known"),
        ({"encoding": "base64"}, "encoding 'base64' is not known"),
        ({"other_encodings": ("cp9999",)}, "like utf-8 or cp1252"),
        ({"valid_utf8": "maybe"}, "valid_utf8 is 'maybe'; it can be refuse, as_utf8, as_declared"),
    ],
)
def test_an_encoding_that_cannot_work_is_refused(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(SpecError, match=says):
        spec(**settings)
