"""Header: a file's columns against those of its source, all differences at once.

Belongs here: the one comparison that every format makes. Does not belong here: finding a file's column names.
"""

from __future__ import annotations

from collections.abc import Sequence

from etl_project.sources.reading.file_refused import FileRefused
from etl_project.sources.spec import SourceSpec


def positions(found: Sequence[str], spec: SourceSpec) -> list[int]:
    """Where each of the source's columns is among those found: by name, in any order.

    Raises FileRefused naming every column that is missing, not expected or repeated.
    """
    once = dict.fromkeys(found)
    differences = [
        f"{what} {', '.join(map(repr, which))}"
        for what, which in (
            ("missing", [name for name in spec.columns if name not in once]),
            ("not expected", [name for name in once if name not in spec.columns]),
            ("repeated", [name for name in once if found.count(name) > 1]),
        )
        if which
    ]
    if differences:
        raise FileRefused("wrong columns", "; ".join(differences)[:2000], ", ".join(spec.columns))
    return [found.index(name) for name in spec.columns]
