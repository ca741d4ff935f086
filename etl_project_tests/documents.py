"""Help for tests of README.md and docs/: which commands stand there, and how a reader would run them.

Belongs here: reading the pages. A command is a line of an indented block that begins like one, or a whole command in
backticks; a block is what a reader types in one go.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

from etl_project_tests.deployments import ROOT

PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])
WORDS = (
    "etl",
    "make",
    "dagster",
    "dg",
    "python",
    "pip",
    "curl",
    "export",
    "mkdir",
    "cp",
    "docker",
    "psql",
    "systemctl",
)
"""What a command begins with, once `$ `, `.venv/bin/` and `NAME=value ` before it are left out."""

_COMMAND = re.compile(rf"^(?:\$ )?(?:[A-Z_]+=\S+ )*(?:\.venv/bin/)?(?:{'|'.join(WORDS)}) \S")
_INLINE = re.compile(rf"`((?:\.venv/bin/)?(?:{'|'.join(WORDS)}) [^`\n]+)`")


@dataclass(frozen=True)
class Block:
    """Commands that stand together on a page."""

    page: str
    commands: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.page}: {self.commands[0]}"


def blocks() -> Iterator[Block]:
    """Every block of commands of every page."""
    for page in PAGES:
        for lines in _indented(page.read_text(encoding="utf-8")):
            if found := tuple(_commands(lines)):
                yield Block(str(page.relative_to(ROOT)), found)


def inline() -> Iterator[Block]:
    """Every command within a sentence, but for those with `...` in them."""
    for page in PAGES:
        for command in _INLINE.findall(page.read_text(encoding="utf-8")):
            if "…" not in command and not re.search(r"(?<!\w)\.\.\.", command):
                yield Block(str(page.relative_to(ROOT)), (_plain(command),))


def sections(page: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The headings of the second level of a page, each with the commands of its blocks."""
    for section in (ROOT / page).read_text(encoding="utf-8").split("\n## ")[1:]:
        title, _, text = section.partition("\n")
        yield title, tuple(command for lines in _indented(text) for command in _commands(lines))


def _indented(text: str) -> Iterator[list[str]]:
    for is_block, lines in groupby(text.splitlines(), lambda line: line.startswith("    ")):
        if is_block:
            yield [line[4:] for line in lines]


def _commands(lines: list[str]) -> Iterator[str]:
    """The commands of a block; what a command prints, and the content of a file that it names, are none."""
    shown = iter(lines)
    for line in shown:
        if not _COMMAND.match(line):
            continue
        command = line
        while command.endswith("\\"):
            command = command[:-1] + next(shown).strip()
        yield _plain(command)


def _plain(command: str) -> str:
    """The command without the prompt, without the comment behind it and without where it is installed."""
    return re.split(r"\s+# ", command.removeprefix("$ "))[0].strip().removeprefix(".venv/bin/")
