"""What senders write for a value is read by declaration, exactly; without it, it is a reject that names the setting."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from etl_project.sources.component import FileSource
from etl_project.sources.reading.values.convert import Converter
from etl_project.sources.reading.values.number_forms import NumberForms
from etl_project.sources.reading.values.value_settings import PLAIN, ValueSettings
from etl_project.sources.spec import SourceColumn, SpecError
from etl_project_tests.projects import source_project
from etl_project_tests.unit.sources.world import all_rejects, all_rows, lines, read, spec

MONEY, DAY, MOMENT, LOCAL = "DECIMAL(12,2)", "DATE", "TIMESTAMP WITH TIME ZONE", "TIMESTAMP"
GERMAN = {"decimal_separator": ",", "thousands_separator": "."}
AMERICAN = {
    "thousands_separator": ",",
    "prefixes": ("$", "US$"),
    "suffixes": ("EUR", "€"),
    "negatives": ("parentheses", "trailing_minus", "unicode_minus"),
}


def local(*parts: int) -> datetime:
    return datetime(*parts)  # type: ignore[arg-type]  # noqa: DTZ001 - no zone is what it is about


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[misc,arg-type]


def value(text: str, kind: str, settings: dict[str, Any], zone: str = "UTC") -> tuple[Any, str]:
    """The value of one text, and why it has none."""
    column = SourceColumn("it", kind)
    converter = Converter(ZoneInfo(zone), {"it": ValueSettings(**settings)})
    # Among others, since whole columns take a quicker way than single texts.
    found = converter.column(pa.array([None, text, text]), column)[1].as_py()
    return found, "" if found is not None else converter.why_not(text, column)


@pytest.mark.parametrize(
    ("kind", "settings", "text", "expected"),
    [
        (MONEY, GERMAN, "1.234,50", Decimal("1234.50")),
        (MONEY, GERMAN, "-1.234.567,5", Decimal("-1234567.50")),
        (MONEY, GERMAN, "1234", Decimal("1234.00")),
        ("BIGINT", GERMAN, "1.234.567", 1234567),
        ("BIGINT", GERMAN, "17850,0", 17850),
        ("DOUBLE", GERMAN, "1,5e3", 1500.0),
        (MONEY, {"thousands_separator": " "}, "1\u202f234.50", Decimal("1234.50")),
        (MONEY, {"thousands_separator": "'"}, "1\u2019299.05", Decimal("1299.05")),
        (MONEY, AMERICAN, "$1,299.00", Decimal("1299.00")),
        (MONEY, AMERICAN, "-$5", Decimal("-5.00")),
        (MONEY, AMERICAN, "US$ -5", Decimal("-5.00")),
        (MONEY, AMERICAN, "($12.50)", Decimal("-12.50")),
        (MONEY, AMERICAN, "$(12.50)", Decimal("-12.50")),
        (MONEY, AMERICAN, "12.50-", Decimal("-12.50")),
        (MONEY, AMERICAN, "\u221212.50", Decimal("-12.50")),
        (MONEY, AMERICAN, "12.50 €", Decimal("12.50")),
        (MONEY, {"percent": "fraction"}, "50%", Decimal("0.50")),
        (MONEY, {"percent": "fraction"}, "0.5", Decimal("0.50")),
        (MONEY, {"percent": "number"}, "12.5 %", Decimal("12.50")),
        ("DECIMAL(38,10)", {"percent": "fraction"}, f"{'1' * 26}.78901%", Decimal(f"{'1' * 24}.1178901")),
        (MONEY, {"exponents": True}, "1.25E+01", Decimal("12.50")),
        ("INTEGER", {"exponents": True}, "1E3", 1000),
        ("BOOLEAN", {"true_values": ("Y",), "false_values": ("N",)}, "n", False),
        ("BOOLEAN", {"true_values": ("Y",), "false_values": ("N",)}, "TRUE", True),
        (DAY, {"date_format": ("%d.%m.%Y",)}, "1.3.2025", date(2025, 3, 1)),
        (DAY, {"date_format": ("%d.%m.%Y", "iso")}, "2025-03-01", date(2025, 3, 1)),
        (DAY, {"date_format": ("%d-%b-%y",)}, "20-MAR-69", date(1969, 3, 20)),
        (DAY, {"date_format": ("%d %B %Y",)}, "20 march 2025", date(2025, 3, 20)),
        (DAY, {"date_format": ("%Y%m%d",)}, "20250320", date(2025, 3, 20)),
        (DAY, {"date_format": ("iso_midnight",)}, "2025-03-20T00:00:00Z", date(2025, 3, 20)),
        (DAY, {"date_format": ("%d.%m.%Y %H:%M",)}, "20.03.2025 00:00", date(2025, 3, 20)),
        (DAY, {"date_format": ("epoch_days",)}, "20167", date(2025, 3, 20)),
        (DAY, {"date_format": ("%d/%m/%Y", "%m/%d/%Y")}, "21/03/2025", date(2025, 3, 21)),
        (DAY, {"date_format": ("%d/%m/%Y", "%m/%d/%Y")}, "04/04/2025", date(2025, 4, 4)),
        (MOMENT, {"timestamp_format": ("%d.%m.%Y %H:%M",)}, "20.07.2025 12:30", utc(2025, 7, 20, 10, 30)),
        (MOMENT, {"timestamp_format": ("%d/%b/%Y:%H:%M %z",)}, "1/Oct/2000:13:55 -0700", utc(2000, 10, 1, 20, 55)),
        (MOMENT, {"timestamp_format": ("iso", "%Y-%m-%dT%H:%M")}, "2025-07-20T12:30", utc(2025, 7, 20, 10, 30)),
        (MOMENT, {"timestamp_format": ("epoch_seconds",)}, "1710000000.5", utc(2024, 3, 9, 16, 0, 0, 500000)),
        (MOMENT, {"timestamp_format": ("epoch_milliseconds",)}, "1710000000001", utc(2024, 3, 9, 16, 0, 0, 1000)),
        (LOCAL, {"timestamp_format": ("epoch_microseconds",)}, "-1", local(1969, 12, 31, 23, 59, 59, 999999)),
        (LOCAL, {"timestamp_format": ("%m/%d/%Y %I:%M:%S %p",)}, "3/2/2025 12:05:09 am", local(2025, 3, 2, 0, 5, 9)),
        (LOCAL, {"timestamp_format": ("%m/%d/%Y %I:%M %p",)}, "3/20/2025 1:05 PM", local(2025, 3, 20, 13, 5)),
        (LOCAL, {"timestamp_format": ("%d.%m.%Y",)}, "20.03.2025", local(2025, 3, 20)),
        (LOCAL, {"hour_24": True}, "2025-12-31 24:00:00", local(2026, 1, 1)),
        (MOMENT, {"hour_24": True, "timestamp_format": ("%d.%m.%Y %H:%M",)}, "28.2.2024 24:00", utc(2024, 2, 28, 23)),
        (MOMENT, {"repeated_hour": "last"}, "2025-10-26 02:30", utc(2025, 10, 26, 1, 30)),
        (MOMENT, {"repeated_hour": "first"}, "2025-10-26 02:30", utc(2025, 10, 26, 0, 30)),
    ],
)  # fmt: skip
def test_a_declared_form_is_read_exactly(kind: str, settings: dict[str, Any], text: str, expected: Any) -> None:
    assert value(text, kind, settings, "Europe/Berlin") == (expected, "")


@pytest.mark.parametrize(
    ("kind", "settings", "text", "says"),
    [
        (MONEY, GERMAN, "1.50", "decimal_separator: '.'"),
        (MONEY, GERMAN, "12.34,5", "as the source writes numbers"),
        (MONEY, GERMAN, "1,234", "more digits than DECIMAL(12,2) holds"),
        (MONEY, AMERICAN, "(-5)", "as the source writes numbers"),
        (MONEY, AMERICAN, "-5-", "as the source writes numbers"),
        (MONEY, AMERICAN, "(5", "as the source writes numbers"),
        (MONEY, AMERICAN, "US$ $5", "as the source writes numbers"),
        (MONEY, AMERICAN, " 5", "trim: true"),
        (MONEY, {"exponents": True}, "1E999999999", "as the source writes numbers"),
        ("INTEGER", {"exponents": True}, "1.5E0", "is no INTEGER"),
        (DAY, {"date_format": ("%d.%m.%Y",)}, "31.02.2025", "does not exist"),
        (DAY, {"date_format": ("%d.%m.%Y",)}, "00.00.0000", "null_values: ['00.00.0000']"),
        (DAY, {"date_format": ("%d.%m.%Y",)}, "2025-03-20", "date_format: [iso, ...]"),
        (DAY, {"date_format": ("%d/%m/%Y", "%m/%d/%Y")}, "03/04/2025", "means 2025-04-03 or 2025-03-04"),
        (DAY, {"date_format": ("iso_midnight",)}, "2025-03-20 01:00:00", "none of the forms of date_format"),
        (MOMENT, {"timestamp_format": ("epoch_seconds",)}, "1710000000000", "epoch_milliseconds"),
        (MOMENT, {"timestamp_format": ("epoch_seconds",)}, "1.5000001", "none of the forms"),
        (LOCAL, {"hour_24": True}, "9999-12-31 24:00", "forms"),
        (LOCAL, {"hour_24": True}, "2025-12-31 24:00:01", "does not exist"),
        (MOMENT, {"repeated_hour": "reject"}, "2025-10-26 02:30", "comes twice in Europe/Berlin (repeated_hour"),
        (MOMENT, {"repeated_hour": "last"}, "2025-03-30 02:30", "does not exist in Europe/Berlin"),
        # Without any setting: the reason names the one that is missing.
        ("INTEGER", {}, "N/A", "null_values: ['N/A']"),
        ("DOUBLE", {}, "nan", "null_values: ['nan']"),
        (MONEY, {}, " 12.5 ", "trim: true"),
        (MONEY, {}, "$1,299.00", "thousands_separator: ',', prefixes: ['$']"),
        (MONEY, {}, "1.234,50", "decimal_separator: ',', thousands_separator: '.'"),
        (MONEY, {}, "50%", "percent: fraction"),
        (MONEY, {}, "(12.50)", "negatives: [parentheses]"),
        (MONEY, {}, "12.50-", "negatives: [trailing_minus]"),
        (MONEY, {}, "\u22125", "negatives: [unicode_minus]"),
        (MONEY, {}, "1.25E+01", "exponents: true"),
        ("BOOLEAN", {}, "Y", "true_values: ['Y']"),
        (DAY, {}, "20.03.2025", "date_format: '%d.%m.%Y'"),
        (DAY, {}, "03/04/2025", "date_format: '%d/%m/%Y' or '%m/%d/%Y'"),
        (DAY, {}, "04/13/2025", "date_format: '%m/%d/%Y')"),
        (DAY, {}, "2025-03-20 00:00:00.000000000", "date_format: [iso, iso_midnight]"),
        (LOCAL, {}, "2025-03-20 24:00:00", "hour_24: true"),
        (MOMENT, {}, "1710000000", "timestamp_format: epoch_seconds"),
        (MOMENT, {}, "3/20/2025 1:05 PM", "timestamp_format: '%m/%d/%Y %I:%M %p'"),
    ],
)  # fmt: skip
def test_what_has_no_declared_form_has_no_value_and_the_reason_names_the_setting(
    kind: str, settings: dict[str, Any], text: str, says: str
) -> None:
    found, why = value(text, kind, settings, "Europe/Berlin")
    assert found is None
    assert says in why


@given(
    st.decimals(allow_nan=False, allow_infinity=False, places=2, min_value=-(10**9), max_value=10**9),
    st.sampled_from([GERMAN, AMERICAN, {"thousands_separator": " ", "decimal_separator": ","}]),
    st.sampled_from(["plain", "parentheses", "trailing", "affix"]),
)
def test_any_number_written_by_the_settings_comes_back(number: Decimal, settings: dict[str, Any], way: str) -> None:
    text = f"{abs(number):,.2f}".translate(
        str.maketrans({",": settings["thousands_separator"], ".": settings.get("decimal_separator", ".")})
    )
    negatives = settings.get("negatives", ())
    if number < 0:
        text = (
            f"({text})"
            if way == "parentheses" and negatives
            else f"{text}-"
            if way == "trailing" and negatives
            else f"-{text}"
        )
    text = f"$ {text}" if way == "affix" and "prefixes" in settings else text
    assert value(text, "DECIMAL(18,2)", settings) == (number, "")


@given(st.text("0123456789.,+-eE()$%\u2212 ", max_size=8))
def test_the_quick_way_and_the_slow_way_read_the_same_numbers(text: str) -> None:
    forms = NumberForms(ValueSettings(**AMERICAN, percent="fraction", exponents=True), expanded=True)
    simple = NumberForms(ValueSettings(thousands_separator=","), expanded=True)
    quick, slow = simple.plain(pa.array([text]))[0].as_py(), forms._one(text)
    if quick is not None:
        assert quick.removeprefix("+") == slow


def test_missing_values_are_null_and_trimmed_blanks_are_no_value_of_a_csv(tmp_path: Path) -> None:
    source = spec(values=ValueSettings(null_values=("N/A", "-"), trim=True), max_rejected_ratio=1.0)
    batches = read(lines("1, N/A ,-,  ", " 2 ,1.5 ,, a b "), tmp_path, source)
    assert [(row["id"], row["amount"], row["sold_at"], row["note"]) for row in all_rows(batches)] == [
        (1, None, None, None),
        (2, Decimal("1.50"), None, "a b"),
    ]


def test_a_missing_value_where_one_is_needed_is_a_reject_that_says_why(tmp_path: Path) -> None:
    source = spec(values=ValueSettings(null_values=("N/A",)), max_rejected_ratio=1.0)
    (reject,) = all_rejects(read(lines("N/A,1,,"), tmp_path, source))
    assert reject["reason"] == "id: 'N/A' is one of null_values, and the column is NOT NULL"
    assert reject["raw_text"] == "N/A,1,,"


def test_a_column_has_its_own_settings_before_those_of_its_source(tmp_path: Path) -> None:
    own = {"note": ValueSettings(null_values=("none",))}
    source = spec(values=ValueSettings(null_values=("-",)), column_values=own)
    (row,) = all_rows(read(lines("1,-,,-"), tmp_path, source))
    assert (row["amount"], row["note"]) == (None, "-")


def test_missing_numbers_and_midnights_of_a_parquet_file_are_read_by_declaration(tmp_path: Path) -> None:
    types = (SourceColumn("share", "DOUBLE"), SourceColumn("seen", "DATE"))
    own = {"columns": {"share": "share", "seen": "seen"}, "types": types, "format": "parquet", "patterns": ("{date}",)}
    pq.write_table(
        pa.table({"share": [0.5, float("nan")], "seen": pa.array([local(2025, 3, 20)] * 2, pa.timestamp("ns"))}),
        tmp_path / "file",
    )
    content = (tmp_path / "file").read_bytes()
    settings = ValueSettings(null_values=("nan",), date_format=("iso", "iso_midnight"))
    assert [(row["share"], row["seen"]) for row in all_rows(read(content, tmp_path, spec(**own, values=settings)))] == [
        (0.5, date(2025, 3, 20)),
        (None, date(2025, 3, 20)),
    ]
    rejects = all_rejects(read(content, tmp_path, spec(**own, max_rejected_ratio=1.0)))
    assert "date_format: [iso, iso_midnight]" in rejects[0]["reason"]
    assert "null_values: ['nan']" in rejects[1]["reason"]


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"decimal_separator": ",,"}, "decimal_separator is ',,'; it is one character"),
        ({"decimal_separator": "5"}, "no digit or sign, like ','"),
        ({"thousands_separator": "."}, "thousands_separator is the decimal_separator too"),
        ({"prefixes": ("5$",)}, "prefixes holds '5$'"),
        ({"suffixes": ("",)}, "suffixes holds ''"),
        ({"percent": "half"}, "percent is 'half'; it can be fraction, number"),
        ({"negatives": ("brackets",)}, "negatives holds 'brackets'; it can be parentheses"),
        ({"true_values": (True,)}, "true_values holds True, which is no text; write it in quotes, like 'yes'"),
        ({"null_values": (None,)}, "write it in quotes, like 'NULL'"),
        ({"null_values": (-999,)}, "write it in quotes, like '-999'"),
        ({"true_values": ("Y",), "false_values": ("y",)}, "both hold 'y'"),
        ({"true_values": ("Y",), "null_values": ("Y",)}, "true_values and null_values both hold 'Y'"),
        ({"false_values": ("",)}, "holds '', and an empty field of csv is NULL"),
        ({"true_values": ("X", "")}, 'like computed: {is_member: "coalesce(member, false)"}'),
        ({"null_values": (" NA",), "trim": True}, "holds ' NA', and trim: true takes its blanks away first"),
        ({"false_values": ("N ",), "trim": True}, "takes its blanks away first; write 'N'"),
        ({"date_format": ("dd.mm.yyyy",)}, "date_format is 'dd.mm.yyyy'; it is a form like '%d.%m.%Y'"),
        ({"date_format": ("%d.%m",)}, "it needs its year once"),
        ({"date_format": ("%d.%m.%Y %Q",)}, "%Q is not known"),
        ({"date_format": ("epoch_seconds",)}, "one of iso, iso_midnight, epoch_days"),
        ({"timestamp_format": ("%d.%m.%Y %I:%M",)}, "%I and %p go together"),
        ({"timestamp_format": ("%d.%m.%Y %M",)}, "a minute without its hour"),
        ({"timestamp_format": ("%d.%m.%Y %",)}, "a lone %"),
        ({"timestamp_format": ("epoch_seconds", "epoch_milliseconds")}, "several epoch forms"),
        ({"repeated_hour": "both"}, "repeated_hour is 'both'"),
    ],
)
def test_a_setting_that_cannot_work_is_one_line_with_its_key_and_an_example(
    settings: dict[str, Any], says: str
) -> None:
    for where, changes in (
        ("", {"values": replace(PLAIN, **settings)}),
        ("column_settings.amount.", {"column_values": {"amount": replace(PLAIN, **settings)}}),
    ):
        with pytest.raises(SpecError) as refused:
            spec(**changes)
        assert says in str(refused.value) and f"{where}{next(iter(settings))}" in str(refused.value)
        assert "\n" not in str(refused.value)


def test_an_empty_text_is_a_word_where_it_is_a_value_and_means_nothing_more_where_it_is_none(tmp_path: Path) -> None:
    types = (SourceColumn("id", "INTEGER", nullable=False), SourceColumn("member", "BOOLEAN"))
    own = {"columns": {"id": "id", "member": "member"}, "types": types}
    source = spec(**own, format="jsonl", values=ValueSettings(false_values=("",), true_values=("Y ",)))
    found = all_rows(read(b'{"id":1,"member":""}\n{"id":2,"member":"Y "}\n{"id":3,"member":null}\n', tmp_path, source))
    assert [row["member"] for row in found] == [False, True, None]
    plain = spec(**own, values=ValueSettings(null_values=("",)))
    assert [row["member"] for row in all_rows(read(b"id,member\n1,\n2,true\n", tmp_path, plain))] == [None, True]


def test_a_column_that_is_trimmed_may_inherit_a_word_with_blanks_that_is_meant_for_others(tmp_path: Path) -> None:
    of_source = ValueSettings(null_values=(" NA",))
    source = spec(values=of_source, column_values={"id": replace(of_source, trim=True)})
    found = all_rows(read(lines(" 1 ,1.50,, NA"), tmp_path, source))
    assert [(row["id"], row["note"]) for row in found] == [(1, None)]
    with pytest.raises(SpecError, match=r"column_settings.id.null_values holds ' X', and trim: true"):
        spec(values=of_source, column_values={"id": replace(of_source, trim=True, null_values=(" X",))})


def test_settings_of_a_column_that_the_file_does_not_fill_are_refused() -> None:
    with pytest.raises(SpecError, match="column_settings names 'nothing'"):
        spec(column_values={"nothing": PLAIN})


CONTRACT = (
    "CREATE TABLE survey (batch_date DATE NOT NULL, id VARCHAR NOT NULL, age INTEGER, spend DECIMAL(12, 2), "
    "share DOUBLE, member BOOLEAN, seen DATE);"
)
SURVEY = """id,age,spend,share,member,seen
ok,41,12.50,0.5,true,2025-03-20
na,N/A,N/A,N/A,N/A,N/A
null,NULL,\\N,nan,,
dash,-,-,-,-,-
blanks, 41 , 12.50 , 0.5 , true , 2025-03-20
money,41,"$1,299.00",50%,Y,2025-03-20
minus,41,(12.50),.5,N,2025-03-20
trailing,41,12.50-,5E-1,1,2025-03-20
excel,41,1.25E+01,0.5,TRUE,20/03/2025
unicode,41,\u221212.50,0.5,True,2025-03-20T00:00:00
"""
WORDS = r"""
name: survey
patterns: ["survey_{date}.csv"]
columns: {id: id, age: age, spend: spend, share: share, member: member, seen: seen}
null_values: [N/A, "NULL", \N, nan, "-"]
trim: true
true_values: Y
false_values: ["N"]
date_format: [iso, "%d/%m/%Y", iso_midnight]
column_settings:
  spend:
    {thousands_separator: ",", prefixes: $, negatives: [parentheses, trailing_minus, unicode_minus], exponents: true}
  share: {percent: fraction}
