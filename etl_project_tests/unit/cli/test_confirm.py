"""Many days are asked about on a terminal, refused without one, and built where somebody said so."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest
import typer

from etl_project import settings
from etl_project.cli import confirm


class Terminal(io.StringIO):
    """Somebody who types; all there is to read comes from the text."""

    def isatty(self) -> bool:
        return True


def asked(monkeypatch: pytest.MonkeyPatch, answer: str, days: int, *, yes: bool = False) -> list[str]:
    """What was shown, for a limit of 31 days."""
    shown: list[str] = []
    note: Callable[[], None] = lambda: shown.append("shown")  # noqa: E731
    monkeypatch.setattr("sys.stdin", Terminal(answer))
    monkeypatch.setattr("sys.stdout", Terminal())
    confirm.ask("Building orders again", days, 31, yes, note)
    return shown


def test_a_month_is_not_asked_about_more_is_and_yes_says_so_beforehand(monkeypatch: pytest.MonkeyPatch) -> None:
    assert asked(monkeypatch, "", 31) == []
    assert asked(monkeypatch, "y\n", 32) == ["shown"]
    assert asked(monkeypatch, "", 32, yes=True) == []


@pytest.mark.parametrize("answer", ["n\n", "\n"])
def test_whoever_does_not_say_yes_gets_nothing(monkeypatch: pytest.MonkeyPatch, answer: str) -> None:
    with pytest.raises(typer.Exit) as ended:
        asked(monkeypatch, answer, 32)
    assert ended.value.exit_code == 1


def test_without_a_terminal_it_is_refused_in_one_line_with_the_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    with pytest.raises(confirm.NotConfirmed) as refused:
        confirm.ask("Building orders again", 1200, 31, False, lambda: pytest.fail("shown"))
    said = str(refused.value)
    assert "1,200 days" in said and "ETL_CONFIRM_DAYS=31" in said and "--yes" in said and "\n" not in said


def test_the_limit_is_a_month_unless_the_environment_says_otherwise(tmp_path: object) -> None:
    base = {"ETL_DATA_DIR": str(tmp_path)}
    assert settings.load(base).confirm_days == 31
    assert settings.load({**base, "ETL_CONFIRM_DAYS": "0"}).confirm_days == 0
