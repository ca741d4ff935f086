"""Contract SQL: what the DDL of a table may not say, whichever engine it is for.

Belongs here: the rules that can be checked by reading the script, so that they hold when definitions load.
"""

from __future__ import annotations

import re

_NO_WORDS = re.compile(r"--[^\n]*|/\*.*?\*/|'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|\$\$.*?\$\$", re.DOTALL)
_REFERENCES = re.compile(r"\bREFERENCES\b", re.IGNORECASE)


def problem_of(script: str) -> str | None:
    """Why this script is no contract that can be kept; None when nothing speaks against it.

    A FOREIGN KEY (duckdb/duckdb#13819, #25015): no version of DuckDB replaces a row that another one refers to, and
    re-running the script beside a table that exists can leave a file whose rows cannot be rewritten any more.
    """
    if _REFERENCES.search(_NO_WORDS.sub(" ", script)) is None:
        return None
    return (
        "it has a FOREIGN KEY: DuckDB does not replace rows that others refer to, so no partition of the parent could "
        "be built again. Leave the REFERENCES out, and look for rows without a parent in an asset check"
    )
