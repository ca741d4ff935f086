"""Column names: from what a sender wrote above a column to a name that SQL takes without a fuss.

Belongs here: snake_case, uniqueness, and quoting where it cannot be helped.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence

import duckdb

from etl_project.sources import ADDED


def columns_of(header: Sequence[str]) -> dict[str, str]:
    """Name in the file: column of the table, unique, in the file's order."""
    columns: dict[str, str] = {}
    for number, name in enumerate(header, 1):
        wanted = candidate = snake_case(name) or f"column_{number}"
        copy = 1
        while candidate in ADDED or candidate in columns.values():
            copy += 1
            candidate = f"{wanted}_{copy}"
        columns[name] = candidate
    return columns


def snake_case(name: str) -> str:
    """InvoiceNo, Invoice no. and INVOICE_NO are all invoice_no; letters of other scripts stay."""
    letters = unicodedata.normalize("NFKD", name)
    plain = "".join(letter for letter in letters if not unicodedata.combining(letter))
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", plain)
    joined = re.sub(r"\W+|_+", "_", words).strip("_").casefold()
    return f"column_{joined}" if joined[:1].isdigit() else joined


def quoter() -> Callable[[str], str]:
    """Writes a name as SQL takes it: quoted where it is a reserved word or not plain letters."""
    query = "select keyword_name from duckdb_keywords() where keyword_category <> 'unreserved'"
    with duckdb.connect(":memory:") as connection:
        reserved = {word for (word,) in connection.execute(query).fetchall()}

    def quoted(name: str) -> str:
        if re.fullmatch(r"[a-z_][a-z0-9_]*", name) and name not in reserved:
            return name
        return '"' + name.replace('"', '""') + '"'

    return quoted
