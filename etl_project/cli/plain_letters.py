"""Plain letters: what is printed where the terminal or the pipe has no letters beyond its own few (ASCII, Latin-1).

Belongs here: what stands for the signs that commands print. A sign that means something keeps a meaning of its own:
of two that differ, two come out.
"""

from __future__ import annotations

import codecs
import io
import sys

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


def print_what_fits() -> None:
    """From now on nothing that is printed is an error of its encoding; other letters come out as `\\xNN`, `\\uNNNN`."""
    codecs.register_error("etl.plain", _instead)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and "utf" not in stream.encoding.lower():
            stream.reconfigure(errors="etl.plain")


def _instead(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    letters = error.object[error.start : error.end]
    fits = (_PLAIN.get(letter) or letter.encode("ascii", "backslashreplace").decode() for letter in letters)
    return "".join(fits), error.end
