"""Extensions of DuckDB: loaded from pinned Python packages, else as DuckDB itself has installed them.

Belongs here: finding and loading them. Nothing is downloaded and nothing is written outside of the virtual environment.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import duckdb

from etl_project.storage.places import ExtraMissing
from etl_project.storage.sql import text

POSTGRES = {"postgres": "postgres_scanner"}
"""By package the name under which DuckDB knows the extension: it is told by the file's name."""


def load(connection: duckdb.DuckDBPyConnection, extensions: Mapping[str, str]) -> None:
    """Load these extensions. Raises ExtraMissing (retrying does not help) where one is not installed."""
    missing = []
    with tempfile.TemporaryDirectory(prefix="etl-extensions-") as folder:
        for package, name in extensions.items():
            there = _packaged(package)
            try:
                if there is None:
                    connection.execute(f"LOAD {name}")
                    continue
                link = Path(folder) / f"{name}.duckdb_extension"
                link.symlink_to(there)
                connection.execute(f"LOAD {text(str(link))}")
            except duckdb.Error as error:
                missing.append(f"{package}: {str(error).splitlines()[0]}")
    if missing:
        raise ExtraMissing(
            "The warehouse needs DuckDB's extensions as an extra brings them: pip install 'etl-project[ducklake]', or "
            f"'etl-project[postgres]' for PostgreSQL without DuckLake ({'; '.join(missing)})."
        )


def _packaged(package: str) -> Path | None:
    """The extension for this very version of DuckDB, where its package is installed."""
    spec = find_spec(f"duckdb_extension_{package}")
    if spec is None or spec.origin is None:
        return None
    version = f"v{duckdb.__version__}"
    found = Path(spec.origin).parent / "extensions" / version / f"{package}.duckdb_extension"
    return found if found.is_file() else None
