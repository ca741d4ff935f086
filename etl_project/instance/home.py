"""The Dagster instance: its storages live under the data folder, like everything else a run writes.

Belongs here: the classes that `dagster.yaml` names, and opening the same instance from Python. Dagster's own classes do
the work; these only tell them where, because a path in `dagster.yaml` cannot follow ETL_DATA_DIR.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._config import Field
from dagster._core.storage.local_compute_log_manager import LocalComputeLogManager
from dagster._core.storage.root import LocalArtifactStorage
from dagster._core.storage.runs import SqliteRunStorage
from dagster._core.storage.schedules import SqliteScheduleStorage
from dagster._core.storage.sqlite import create_db_conn_string
from dagster._core.storage.sqlite_storage import DagsterSqliteStorage
from dagster._serdes import ConfigurableClassData

from etl_project import settings
from etl_project.failures import Permanent
from etl_project.instance import code_server, history_files, on_a_server, one_daemon, one_line
from etl_project.instance.event_log import BATCH_SIZE, KeptOpenEventLogStorage

PACKAGE = Path(__file__).parent.parent
"""Its `dagster.yaml` is that of the project (a link in the sources, a file once installed)."""


class HomeMissing(Permanent):
    """DAGSTER_HOME names no folder. Retrying does not help: somebody has to make it, or to name another."""


class DataDirStorage(DagsterSqliteStorage):
    """Runs, events and schedules in SQLite under the data folder, in files that `history_files.prepare` has made.

    Dagster's own class reads all its migrations to find that the files are made, for every tick of a sensor.
    """

    def __init__(self, base_dir: str, inst_data: Any = None) -> None:
        super(DagsterSqliteStorage, self).__init__()  # type: ignore[no-untyped-call]  # Its own makes the files.
        history = Path(base_dir, "history")
        self.base_dir = base_dir
        self._run_storage = SqliteRunStorage(create_db_conn_string(str(history), "runs"))
        self._event_log_storage = KeptOpenEventLogStorage(str(history / "runs"))
        schedules = Path(base_dir, "schedules")
        self._schedule_storage = SqliteScheduleStorage(create_db_conn_string(str(schedules), "schedules"))
        self._inst_data = inst_data

    @classmethod
    def config_type(cls) -> Mapping[str, Field]:
        """No configuration: the place follows from ETL_DATA_DIR."""
        return {}

    @classmethod
    def from_config_value(cls, inst_data: Any, config_value: Mapping[str, Any]) -> Any:
        """The storage at `<data>/dagster/storage`. Raises as `history_files.prepare` and `one_daemon`."""
        os.environ.setdefault("DAGSTER_EVENT_BATCH_SIZE", str(BATCH_SIZE))  # Dagster reads it with every event.
        with one_line.for_commands():
            configured = settings.load()
            if one_daemon.refuse_a_second(configured.dagster_home):
                code_server.watch()
            folder = configured.dagster_home / "storage"
            history_files.prepare(folder, configured.wait_seconds)
        return cls.from_local(str(folder), inst_data)


class DataDirComputeLogManager(LocalComputeLogManager):
    """What steps print, under the data folder."""

    @classmethod
    def config_type(cls) -> Mapping[str, Field]:
        """No configuration: the place follows from ETL_DATA_DIR."""
        return {}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]) -> Any:
        """The logs at `<data>/dagster/compute_logs`."""
        return super().from_config_value(inst_data, {"base_dir": str(settings.load().dagster_home / "compute_logs")})


class DataDirArtifactStorage(LocalArtifactStorage):
    """Dagster's own scratch files, under the data folder."""

    @classmethod
    def config_type(cls) -> Mapping[str, Field]:
        """No configuration: the place follows from ETL_DATA_DIR."""
        return {}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]) -> Any:
        """The artifacts at `<data>/dagster`."""
        return super().from_config_value(inst_data, {"base_dir": str(settings.load().dagster_home)})


@contextmanager
def opened(root: Path | None = None) -> Iterator[dg.DagsterInstance]:
    """The instance of a `dagster dev` started in the same folder: DAGSTER_HOME if set, else ./dagster.yaml.

    Where neither is (an installed package, started in any folder), the `dagster.yaml` of the package is read: the
    history is under the data folder all the same. What SQLite, or a server, says while it is open is raised as in
    `history_files.explained` and `on_a_server.explained`; HomeMissing (retrying does not help).
    """
    with history_files.explained(settings.load().dagster_home), on_a_server.explained():
        with on_a_server.opening():
            instance = _instance(root)
        with instance:
            yield instance


def _instance(root: Path | None) -> dg.DagsterInstance:
    if home := os.environ.get("DAGSTER_HOME"):
        if not (Path(home).expanduser().is_absolute() and Path(home).expanduser().is_dir()):
            raise HomeMissing(
                f"DAGSTER_HOME is {home!r}, which is no folder's whole path: make that folder with the dagster.yaml of "
                "the deployment in it, name another, or unset it."
            )
        return dg.DagsterInstance.get()
    here = root or Path.cwd()
    folder = here if (here / "dagster.yaml").is_file() else PACKAGE
    return dg.DagsterInstance.from_config(str(folder))
