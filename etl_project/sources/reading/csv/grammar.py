"""CSV grammar: what a record of delimited text is, one at a time. The definition that `csv_blocks` has to equal.

Belongs here: where records and fields begin and end. Does not belong here: what a field means (`convert`).

The grammar is RFC 4180 with any delimiter: a field that starts with a quote ends at its closing quote, two quotes in
it are one, it may hold delimiters and line ends; a quote inside any other field is an ordinary character. A line ends
with LF or CRLF; an empty line is no record; a carriage return anywhere else outside quotes is an error. A record that
breaks the grammar costs its first line alone: the next line starts a new record, so that one stray quote cannot
swallow the rest of a file.
"""

from __future__ import annotations

import re
from collections.abc import Sequence


class BrokenRecord(Exception):
    """The record that starts on this line breaks the grammar; the message says how."""


class OpenRecord(BrokenRecord):
    """The lines end inside a quoted field: with more lines the record might be whole."""


class Grammar:
    """Cuts lines into records. `max_bytes` bounds a record that spans lines."""

    def __init__(self, separator: str, max_bytes: int) -> None:
        self._separator = separator
        self._max_bytes = max_bytes
        self._unquoted = re.compile(f"[^{re.escape(separator)}\r\n]*")
        self._end = re.compile("(?:\r?\n)?\\Z")

    def record(self, lines: Sequence[str], at: int) -> tuple[list[str], int]:
        """The fields of the record that starts with line `at` (none for an empty line), and the line after it.

        The lines carry their ends. Raises BrokenRecord, or OpenRecord where further lines could complete it.
        """
        text = lines[at]
        after = at + 1
        if self._end.match(text):
            return [], after
        fields: list[str] = []
        position = 0
        while True:
            if text.startswith('"', position):
                text, after, end = self._close(text, position + 1, lines, at, after)
                fields.append(text[position + 1 : end].replace('""', '"'))
                position = end + 1
            else:
                end = self._unquoted.match(text, position).end()  # type: ignore[union-attr]
                fields.append(text[position:end])
                position = end
            if text.startswith(self._separator, position):
                position += 1
            elif self._end.match(text, position):
                return fields, after
            elif text.startswith("\r", position):
                raise BrokenRecord("a carriage return that does not end the line")
            else:
                raise BrokenRecord(f"text after the closing quote of field {len(fields)}")

    def _close(self, text: str, start: int, lines: Sequence[str], at: int, after: int) -> tuple[str, int, int]:
        """The position of the closing quote, after taking in as many further lines as the field spans."""
        search = start
        size = sum(len(line.encode("utf-8")) for line in lines[at:after])
        while True:
            end = text.find('"', search)
            if end < 0:
                if after == len(lines):
                    raise OpenRecord("a quote that is never closed")
                size += len(lines[after].encode("utf-8"))
                if size > self._max_bytes:
                    raise BrokenRecord(f"a quoted field over more than {self._max_bytes} bytes (max_line_bytes)")
                search = len(text)
                text += lines[after]
                after += 1
            elif text.startswith('"', end + 1):
                search = end + 2
            else:
                return text, after, end


def lines_of(text: str) -> list[str]:
    """The lines with their ends, cut at LF alone (str.splitlines knows a dozen other line ends)."""
    parts = text.split("\n")
    last = parts.pop()
    return [part + "\n" for part in parts] + ([last] if last else [])


def bare(text: str) -> str:
    """Without the line end."""
    return text.removesuffix("\n").removesuffix("\r")
