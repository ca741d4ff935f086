"""Extras: what a part of the project needs beside the IO managers, said in one line where it is not installed.

Belongs here: which extra brings which module, and the front doors of packages, which are where a missing one shows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lazy_loader

BRINGS = {
    "project": "anyio dagster_duckdb dagster_webserver httpx2 packaging psutil rich sqlalchemy stamina starlette typer "
    "uvicorn yaml",
    "celery": "celery dagster_celery redis",
    "excel": "openpyxl",
    "kafka": "confluent_kafka orjson",
    "lineage": "sqlglot",
    "openlineage": "openlineage",
    "postgres": "dagster_postgres psycopg",
    "registry": "fastavro google",
    "s3": "obstore",
}
"""The modules that come with an extra, but for extensions of DuckDB, which are no modules to load."""

Door = tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]


class NotInstalled(ModuleNotFoundError):
    """Something is not installed, and the message says which extra brings it."""


def missing(what: str, error: ModuleNotFoundError) -> NotInstalled | None:
    """What is to be said where `what` cannot be loaded; None where it is no extra's fault."""
    module = str(error.name).partition(".")[0]
    if isinstance(error, NotInstalled):
        return error
    extra = next((extra for extra, modules in BRINGS.items() if module in modules.split()), None)
    if extra is None:
        return None
    said = f"{what} needs {module}, which is not installed: pip install 'etl-project[{extra}]'"
    return NotInstalled(said, name=error.name)


def door(package: str, file: str) -> Door:
    """The front door of a package: what its `__init__.pyi` lists, each loaded when it is used.

    Raises NotInstalled where that needs something that is not installed.
    """
    load, names, public = lazy_loader.attach_stub(package, file)

    def loaded(name: str) -> Any:
        try:
            return load(name)
        except ModuleNotFoundError as error:
            said = missing(package, error)
            if said is None:
                raise
            raise said from None

    return loaded, names, public
