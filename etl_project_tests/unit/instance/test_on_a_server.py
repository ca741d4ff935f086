"""Dagster's history on a server: what keeps it from being used is said in words, and nothing else is taken for it."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pytest

from etl_project.instance import home
from etl_project.instance.history_files import HistoryUnavailable, HistoryUnusable

ON_A_SERVER = "storage:\n  postgres:\n    postgres_db:\n      {setting}\ntelemetry:\n  enabled: false\n"


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ETL_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.delenv("DAGSTER_HOME", raising=False)


class Client(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Anybody's resource, with a secret in the environment."""

    token: str


@dg.asset
def numbers(client: Client) -> None:
    """An asset that needs it."""


def test_a_variable_that_a_resource_of_a_run_needs_is_not_looked_for_in_dagsters_settings(tmp_path: Path) -> None:
    defs = dg.Definitions(assets=[numbers], resources={"client": Client(token=dg.EnvVar("CLIENT_TOKEN_UNSET"))})
    with pytest.raises(dg.DagsterInvalidConfigError, match="CLIENT_TOKEN_UNSET"), home.opened(tmp_path) as instance:
        defs.get_implicit_global_asset_job_def().execute_in_process(instance=instance)


def test_a_variable_that_dagsters_settings_need_is_named(tmp_path: Path) -> None:
    pytest.importorskip("dagster_postgres")
    settings = ON_A_SERVER.format(setting="{username: {env: ETL_TEST_UNSET}, password: b, hostname: h, db_name: d}")
    (tmp_path / "dagster.yaml").write_text(settings)
    with pytest.raises(HistoryUnusable, match=r"dagster\.yaml takes ETL_TEST_UNSET"), home.opened(tmp_path):
        pytest.fail("It was opened.")


def test_what_another_database_says_is_not_said_of_the_history(tmp_path: Path) -> None:
    psycopg2 = pytest.importorskip("psycopg2")
    with pytest.raises(psycopg2.OperationalError, match="anybody's"), home.opened(tmp_path):
        raise psycopg2.OperationalError("anybody's server is gone")


def test_what_the_database_of_the_history_says_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("dagster_postgres")
    psycopg2 = pytest.importorskip("psycopg2")

    def refused(*_: object, **__: object) -> None:
        raise psycopg2.OperationalError("connection refused")

    monkeypatch.setattr(psycopg2, "connect", refused)
    monkeypatch.setattr("dagster_postgres.utils.time.sleep", lambda _: None)
    settings = ON_A_SERVER.format(setting="{username: a, password: b, hostname: localhost, db_name: d}")
    (tmp_path / "dagster.yaml").write_text(settings)
    with pytest.raises(HistoryUnavailable, match=r"connection refused.*retrying helps"), home.opened(tmp_path):
        pytest.fail("It was opened.")


def test_what_it_says_of_a_question_that_dagster_itself_asks_is_one_line_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A table that is gone is noticed after the connection, where no code of its PostgreSQL part is at work."""
    psycopg2 = pytest.importorskip("psycopg2")

    def refused(*_: object, **__: object) -> None:
        raise psycopg2.errors.UndefinedTable('relation "runs" does not exist')

    monkeypatch.setattr("dagster._core.storage.runs.sql_run_storage.SqlRunStorage._runs_query", refused)
    with pytest.raises(HistoryUnusable, match="retrying does not help"), home.opened(tmp_path) as instance:
        instance.get_runs()
