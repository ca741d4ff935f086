"""Entry: the `etl` command where only the IO managers are installed.

Belongs here: one line that says what is missing. Everything else is `main`'s, which needs the whole project.
"""

from __future__ import annotations

import sys

from etl_project import extras


def main() -> None:
    """Run `etl`, or say in one line how to install what it needs."""
    if sys.version_info < (3, 11):
        sys.exit(f"etl needs Python 3.11 or newer; with {sys.version.split()[0]} only the IO managers work")
    try:
        from etl_project.cli.main import main as run  # noqa: PLC0415  # It may be what is missing.

        run()
    except ModuleNotFoundError as error:
        said = extras.missing("etl", error)
        if said is None:
            raise
        sys.exit(str(said))
    except KeyboardInterrupt:  # While modules were loaded: nothing has begun yet.
        sys.exit(130)
