"""What lies in deploy/: the files agree with each other, with the documentation and with the commands they start."""

from __future__ import annotations

import fnmatch
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from dagster._cli import create_dagster_cli
from dagster._daemon.cli import create_dagster_daemon_cli

from etl_project import settings
from etl_project.cli import main
from etl_project_tests import cluster
from etl_project_tests.deployments import ROOT

DEPLOY = ROOT / "deploy"
OURS = ("code", "webserver", "daemon", "worker")
celery = pytest.importorskip("celery", reason="needs the extra `celery`")


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    return found


def example() -> dict[str, str]:
    lines = (DEPLOY / "etl.env.example").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def test_there_is_exactly_one_daemon_and_what_needs_a_server_waits_for_it(compose: dict[str, Any]) -> None:
    services = compose["services"]
    assert set(services) == {*OURS, "postgres", "redis", "s3"}
    assert [name for name, one in services.items() if "dagster-daemon" in one.get("command", [])] == ["daemon"]
    assert not {"deploy", "scale"} & set(services["daemon"])
    for name in OURS:
        assert set(services[name]["depends_on"]) == {"postgres", "redis", "s3"} and services[name]["image"] == "etl:1"
    named = {volume.split(":")[0] for one in services.values() for volume in one.get("volumes", [])}
    assert named == set(compose["volumes"])


def test_the_dagster_yaml_of_the_server_is_the_one_of_the_documentation() -> None:
    deployed = yaml.safe_load((DEPLOY / "server" / "dagster.yaml").read_text())
    documented = yaml.safe_load(cluster.dagster_yaml())
    assert {key: deployed[key] for key in documented} == documented
    launcher = deployed["run_launcher"]["config"]
    assert launcher["broker"] == launcher["backend"] == {"env": "ETL_BROKER"}
    assert set(launcher["config_source"]) - set(celery.Celery().conf) == set()


def test_no_password_is_in_a_file_of_the_repository_or_among_the_arguments_of_a_process(
    compose: dict[str, Any], tmp_path: Path
) -> None:
    ignored = (ROOT / ".gitignore").read_text().splitlines()
    assert "/deploy/etl.env" in ignored and "*" in (ROOT / ".dockerignore").read_text().splitlines()
    secrets = {name for name, value in example().items() if settings.is_secret(name, value)}
    assert {"ETL_LOCKS", "ETL_BROKER", "AWS_SECRET_ACCESS_KEY", "DAGSTER_POSTGRES_URL", "ETL_WAREHOUSE"} <= secrets
    for name in secrets:
        assert "CHANGE-ME" in example()[name], name
    for service in compose["services"].values():
        arguments = str([service.get("command"), service.get("entrypoint"), service.get("healthcheck")])
        # $$ is the container's own shell, whose arguments keep the name; a single $ would be the value itself.
        assert re.findall(r"(?<!\$)\$[{A-Z]", arguments) == []
        assert not any("CHANGE" in str(value) for value in service.get("environment", {}).values())


def test_the_example_of_the_environment_loads(tmp_path: Path) -> None:
    configured = settings.load({**example(), "ETL_DATA_DIR": str(tmp_path)})
    assert (configured.lake, configured.warehouse_data, configured.days_per_run) == (
        "s3://lake/raw",
        "s3://lake/tables",
        10,
    )
    assert configured.locks_url is not None and configured.warehouse_url is not None


def command_of(program: str) -> Any:
    """The command line of a program, without starting it."""
    # Every process of the tests loads this module; the web server's takes longer to load than all else that it needs.
    from dagster_webserver.cli import create_dagster_webserver_cli  # noqa: PLC0415

    made: dict[str, Callable[[], Any]] = {
        "dagster": create_dagster_cli,
        "dagster-daemon": create_dagster_daemon_cli,
        "dagster-webserver": create_dagster_webserver_cli,
        "etl": lambda: typer.main.get_command(main.app),
    }
    return made[program]()


@pytest.mark.parametrize("name", OURS)
def test_the_command_of_each_service_is_one_with_these_options(compose: dict[str, Any], name: str) -> None:
    program, *arguments = compose["services"][name]["command"]
    command = command_of(program)
    while hasattr(command, "resolve_command"):
        _, command, arguments = command.resolve_command(command.make_context(program, ["-"]), arguments)
    known = {option for parameter in command.params for option in parameter.opts}
    options, values = arguments[0::2], arguments[1::2]
    assert len(options) == len(values) and set(options) <= known
    for path in (value for value in values if value.startswith("/etc/etl/")):
        assert (DEPLOY / "server" / Path(path).name).is_file(), "deploy/Dockerfile puts deploy/server there"


def test_what_the_dockerfile_copies_is_there_and_let_through() -> None:
    lines = (DEPLOY / "Dockerfile").read_text().replace("\\\n", "").splitlines()
    copied = [word for line in lines if line.startswith("COPY ") for word in line.split()[1:-1]]
    allowed = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    for path in copied:
        assert (ROOT / path).exists() and any(fnmatch.fnmatch(path, one) for one in allowed), path
    assert [line for line in lines if line.startswith("USER ")] == ["USER etl"], "nothing runs as root"
    assert "COPY deploy/server /etc/etl" in lines and "DAGSTER_HOME=/etc/etl" in "".join(lines)
    [base] = [line for line in lines if line.startswith("FROM ")]
    assert re.search(r":\d", base) and ":latest" not in base
    [extras] = re.findall(r"'\.\[([a-z0-9,]+)\]'", "\n".join(lines))
    known = re.findall(r"^([a-z0-9]+) = \[$", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert set(extras.split(",")) <= set(known)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_systemd_finds_nothing_to_complain_about_in_the_unit(tmp_path: Path) -> None:
    unit = (DEPLOY / "systemd" / "etl.service").read_text()
    made = tmp_path / "etl.service"
    made.write_text(re.sub(r"^ExecStart=\S+", f"ExecStart={sys.executable}", unit, flags=re.MULTILINE))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(made)], capture_output=True, text=True, check=False
    )
    about_it = [line for line in (done.stdout + done.stderr).splitlines() if "etl.service" in line]
    assert about_it == [], done.stderr
