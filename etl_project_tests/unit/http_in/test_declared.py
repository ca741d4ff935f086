"""Declared sources: nothing is accepted that no pipeline would read, and that costs no Dagster."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest

from etl_project.http_in.declared import Declared, declared_sources, refuse_unknown
from etl_project.http_in.settings import Sender
from etl_project.http_in.signatures import Signature
from etl_project.settings import SettingsError

SHOP = "etl_project_tests.shop"
FIRST, TODAY = date(2020, 1, 1), date(2026, 1, 6)
DAY = date(2026, 1, 5)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of pipelines without any."""
    monkeypatch.syspath_prepend(str(tmp_path))
    folder = tmp_path / f"pipes_{tmp_path.name.replace('-', '_')}"
    folder.mkdir()
    (folder / "__init__.py").touch()
    return folder


def declare(package: Path, folder: str, text: str) -> None:
    (package / folder).mkdir()
    (package / folder / "defs.yaml").write_text(text)


def sender(*sources: str) -> Sender:
    return Sender("acme", b"", frozenset(sources))


def test_pipelines_declare_a_source_of_files_and_a_topic() -> None:
    found = declared_sources(SHOP)
    assert found["orders"] == Declared("orders", ("*{date}*.csv", "*{date}*.csv.gz"))
    assert found["payments"].topic == "payments"
    refuse_unknown([sender("orders")], found)


def test_a_source_that_no_pipeline_declares_is_refused_with_those_that_exist() -> None:
    found = declared_sources(SHOP)
    with pytest.raises(SettingsError, match=r"ETL_RECEIVER_SOURCES_ACME names 'ordres', .* sources of files: orders\."):
        refuse_unknown([sender("orders", "ordres")], found)


def test_a_source_that_a_topic_feeds_is_refused() -> None:
    with pytest.raises(SettingsError, match="ETL_RECEIVER_SOURCES_ACME names 'payments', which is fed by the Kafka"):
        refuse_unknown([sender("payments")], declared_sources(SHOP))


def test_webhooks_are_no_files_of_a_source_of_whose_files_only_the_newest_counts(package: Path) -> None:
    declare(package, "a", "attributes: {name: a, patterns: ['{date}.jsonl'], files_per_day: latest}")
    declare(package, "b", "attributes: {name: b, patterns: ['{date}.jsonl'], files_per_day: many}")
    found = declared_sources(package.name)
    refuse_unknown([sender("a", "b")], found)
    signing = Sender("shop", b"", frozenset("ab"), signature=Signature("hex", "x-y", b"s"))
    with pytest.raises(SettingsError, match="ETL_RECEIVER_SOURCES_SHOP names 'a', of whose files only the newest"):
        refuse_unknown([signing], found)


def test_a_package_that_is_not_there_is_one_line() -> None:
    for name in ("no.such.package", "no_such", "", ".x"):
        with pytest.raises(SettingsError, match="ETL_PIPELINES=") as refused:
            declared_sources(name)
        assert "\n" not in str(refused.value)


def test_only_what_is_a_source_is_one_and_a_broken_yaml_hides_no_other(
    package: Path, caplog: pytest.LogCaptureFixture
) -> None:
    declare(package, "a", "type: x\nattributes: {name: a, patterns: ['{date}.csv']}\n---\nattributes: {name: no}\n")
    declare(package, "broken", "type: [")
    declare(package, "bytes", "\x00")
    declare(package, "empty", "")
    declare(package, ".hidden", "attributes: {name: hidden, patterns: ['{date}']}")
    declare(package, "t", "attributes: {name: t, patterns: ['{{ env.P }}']}")
    found = declared_sources(package.name)
    assert sorted(found) == ["a", "t"]
    assert found["t"].day("anything", FIRST, TODAY) is None
    assert "broken/defs.yaml cannot be read" in caplog.text
    assert "patterns of t cannot be told" in caplog.text


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("*{date}*.jsonl", "s-2026-01-05-u.jsonl"),
        ("{date}_*.jsonl", "2026-01-05_s-u.jsonl"),
        ("in-?-{date}-*-*.jsonl", "in-x-2026-01-05-s-u-.jsonl"),
        ("*{date}*", "s-2026-01-05-u.jsonl"),
        ("*{date}*.csv", None),
        ("*{date}*.jsonl.gz", None),
    ],
)
def test_lines_get_a_name_that_the_source_reads_as_their_day(pattern: str, name: str | None) -> None:
    source = Declared("s", (pattern,))
    assert source.name_for(DAY, "u", FIRST, TODAY) == name
    if name is not None:
        assert source.day(name, FIRST, TODAY) == DAY
    assert source.name_for(date(2026, 2, 5), "u", FIRST, TODAY) is None
    assert source.name_for(date(2019, 2, 5), "u", FIRST, TODAY) is None


def test_a_name_is_refused_for_the_reason_for_which_the_scan_would_refuse_it() -> None:
    source = Declared("s", ("*{date}*.csv",))
    for name, reason in {
        "a.csv": "does not match",
        "a-2026-01-05.txt": "does not match",
        "a-2026-02-30.csv": "does not exist",
        "a-2019-01-05.csv": "before the first day",
        "a-2026-01-08.csv": "more than a day ahead",
        "a-2026-01-05-2026-01-06.csv": "two dates",
    }.items():
        assert reason in str(source.day(name, FIRST, TODAY))
    assert source.day("a-2026-01-07.csv", FIRST, TODAY) == date(2026, 1, 7)


def test_the_receiver_loads_neither_dagster_nor_pandas_nor_duckdb() -> None:
    code = (
        "import sys; from etl_project.http_in import receiver, settings, declared;"
        "from etl_project.settings import pipelines;"
        "declared.declared_sources(pipelines());"
        "print(sorted({'dagster', 'pandas', 'duckdb', 'pyarrow', 'numpy', 'sqlalchemy'} & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


def test_the_command_loads_none_of_them_either_and_says_in_one_line_what_is_wrong(tmp_path: Path) -> None:
    environ = {
        **os.environ,
        "ETL_DATA_DIR": str(tmp_path / "data"),
        "ETL_RECEIVER_TOKEN_ACME": "correct-horse-battery",
        "ETL_RECEIVER_SOURCES_ACME": "ordres",
    }
    command = [sys.executable, "-X", "importtime", "-m", "etl_project.cli", "receive-http"]
    ran = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    said = [line for line in ran.stderr.splitlines() if not line.startswith("import time:")]
    assert (ran.returncode, len(said)) == (2, 1)
    assert "ETL_RECEIVER_SOURCES_ACME names 'ordres'" in said[0]
    loaded = {line.rpartition("|")[2].strip() for line in ran.stderr.splitlines() if line.startswith("import time:")}
    assert "starlette.applications" in loaded, (
        "the receiver itself is loaded through its package's door, which is not timed"
    )
    assert loaded.isdisjoint({"dagster", "pandas", "duckdb", "pyarrow", "numpy", "sqlalchemy"})


def test_a_source_whose_rows_say_their_day_takes_names_without_one() -> None:
    source = Declared("s", ("export_*.jsonl",), undated=True)
    assert source.day("export_1.jsonl", FIRST, TODAY) is None
    assert source.day("other.jsonl", FIRST, TODAY) == "the name does not match; expected export_*.jsonl"
    assert source.name_for(DAY, "u", FIRST, TODAY) == "export_s-u.jsonl"
    assert Declared("s", ("export.jsonl",), undated=True).name_for(DAY, "u", FIRST, TODAY) is None, (
        "one after the other"
    )