"""


def test_a_survey_written_in_every_way_is_stored_as_it_is_meant_and_a_rerun_gives_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with source_project(tmp_path, yaml.safe_load(WORDS), CONTRACT, monkeypatch) as project:
        for _ in range(2):
            project.drop("survey_2025-03-20.csv", SURVEY)
            assert not project.drain().failed
            day, none = date(2025, 3, 20), (None,) * 5
            assert project.query("select id, age, spend, share, member, seen from survey order by rowid") == [
                ("ok", 41, Decimal("12.50"), 0.5, True, day),
                ("na", *none),
                ("null", *none),
                ("dash", *none),
                ("blanks", 41, Decimal("12.50"), 0.5, True, day),
                ("money", 41, Decimal("1299.00"), 0.5, True, day),
                ("minus", 41, Decimal("-12.50"), 0.5, False, day),
                ("trailing", 41, Decimal("-12.50"), 0.5, True, day),
                ("excel", 41, Decimal("12.50"), 0.5, True, day),
                ("unicode", 41, Decimal("-12.50"), 0.5, True, day),
            ]
            assert project.query("select count(*) from survey_rejects") == [(0,)]


def test_the_words_of_the_yaml_are_the_settings_and_one_text_is_a_list_of_one(tmp_path: Path) -> None:
    (tmp_path / "contract.sql").write_text(CONTRACT)
    source = FileSource.resolve_from_dict(yaml.safe_load(WORDS)).spec(tmp_path)
    assert source.values.true_values == ("Y",)
    assert source.settings_of_columns["spend"].prefixes == ("$",)
    assert source.settings_of_columns["spend"].null_values == ("N/A", "NULL", r"\N", "nan", "-")
    assert source.settings_of_columns["age"].prefixes == ()


def test_a_bare_word_that_yaml_reads_as_something_else_is_one_line_with_the_file_and_what_to_write(
    tmp_path: Path,
) -> None:
    (tmp_path / "contract.sql").write_text(CONTRACT)
    for words, says in (("[yes]", "like 'yes'"), ("[NULL]", "like 'NULL'"), ("-999", "like '-999'")):
        text = re.sub("^null_values.*$", f"null_values: {words}", WORDS, flags=re.MULTILINE)
        with pytest.raises(SpecError) as refused:
            FileSource.resolve_from_dict(yaml.safe_load(text)).spec(tmp_path)
        assert str(refused.value).startswith(f"{tmp_path / 'defs.yaml'}: ") and says in str(refused.value)
        assert "null_values holds" in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("column", "settings", "about"),
    [
        ("note", {"decimal_separator": ","}, "numbers"),
        ("note", {"date_format": ("%d.%m.%Y",)}, "DATE"),
        ("amount", {"true_values": ("Y",)}, "BOOLEAN"),
        ("sold_at", {"date_format": ("%d.%m.%Y",)}, "DATE"),
        ("amount", {"hour_24": True}, "TIMESTAMP"),
    ],
)
def test_a_setting_of_a_column_that_can_have_no_effect_on_its_type_is_refused(
    column: str, settings: dict[str, Any], about: str
) -> None:
    [key] = settings
    with pytest.raises(SpecError, match=f"column_settings.{column}.{key} does nothing: .* is about {about}"):
        spec(column_values={column: replace(PLAIN, **settings)})
    of_all = replace(PLAIN, **settings)
    assert spec(values=of_all, column_values={column: replace(of_all, trim=True)}), "meant for the others"
    assert spec(column_values={column: replace(PLAIN, trim=True, null_values=("NA",))}), "of any type"
