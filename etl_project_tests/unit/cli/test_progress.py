"""What a command says while it is at work."""

from __future__ import annotations

import pytest

from etl_project.cli import progress


def test_what_is_done_is_said_at_most_once_a_second_and_nothing_is_left_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    told = progress.Progress()
    for what, at in (("a", 0.2), ("b", 0.9), ("c", 1.1), ("d", 1.2), ("e", 2.5)):
        now[0] = 100.0 + at
        told.done(what)
    out, err = capsys.readouterr()
    assert (out, err.splitlines()) == ("", ["    a, b, c", "    d, e"])


def test_where_standard_error_is_for_json_lines_nothing_else_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ETL_LOG_FORMAT", "json")
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    progress.Progress().done("a")
    assert capsys.readouterr() == ("", "")
