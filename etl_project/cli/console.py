"""The console, and the option that turns it off: what every command has, at no cost.

Belongs here: nothing that loads Dagster, pandas or DuckDB.
"""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

console = Console()
Json = Annotated[bool, typer.Option("--json", help="Plain JSON on standard output, for scripts.")]
