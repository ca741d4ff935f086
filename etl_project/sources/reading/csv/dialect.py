"""CSV dialect: records of delimited text that is not written the plain way, one at a time.

Belongs here: other quote characters or none, an escape character, delimiters of several characters, runs of white space
as a delimiter. Does not belong here: the plain way (`grammar`), which most files are written in and which is faster.

The rules are those of the plain grammar otherwise. An escape character takes away the meaning of a quote, a delimiter,
an escape character or a line end that follows it; before anything else it is an ordinary character, so that a backslash
and an n stay the two characters that they are. A quote in a quoted field may also be doubled.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from etl_project.sources.reading.csv.grammar import BrokenRecord, Grammar, OpenRecord

WHITESPACE = "whitespace"
"""The delimiter of files whose fields are apart by blanks and tabs, as many as there are, around a line too."""


class Dialect(NamedTuple):
    """How delimited text is written. `quote` and `escape` are one character, or empty for none."""

    separator: str
    quote: str = '"'
    escape: str = ""

    @property
    def _is_short(self) -> bool:
        return len(self.separator) == 1 and self.separator.isascii()

    @property
    def is_plain(self) -> bool:
        """Whether the plain grammar reads it."""
        return self._is_short and self.quote == '"' and not self.escape

    @property
    def is_without_quotes(self) -> bool:
        """Whether every delimiter and every line end is one."""
        return self._is_short and not self.quote and not self.escape

    def grammar(self, max_bytes: int) -> Grammar | DialectGrammar:
        """What cuts lines into records. `max_bytes` bounds a record that spans lines."""
        return Grammar(self.separator, max_bytes) if self.is_plain else DialectGrammar(self, max_bytes)


class _Lines:
    """The lines that a record takes, joined as far as it has reached."""

    def __init__(self, lines: Sequence[str], at: int, max_bytes: int) -> None:
        self._lines = lines
        self._max_bytes = max_bytes
        self.text = lines[at]
        self.after = at + 1

    def read_on(self, what: str) -> None:
        """Take in one more line. Raises OpenRecord where there is none, BrokenRecord for a record over the limit."""
        if self.after == len(self._lines):
            raise OpenRecord(f"{what} that is never closed")
        self.text += self._lines[self.after]
        self.after += 1
        if len(self.text.encode("utf-8")) > self._max_bytes:
            raise BrokenRecord(f"{what} over more than {self._max_bytes} bytes (max_line_bytes)")


class DialectGrammar:
    """Cuts lines into records, like `Grammar`, for any dialect."""

    def __init__(self, dialect: Dialect, max_bytes: int) -> None:
        self._quote, self._escape, self._max_bytes = dialect.quote, dialect.escape, max_bytes
        self._is_white = dialect.separator == WHITESPACE
        separator = r"[ \t]+" if self._is_white else re.escape(dialect.separator)
        self._separator = re.compile(separator)
        self._end = re.compile(r"[ \t]*(?:\r?\n)?\Z" if self._is_white else r"(?:\r?\n)?\Z")
        escape = f"|{re.escape(self._escape)}" if self._escape else ""
        self._unquoted = re.compile(f"{separator}|[\r\n]{escape}")
        self._quoted = re.compile(f"{re.escape(self._quote)}{escape}") if self._quote else None

    def record(self, lines: Sequence[str], at: int) -> tuple[list[str], int]:
        """The fields of the record that starts with line `at` (none for an empty line), and the line after it.

        The lines carry their ends. Raises BrokenRecord, or OpenRecord where further lines could complete it.
        """
        taken = _Lines(lines, at, self._max_bytes)
        position = len(taken.text) - len(taken.text.lstrip(" \t")) if self._is_white else 0
        if self._end.match(taken.text, position):
            return [], taken.after
        fields: list[str] = []
        while True:
            if self._quoted is not None and taken.text.startswith(self._quote, position):
                field, position = self._close(taken, position + 1)
            else:
                field, position = self._run(taken, position)
            fields.append(field)
            if self._end.match(taken.text, position):
                return fields, taken.after
            separator = self._separator.match(taken.text, position)
            if separator is not None:
                position = separator.end()
            elif taken.text.startswith("\r", position):
                raise BrokenRecord("a carriage return that does not end the line")
            else:
                raise BrokenRecord(f"text after the closing quote of field {len(fields)}")

    def _close(self, taken: _Lines, start: int) -> tuple[str, int]:
        """The quoted field that starts here, and where the text goes on after its closing quote."""
        assert self._quoted is not None, "only a dialect with quotes has quoted fields"
        parts: list[str] = []
        while True:
            found = self._quoted.search(taken.text, start)
            if found is None:
                parts.append(taken.text[start:])
                start = len(taken.text)
                taken.read_on("a quote")
                continue
            parts.append(taken.text[start : found.start()])
            if found[0] == self._escape:
                escaped, start = self._escaped(taken, found.end())
                parts.append(escaped)
            elif taken.text.startswith(self._quote, found.end()):
                parts.append(self._quote)
                start = found.end() + 1
            else:
                return "".join(parts), found.end()

    def _run(self, taken: _Lines, start: int) -> tuple[str, int]:
        """The field without quotes that starts here, and where it ends."""
        parts: list[str] = []
        while True:
            found = self._unquoted.search(taken.text, start)
            if found is None or found[0] != self._escape or not self._escape:
                end = len(taken.text) if found is None else found.start()
                return "".join([*parts, taken.text[start:end]]), end
            parts.append(taken.text[start : found.start()])
            escaped, start = self._escaped(taken, found.end())
            parts.append(escaped)

    def _escaped(self, taken: _Lines, at: int) -> tuple[str, int]:
        """What an escape character before this position and the text there come to, and where the text goes on."""
        line_end = re.compile(r"\r?\n").match(taken.text, at)
        if line_end is not None:
            if line_end.end() == len(taken.text):
                taken.read_on("an escaped line end")
            return line_end[0], line_end.end()
        separator = self._separator.match(taken.text, at)
        if separator is not None:
            return separator[0], separator.end()
        following = taken.text[at : at + 1]
        if following and following in (self._quote, self._escape):
            return following, at + 1
        return self._escape, at
