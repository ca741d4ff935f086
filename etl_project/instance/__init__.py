"""Instance: Dagster's own storage under the data folder, and how runs and commands log.

`dagster.yaml` names the classes here. Logging (`json_lines`) is used before Dagster is loaded, so the rest is looked up
when it is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from etl_project.instance.home import (
        DataDirArtifactStorage,
        DataDirComputeLogManager,
        DataDirStorage,
        opened,
    )

__all__ = ["DataDirArtifactStorage", "DataDirComputeLogManager", "DataDirStorage", "opened"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from etl_project.instance import home  # noqa: PLC0415

    return getattr(home, name)
