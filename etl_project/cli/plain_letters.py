"""Plain letters: what is printed where the terminal or the pipe has no letters beyond its own few (ASCII, Latin-1).

Belongs here: what stands for the signs that commands print. A sign that means something keeps a meaning of its own:
of two that differ, two come out. Data for other programs are not for people: nothing stands for them.
"""

from __future__ import annotations

import codecs
import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from etl_project.failures import Permanent

_PLAIN = {
    "■": "#",
    "≈": "~",
    "✗": "x",
    "·": ".",
    "…": "...",
    "→": "->",
    "•": "*",
    "≤": "<=",
    "≥": ">=",
}


class NoLetterForIt(Permanent):
    """Data hold a letter that the output has none for. What came before it was written; retrying does not help."""


def print_what_fits() -> None:
    """From now on nothing that is printed is an error of its encoding; other letters come out as `\\xNN`, `\\uNNNN`."""
    codecs.register_error("etl.plain", _instead)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and not has_all(stream):
            stream.reconfigure(errors="etl.plain")


def has_all(stream: TextIO) -> bool:
    """Whether the stream has a letter for everything."""
    return "utf" in (stream.encoding or "").lower()


@contextmanager
def nothing_instead(stream: TextIO) -> Iterator[None]:
    """While the block writes data, they come out as they are. Raises NoLetterForIt where one of them cannot."""
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="strict")
    try:
        yield
    except UnicodeEncodeError as error:
        raise NoLetterForIt(
            f"The output is {error.encoding}, which has no letter for {error.object[error.start]!a}: only part of "
            "it was written. Set PYTHONIOENCODING=utf-8, and try again."
        ) from None


def _instead(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    letters = error.object[error.start : error.end]
    fits = (_PLAIN.get(letter) or letter.encode("ascii", "backslashreplace").decode() for letter in letters)
    return "".join(fits), error.end
