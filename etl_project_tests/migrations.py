"""Dagster's migrations, read once in a process: for each new history Alembic would read all hundred scripts again.

Belongs here: nothing but that. The scripts are those of the installed Dagster, and no test writes any.
"""

from __future__ import annotations

from alembic.config import Config
from alembic.script import ScriptDirectory


def read_once() -> None:
    """From now on, the scripts of a folder are read when they are asked for first: a third of what many tests cost."""
    read = ScriptDirectory.from_config
    known: dict[str | None, ScriptDirectory] = {}

    def from_config(config: Config) -> ScriptDirectory:
        folder = config.get_main_option("script_location")
        if folder not in known:
            known[folder] = read(config)
        return known[folder]

    ScriptDirectory.from_config = from_config  # type: ignore[method-assign]
