"""Places: what the text of a setting says about where rows are kept.

Belongs here: telling a path on this machine from the address of something else. A text that looks like an address is
never taken for the name of a file: rows would land in a place that nobody looks at.
"""

from __future__ import annotations

import re
from pathlib import Path

from etl_project.failures import Permanent

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")
_PREFIX = "duckdb:///"


class UnknownPlace(Permanent):
    """The setting names no place that this store can write to. Retrying does not help."""


class ExtraMissing(Permanent):
    """The packages of an extra that a setting needs are not installed. Retrying does not help."""


def local_path(given: str | Path, setting: str, example: str) -> Path:
    """The absolute path that is meant, `~` and `duckdb:///` understood; no link is resolved.

    Raises UnknownPlace (retrying does not help) for anything that is no path on this machine.
    """
    said = str(given).removeprefix(_PREFIX)
    problem = None
    if not said.strip():
        problem = "is empty"
    elif ":memory:" in said:
        problem = "is a database in memory: its rows would be gone with the process"
    elif _SCHEME.match(said):
        problem = (
            f"is the address of a {said.partition(':')[0]!r} service, and only paths on this machine are written to"
        )
    if problem:
        raise UnknownPlace(f"{setting}={said!r} {problem}. Retrying does not help. Give a path, like {example}.")
    return Path(said).expanduser().absolute()
