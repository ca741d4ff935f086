"""Chunk: some records of a file as text, before anybody has looked at what the text means.

Belongs here: the one shape that every format is read into. Does not belong here: reading or typing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import pyarrow as pa


class Broken(NamedTuple):
    """A record that has no fields to speak of: its place, what is wrong with it, and its raw text."""

    line: int
    reason: str
    raw: str


class Chunk(NamedTuple):
    """Records of one stretch of a file.

    `texts` holds one array of text a contract column, in the order of `SourceSpec.targets`, NULL for no value;
    `lines` the physical line on which each record starts; `raw` gives the raw text of the records at some positions.
    """

    texts: list[pa.Array]
    lines: pa.Array
    raw: Callable[[Sequence[int]], list[str]]
    broken: list[Broken]


Load = Callable[[], Chunk]
"""A chunk that has been found in the file and is still to be read; it can be read in any thread."""
