"""The README and the pages of docs/: every command in them exists, with its options, and every link leads somewhere."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from etl_project.cli.main import COMMANDS, load
from etl_project_tests.deployments import HAS_SAMPLE, ROOT, SAMPLE
from etl_project_tests.documents import PAGES

_INLINE = re.compile(r"`((?:etl|make) [^`\n]+)`")
_FENCED = re.compile(r"^ {4,}(?:\$ )?((?:\.venv/bin/)?(?:etl|make) .+)$")
_LINK = re.compile(r"\]\(([^)#\s]+)")


def commands(page: Path) -> Iterator[str]:
    text = page.read_text(encoding="utf-8")
    yield from _INLINE.findall(text)
    for line in text.splitlines():
        found = _FENCED.match(line)
        if found:
            yield found[1].partition("  #")[0].removeprefix(".venv/bin/")


def written(start: str) -> list[tuple[str, str]]:
    return [
        (page.name, line.strip())
        for page in PAGES
        for line in commands(page)
        if line.startswith(start) and not line.startswith(f"{start}--") and "…" not in line and "..." not in line
    ]


@pytest.mark.parametrize(("page", "line"), sorted(set(written("etl "))))
def test_every_etl_command_exists_with_its_options(page: str, line: str) -> None:
    name, *arguments = shlex.split(re.split(r"\s[|>;]|&&", line)[0].replace("|", "-or-"))[1:]
    assert name in COMMANDS, f"{page}: {line}"
    command = load(name)
    if hasattr(command, "commands"):
        for inner in (arguments or [""])[0].split("-or-"):
            assert inner in command.commands, f"{page}: {line}"
        command, arguments = command.commands[arguments[0].split("-or-")[0]], arguments[1:]
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    asked = {
        part.partition("=")[0].strip("[]") for part in arguments if part.strip("[]").startswith("-") and part != "-or-"
    }
    assert asked - known - {"--help"} == set(), f"{page}: {line}"


def test_every_make_target_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    asked = {line.split()[1] for _, line in written("make ") if re.fullmatch(r"[a-z-]+", line.split()[1])}
    assert asked and asked - targets == set()


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    links = [link for link in _LINK.findall(page.read_text(encoding="utf-8")) if not link.startswith("http")]
    broken = [page.parent / link for link in links if not (page.parent / link).exists()]
    assert [path for path in broken if HAS_SAMPLE or not path.resolve().is_relative_to(SAMPLE)] == []
