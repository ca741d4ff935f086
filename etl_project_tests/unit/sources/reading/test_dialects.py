"""Text files that are not written the plain way: what comes before the header, other marks, line ends, fixed width."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from etl_project.sources.reading import judge
from etl_project.sources.reading.csv import records
from etl_project.sources.reading.csv.dialect import Dialect, DialectGrammar
from etl_project.sources.reading.csv.grammar import BrokenRecord, Grammar, OpenRecord, lines_of
from etl_project.sources.reading.csv.start import Start
from etl_project.sources.reading.file_refused import FileRefused
from etl_project.sources.reading.header import Match
from etl_project.sources.reading.layout import Layout
from etl_project.sources.spec import SourceColumn, SourceSpec, SpecError
from etl_project_tests.unit.sources.world import DAY, all_rejects, all_rows, read, spec

TYPES = (SourceColumn("article", "VARCHAR", nullable=False), SourceColumn("units", "INTEGER"))
COLUMNS = {"article": "article", "units": "units"}
ROWS = [("A1", 3), ("B2", 5)]


def stock(
    delimiter: str | None = ";", columns: dict[str, str] = COLUMNS, fmt: str = "csv", **layout: Any
) -> SourceSpec:
    return spec(
        columns=columns, types=TYPES, format=fmt, delimiter=delimiter, layout=Layout(**layout), max_rejected_ratio=1.0
    )


def rows(text: str | bytes, folder: Path, source: SourceSpec) -> list[tuple[Any, ...]]:
    content = text.encode() if isinstance(text, str) else text
    return [(row["article"], row["units"]) for row in all_rows(read(content, folder, source))]


def placed(text: str, folder: Path, source: SourceSpec) -> list[int]:
    return [row["source_line"] for row in all_rows(read(text.encode(), folder, source))]


def rejects(text: str, folder: Path, source: SourceSpec) -> list[tuple[int, str]]:
    return [(row["source_line"], row["reason"]) for row in all_rejects(read(text.encode(), folder, source))]


def refusal(text: str, folder: Path, source: SourceSpec) -> FileRefused:
    with pytest.raises(FileRefused) as caught:
        read(text.encode(), folder, source)
    return caught.value


# --- before the header -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("line", ["sep=;", '"sep=;"', "sep=;;;", '"sep=;";', "SEP=;", "sep=", "sep=;\r"])
def test_a_sep_line_is_known_and_the_lines_are_counted_as_they_stand(tmp_path: Path, line: str) -> None:
    text = f"{line}\narticle;units\nA1;3\nB2;5\n"
    assert rows(text, tmp_path, stock()) == ROWS
    assert placed(text, tmp_path, stock()) == [3, 4]


def test_a_sep_line_that_says_another_delimiter_refuses_the_file(tmp_path: Path) -> None:
    error = refusal("sep=,\narticle,units\nA1,3\n", tmp_path, stock())
    assert "`delimiter: ','`" in error.expected
    assert rows("sep=,\narticle,units\nA1,3\n", tmp_path, stock(other_delimiters=(",",))) == [("A1", 3)]


def test_a_column_that_is_called_sep_is_a_column(tmp_path: Path) -> None:
    source = stock(columns={"sep=": "article", "units": "units"})
    assert rows("sep=;units\nA1;3\n", tmp_path, source) == [("A1", 3)]
    single = spec(columns={"sep=": "article"}, types=TYPES[:1], delimiter=";")
    assert [row["article"] for row in all_rows(read(b"sep=\nA1\n", tmp_path, single))] == ["A1"]


def test_lines_before_the_header_are_skipped_when_said_and_named_when_not(tmp_path: Path) -> None:
    text = 'Stock report;"\n\narticle;units\nA1;3\nB2;5\n'
    assert rows(text, tmp_path, stock(skip_lines=2)) == ROWS
    assert placed(text, tmp_path, stock(skip_lines=2)) == [4, 5]
    assert "`skip_lines`" in refusal(text, tmp_path, stock()).expected
    assert refusal("a\nb\n", tmp_path, stock(skip_lines=9)).reason == "too few lines"
    assert refusal("a\nb\n", tmp_path, stock(skip_lines=2)).reason == "no header"


def test_comments_are_no_records_and_a_quoted_line_is_none(tmp_path: Path) -> None:
    text = '# made by hand\narticle;units\n#A0;1\nA1;3\n"two\n#lines";5\n'
    assert rows(text, tmp_path, stock(comment="#")) == [("A1", 3), ("two\n#lines", 5)]
    assert placed(text, tmp_path, stock(comment="#")) == [4, 5]
    assert rows("article;units\n#A0;1\n", tmp_path, stock()) == [("#A0", 1)]


def test_a_file_without_a_header_has_the_fields_in_the_order_of_the_columns(tmp_path: Path) -> None:
    source = stock(header=False)
    assert rows("A1;3\nB2;5\n", tmp_path, source) == ROWS
    assert placed("A1;3\nB2;5\n", tmp_path, source) == [1, 2]
    assert refusal("article;units\nA1;3\n", tmp_path, source).reason == "a header"
    assert "`header: false`" in refusal("A1;3\nB2;5\n", tmp_path, stock()).expected
    assert rejects("A1\nB2;5\n", tmp_path, source) == [(1, "1 field instead of 2")]


def test_field_names_say_what_is_in_a_file_without_a_header(tmp_path: Path) -> None:
    source = stock(header=False, field_names=("units", "place", "article"), ignored_columns=("place",))
    assert rows("3;x;A1\n", tmp_path, source) == [("A1", 3)]
    assert (
        "not expected 'place'"
        in refusal("3;x;A1\n", tmp_path, stock(header=False, field_names=("units", "place", "article"))).found
    )


def test_a_field_that_was_added_at_the_end_of_headerless_files_may_be_absent(tmp_path: Path) -> None:
    assert rows("A1\nB2\n", tmp_path, stock(header=False, optional=("units",))) == [("A1", None), ("B2", None)]
    assert "column_3" in refusal("A1;3;x\n", tmp_path, stock(header=False)).found
    assert rows("A1;3;x\n", tmp_path, stock(header=False, unknown_columns="ignore")) == [("A1", 3)]
    path = tmp_path / "accepted"
    path.write_text("A1\n")
    (batch,) = judge.read(path, stock(header=False), "a", DAY, accepted=True)
    assert batch.rows["units"].to_pylist() == [None]


# --- marks -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("header", ["article;units", "article;units;"])
@pytest.mark.parametrize("end", ["", ";"])
def test_records_may_end_with_a_delimiter_when_said(tmp_path: Path, header: str, end: str) -> None:
    text = f"{header}\nA1;3{end}\nB2;5{end}\n"
    assert rows(text, tmp_path, stock(trailing_delimiter=True)) == ROWS


def test_a_value_after_the_last_delimiter_is_never_dropped(tmp_path: Path) -> None:
    source = stock(trailing_delimiter=True)
    assert rejects("article;units;\nA1;3;lost\nB2;5;;\nC3;;\n", tmp_path, source) == [
        (2, "3 fields instead of 2"),
        (3, "4 fields instead of 2"),
    ]
    assert "`trailing_delimiter: true`" in refusal("article;units;\nA1;3;\n", tmp_path, stock()).expected


def test_a_delimiter_may_have_several_characters(tmp_path: Path) -> None:
    text = 'article||units\n"A||1"||3\nB|2||5\n'
    assert rows(text, tmp_path, stock("||")) == [("A||1", 3), ("B|2", 5)]
    assert rows("article§units\nA1§3\n", tmp_path, stock("§")) == [("A1", 3)]


def test_files_may_have_one_delimiter_or_another(tmp_path: Path) -> None:
    source = stock(";", other_delimiters=(",", "\t"))
    for mark in ";,\t":
        assert rows(f"article{mark}units\nA1{mark}3\nB2{mark}5\n", tmp_path, source) == ROWS
    assert "missing 'article'" in refusal("article|units\nA1|3\n", tmp_path, source).found
    assert "`delimiter: '|'`" in refusal("article|units\nA1|3\n", tmp_path, source).expected


def test_blanks_of_any_number_may_delimit(tmp_path: Path) -> None:
    text = '  article \t units\nA1   3  \n\n\t"B 2"\t5\n'
    assert rows(text, tmp_path, stock("whitespace")) == [("A1", 3), ("B 2", 5)]


def test_quotes_may_be_other_ones_or_none(tmp_path: Path) -> None:
    assert rows("article;units\n'A;1';3\n'it''s';5\n", tmp_path, stock(quote="'")) == [("A;1", 3), ("it's", 5)]
    assert rows('article;units\n"A1;3\n5" disk";5\n', tmp_path, stock(quote="")) == [('"A1', 3), ('5" disk"', 5)]


def test_an_escape_character_takes_the_meaning_of_a_mark_and_of_nothing_else(tmp_path: Path) -> None:
    source = stock(escape="\\")
    text = 'article;units\n"a\\"b";1\na\\;b;2\na\\nb\\N;3\na\\\\;4\n"a""b";5\na\\\nb;6\n'
    assert rows(text, tmp_path, source) == [
        ('a"b', 1),
        ("a;b", 2),
        ("a\\nb\\N", 3),
        ("a\\", 4),
        ('a"b', 5),
        ("a\nb", 6),
    ]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_carriage_return_alone_ends_a_line_when_said(tmp_path: Path, end: str) -> None:
    text = end.join(["article;units", "A1;3", "B2;5", ""])
    assert rows(text, tmp_path, stock(line_ends="any")) == ROWS
    assert placed(text, tmp_path, stock(line_ends="any")) == [2, 3]


def test_mixed_line_ends_are_lines_wherever_blocks_are_cut(tmp_path: Path) -> None:
    count = 700_000
    ends = ("\r", "\r\n", "\n")
    text = "article;units\r" + "".join(f"A{n};{n}{ends[n % 3]}" for n in range(count))
    found = rows(text, tmp_path, stock(line_ends="any"))
    assert len(found) == count
    assert found[-1] == (f"A{count - 1}", count - 1)


def test_a_file_of_carriage_returns_is_told_what_would_help(tmp_path: Path) -> None:
    assert "`line_ends: any`" in refusal("article;units\rA1;3\r", tmp_path, stock()).expected


_TEXT = st.text("a;|\"'\\\n\r ", max_size=6)


@given(
    st.lists(st.tuples(_TEXT, _TEXT), min_size=1, max_size=8),
    st.sampled_from([("'", ""), ('"', ""), ('"', "\\"), ("'", "\\")]),
    st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]),
)
def test_what_python_writes_in_a_dialect_is_read_back(
    lines: list[tuple[str, str]], marks: tuple[str, str], quoting: Any
) -> None:
    sink = io.StringIO()
    quote, escape = marks
    escaping: dict[str, Any] = {"escapechar": escape, "doublequote": False} if escape else {}
    csv.writer(sink, delimiter=";", quotechar=quote, lineterminator="\n", quoting=quoting, **escaping).writerows(lines)
    texts = [one for line in lines for one in line]
    if quoting == csv.QUOTE_MINIMAL and any(one.startswith(quote) or "\r" in one for one in texts):
        return  # Python escapes such a quote without quoting the field, and quotes no carriage return.
    assert read_back(sink.getvalue(), Dialect(";", quote, escape)) == lines


def read_back(text: str, dialect: Dialect) -> list[tuple[str, ...]]:
    grammar = DialectGrammar(dialect, 1000)
    lines = lines_of(text)
    at = 0
    found = []
    while at < len(lines):
        fields, at = grammar.record(lines, at)
        found.append(tuple(fields))
    return found


_PIECES = st.sampled_from(["a", "1", ",", '"', '""', '",', ',"', "\n", "\r\n", "\r", "é", " ", "x,y", '"q"', "\n\n"])


@given(st.lists(_PIECES, max_size=30).map("".join))
@example('a"\n",b\n')
@example('"a"b,c\n"d\n",e\n')
@example('"q"\r')
def test_the_grammar_of_dialects_equals_the_plain_one_on_plain_text(text: str) -> None:
    lines = lines_of(text)
    for at in range(len(lines)):
        assert outcome(DialectGrammar(Dialect(","), 60), lines, at) == outcome(Grammar(",", 60), lines, at)


def outcome(grammar: Grammar | DialectGrammar, lines: list[str], at: int) -> object:
    try:
        return grammar.record(lines, at)
    except OpenRecord:
        return "open"
    except BrokenRecord as error:
        return "long" if "max_line_bytes" in str(error) else str(error)


@given(st.lists(_PIECES, max_size=30).map("".join), st.sampled_from([1, 7, 10_000]))
def test_without_quotes_the_fast_reader_equals_the_grammar(text: str, block: int) -> None:
    source = spec(columns={"id": "id", "note": "note"}, layout=Layout(quote="", comment="1"), max_rejected_ratio=1.0)
    found = Start(Match((0, 1), (), False), 2, 1, Dialect(",", ""))
    fast, slow = (as_read(text, records.CsvReader(source, found, fast), block) for fast in (True, False))
    assert fast == slow


def as_read(text: str, reader: records.CsvReader, size: int) -> list[object]:
    content = text.encode()
    rest, at, found = b"", 0, []
    while at < len(content):
        end = content.find(b"\n", at + size) + 1 or len(content)
        load, rest = reader.read(rest + content[at:end], end == len(content))
        chunk = load()
        raws = chunk.raw(range(len(chunk.lines)))
        found += zip(chunk.lines.to_pylist(), raws, *(one.to_pylist() for one in chunk.texts), strict=True)
        found += chunk.broken
        at = end
    return sorted(found, key=str)


# --- fixed width -----------------------------------------------------------------------------------------------------

FIXED = {"article": "1-6", "units": "7-10"}


def fixed(positions: dict[str, str] = FIXED, **layout: Any) -> SourceSpec:
    return stock(None, fmt="fixed", positions=positions, **layout)


def test_fields_of_a_fixed_width_are_cut_by_characters_and_their_padding_is_none_of_them(tmp_path: Path) -> None:
    text = "Bestände\nÄrmel    3\nB 2   0005\n\n   C3     \n"
    assert rows(text, tmp_path, fixed(skip_lines=1)) == [("Ärmel", 3), ("B 2", 5), ("C3", None)]
    assert placed(text, tmp_path, fixed(skip_lines=1)) == [2, 3, 5]
    assert rows("Ärmel    3\r\n".encode("cp1252"), tmp_path, fixed_in("cp1252")) == [("Ärmel", 3)]


def fixed_in(encoding: str) -> SourceSpec:
    return spec(columns=COLUMNS, types=TYPES, format="fixed", encoding=encoding, layout=Layout(positions=FIXED))


def test_a_line_of_another_width_is_a_reject(tmp_path: Path) -> None:
    text = "A1       3\nB2      \nC3       5  \nD4       56\n"
    assert rows(text, tmp_path, fixed()) == [("A1", 3), ("C3", 5)]
    assert rejects(text, tmp_path, fixed()) == [
        (2, "8 characters instead of 10"),
        (4, "11 characters instead of 10"),
    ]
    assert rows("A1       3\nB2\n", tmp_path, fixed(optional=("units",)))[:1] == [("A1", 3)]
    short = rejects("A1\nB2    \n", tmp_path, fixed(optional=("units",)))
    assert short == [(1, "2 characters instead of 6 to 10")]


def test_positions_without_a_column_are_refused_at_load_or_in_the_file(tmp_path: Path) -> None:
    assert "missing 'units'" in refusal("A1       3\n", tmp_path, fixed({"article": "1-6"})).found
    assert rows("A1       3x\n", tmp_path, fixed({**FIXED, "x": "11"}, ignored_columns=("x",))) == [("A1", 3)]


@pytest.mark.parametrize(
    ("fmt", "layout", "words"),
    [
        ("csv", {"skip_lines": -1}, "skip_lines is -1; it is a number of lines, like skip_lines: 3"),
        ("parquet", {"skip_lines": 3}, "skip_lines is no setting of the format parquet.*csv, tsv"),
        ("jsonl", {"header": False}, "header is no setting of the format jsonl; like header: false it is one of csv"),
        ("csv", {"quote": "''"}, "quote is \"''\"; it is one character"),
        ("csv", {"quote": ";"}, "quote is ';'; it is one character that is no delimiter"),
        ("csv", {"escape": '"'}, "escape is the quote itself"),
        ("csv", {"field_names": ("a", "b")}, "write header: false as well"),
        ("csv", {"field_names": ("a", "a"), "header": False}, "field_names holds a twice"),
        ("csv", {"line_ends": "cr"}, "line_ends is 'cr'; it can be lf, any"),
        ("csv", {"other_delimiters": ("\n",)}, "delimiter is '\\\\n'; it is text with no quote and no line end"),
        ("csv", {"positions": FIXED}, "positions is no setting of the format csv.*one of fixed"),
        ("fixed", {}, r"like positions: \{id: 1-6, name: 7-26\}"),
        ("fixed", {"positions": {"article": "6-1"}}, "positions: article: '6-1' is no first and last character"),
        ("fixed", {"positions": {"article": "a"}}, "is no first and last character"),
        ("fixed", {"positions": FIXED, "header": False}, "header is no setting of the format fixed"),
    ],
)
def test_a_wrong_value_is_one_line_with_a_right_example(fmt: str, layout: dict[str, Any], words: str) -> None:
    with pytest.raises(SpecError, match=words) as caught:
        stock(";", fmt=fmt, **layout)
    assert "\n" not in str(caught.value)


# --- which of several delimiters -------------------------------------------------------------------------------------

ALL_NULLABLE = tuple(replace(one, nullable=True) for one in TYPES)
LOOSE: list[dict[str, Any]] = [{"unknown_columns": "ignore"}, {"optional": ("units",)}, {}]


@pytest.mark.parametrize("accepted", [False, True])
@pytest.mark.parametrize("layout", [*LOOSE, {"unknown_columns": "ignore", "optional": ("article", "units")}])
@pytest.mark.parametrize("header", [True, False])
def test_the_delimiter_is_the_one_that_parts_the_columns_of_the_source_also_in_the_archive(
    tmp_path: Path, accepted: bool, layout: dict[str, Any], header: bool
) -> None:
    """All columns may be NULL: a delimiter that the file lacks makes one unknown column of its header."""
    several = Layout(header=header, other_delimiters=(",",), **layout)
    both = spec(columns=COLUMNS, types=ALL_NULLABLE, delimiter=";", layout=several)
    for mark in ",;":
        path = tmp_path / "content"
        path.write_text((f"article{mark}units\n" if header else "") + f"A1{mark}3\nB2{mark}5\n", encoding="utf-8")
        found = all_rows(judge.read(path, both, "a-2024-03-05.csv", DAY, accepted=accepted))
        assert [(row["article"], row["units"]) for row in found] == ROWS


@pytest.mark.parametrize("unknown", ["ignore", "keep"])
def test_a_file_with_none_of_the_columns_is_refused_whatever_may_be_absent(tmp_path: Path, unknown: str) -> None:
    loose = Layout(unknown_columns=unknown, optional=("article", "units"))
    source = spec(columns=COLUMNS, types=(*ALL_NULLABLE, SourceColumn("unknown_columns", "JSON")), layout=loose)
    refused = refusal("article;units\nA1;3\n", tmp_path, source)
    assert "none of the source's, but 'article;units'" in str(refused) and "delimiter: ';'" in str(refused)
    assert rows("units,more\n3,x\n", tmp_path, source) == [(None, 3)]


def test_a_parquet_file_with_none_of_the_columns_is_refused_too(tmp_path: Path) -> None:
    loose = Layout(unknown_columns="ignore", optional=("article", "units"))
    source = spec(columns=COLUMNS, types=ALL_NULLABLE, layout=loose, format="parquet", patterns=("*{date}*.parquet",))
    pq.write_table(pa.table({"Article": ["A1"]}), tmp_path / "file")
    content = (tmp_path / "file").read_bytes()
    with pytest.raises(FileRefused, match="none of the source's, but 'Article'"):
        read(content, tmp_path, source)
    kept = list(judge.read(tmp_path / "file", source, "a-2024-03-05.parquet", DAY, accepted=True))
    assert [row["article"] for row in all_rows(kept)] == [None], "what was accepted stays what it was"


@pytest.mark.parametrize(
    ("format", "content"), [("jsonl", b'{"Article":"A1"}\n{}\n'), ("json", b'[{"Article":"A1"},{}]')]
)
def test_a_file_of_objects_none_of_which_has_a_column_is_refused_too(
    tmp_path: Path, format: str, content: bytes
) -> None:
    loose = Layout(unknown_columns="ignore", optional=("article", "units"))
    source = spec(columns=COLUMNS, types=ALL_NULLABLE, layout=loose, format=format, patterns=("*{date}*.json",))
    with pytest.raises(FileRefused, match="none of the source's, but 'Article'"):
        read(content, tmp_path, source)
    path = tmp_path / "content"
    path.write_bytes(content)
    kept = list(judge.read(path, source, "a-2024-03-05.json", DAY, accepted=True))
    assert [row["article"] for row in all_rows(kept)] == [None, None], "what was accepted stays what it was"
