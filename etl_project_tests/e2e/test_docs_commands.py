"""Every command of README.md and docs/ runs as it stands there, in a folder where a reader may be.

A block is typed in one go, in a copy of a data folder with three days of orders, a day that waits and a refused file.
What needs a server, a network or minutes stands in ELSEWHERE, with the test that runs it.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest

from etl_project import settings
from etl_project_tests import shop, steady
from etl_project_tests.deployments import ROOT, Place, order_file
from etl_project_tests.documents import Block, blocks, inline
from etl_project_tests.unit.http_in.servers import PATIENCE_SECONDS

DAYS = [date(2025, 3, 20), date(2025, 3, 21), date(2025, 3, 22)]
WAITING = date(2025, 3, 23)
REFUNDS = "id,amount\nR1,2.50\nR2,3.50\n"
DECLARED = """
type: etl_project.sources.component.FileSource
attributes:
  name: {name}
  patterns: ["{name}*{{date}}*"]
  format: {format}
  files_per_day: many
  columns: {{id: id}}
"""

ELSEWHERE = {
    "make demo": "e2e/test_wheel.py::test_the_demo_proves_itself_in_an_empty_folder",
    "etl demo": "e2e/test_wheel.py::test_the_demo_proves_itself_in_an_empty_folder",
    "make dev": "e2e/test_daemon.py::test_a_dropped_file_is_materialized_and_a_restart_keeps_the_history",
    "make help": "unit/cli/test_docs.py::test_every_make_target_exists",
    "make setup": "../.ci/run",
    "make lint": "../.ci/run",
    "make test": "../.ci/run",
    "make servers": "../.ci/run",
    "make shuffled": "../.github/workflows/nightly.yaml",
    "make long": "../.ci/run",
    "make docs": "../.ci/run",
    "make zones": "../.ci/run",
    "make matrix": "matrix.py",
    "make crash": "../.github/workflows/nightly.yaml",
    "make cluster": "crash/test_cluster.py",
    "make kafka": "kafka_broker.py",
    "make screenshots": "browser/test_ui.py",
    "pip install": "e2e/test_wheel.py::test_sources_of_ones_own_live_in_ones_own_package",
    "etl consume payments": "e2e/test_kafka_landing.py",
    "etl consume <source>": "e2e/test_kafka_landing.py",
    "etl receive-http": ("e2e/test_docs_commands.py::test_what_the_page_on_http_sends_is_received_by_what_it_starts"),
    "etl warehouse copy": "e2e/test_warehouse_copy.py",
    "etl warehouse take-over": "e2e/test_two_deployments.py",
    "etl worker": "crash/test_workers.py",
    "docker compose": "unit/test_deploy.py",
    "etl maintain --warehouse": "unit/storage/engines/test_ducklake.py",
    "etl rollback orders --day 2025-03-01 --until": (
        "unit/proofs/test_rollback.py::test_days_of_a_range_go_back_to_what_was_there_then"
    ),
    "etl prove": "e2e/test_prove.py::test_a_day_that_is_reproducible_is_proven_and_nothing_real_is_touched",
    "dagster dev": "e2e/test_daemon.py::test_a_dropped_file_is_materialized_and_a_restart_keeps_the_history",
    "ETL_LOG_FORMAT=json dagster dev": "e2e/test_logs.py",
    "dagster definitions validate": "../Makefile",
    "dagster run list": "e2e/test_dagster_commands.py::test_dagsters_lists_work_in_the_clone",
    "dagster instance migrate": (
        "e2e/test_several_machines.py::test_what_a_killed_machine_had_begun_is_finished_by_another_and_ends_as_on_one"
    ),
    "dagster schedule list": "e2e/test_dagster_commands.py::test_dagsters_lists_work_in_the_clone",
    "dagster sensor list": "e2e/test_dagster_commands.py::test_dagsters_lists_work_in_the_clone",
    "dg list components": "unit/sources/test_scaffold.py",
    "dg scaffold defs": "unit/sources/test_scaffold.py::test_what_is_scaffolded_loads_and_takes_files_by_its_name",
    "dg check yaml": "e2e/test_new_source.py",
    "dg check defs": "e2e/test_new_source.py",
    "etl show orders --day 2025-03-20 --candidate": "unit/due/test_unpublished.py",
    "etl diff orders --day 2025-03-20 --candidate": "unit/due/test_unpublished.py",
    "python -m pytest": "../.ci/run",
    "python -m etl_project.storage.testing": "unit/storage/test_testing.py::test_our_stores_keep_the_contract",
    "python benchmarks/reproducible.py": "../benchmarks/reproducible.py",
    "python benchmarks/at_rest.py": "../benchmarks/at_rest.py",
    "python benchmarks/larger_than_memory.py": "../benchmarks/larger_than_memory.py",
    "make bench-servers": "../benchmarks/warehouses.py",
    "make bench-peers": "../benchmarks/peers/correct.py",
    "python benchmarks/peers/correct.py": "../benchmarks/peers/correct.py",
    "python benchmarks/peers/fast.py": "../benchmarks/peers/fast.py",
    "python benchmarks/peers/kafka.py": "../benchmarks/peers/kafka.py",
    "python benchmarks/peers/sensor.py": "../benchmarks/peers/sensor.py",
    "python benchmarks/peers/tpch.py": "../benchmarks/peers/tpch.py",
}
"""What is not run here, by its first words (it needs a server, a network or minutes), and the test that runs it."""

NAMES = {
    "etl consume",
    "etl new-source",
    "etl rebuild",
    "etl drain --through",
    "etl diff --rebuild",
    "etl history",
    "etl show --at",
    "etl show --candidate",
    "etl diff --candidate",
    "etl rollback",
    "etl rollback raw_orders",
    "etl unpin",
}
"""In a sentence these name the command: alone they ask for their arguments."""

DIFFERENT = 1
"""The exit code of `etl diff` where something differs, as it does here."""

REPAIR = "docs/repair.md"
"""Its pages are typed where the incident has happened: `test_repair`."""

HTTP = [block for block in blocks() if block.page == "docs/http.md"]


def is_elsewhere(command: str) -> bool:
    return any(command == start or command.startswith(f"{start} ") for start in ELSEWHERE) or command in NAMES


def typed() -> Iterator[Block]:
    """What is run here, each once."""
    seen = set()
    for block in (*(block for block in blocks() if block not in HTTP and block.page != REPAIR), *inline()):
        commands = tuple(command for command in block.commands if not is_elsewhere(command))
        if commands and commands not in seen:
            seen.add(commands)
            yield Block(block.page, commands)


class Reader:
    """Somebody before a terminal, in a folder with pipelines, data, and a file in Downloads."""

    def __init__(self, folder: Path) -> None:
        self.place = Place(folder / "data", folder)
        self.folder = folder
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
        own = {
            "ETL_PIPELINES": "pipelines_of_mine",
            "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}",
            "PATH": path,
            "ETL_KEEP_VERSIONS": "3",
        }
        self.environment = self.place.environment(HOME=str(folder), **own)

    def types(self, command: str) -> subprocess.CompletedProcess[str]:
        """Run it; what it exports holds for the next ones. `etl` is forked, everything else is a shell's."""
        if " new-source refunds " in command:
            shutil.rmtree(self.folder / "pipelines_of_mine" / "refunds", ignore_errors=True)
        command = re.sub(r"\b(ASSET|DAY|KEY|NAME)\b", lambda found: self.means(found[0]), command)
        given = re.match(r"((?:[A-Z_]+=\S+ )*)etl (.*)$", command)
        if given is None or " > " in command:
            return self._in_a_shell(command)
        arguments = [part.replace("~/", f"{self.folder}/") for part in shlex.split(given[2])]
        more = dict(part.split("=", 1) for part in given[1].split())
        return self.place.etl(*arguments, **{**self.environment, **more})

    def means(self, word: str) -> str:
        """What a reader puts in the place of such a word."""
        if word == "KEY":
            listed = json.loads(self.types("etl quarantine list --json").stdout)
            return str(listed[0]["key"])
        return {"ASSET": "orders", "NAME": "refunds", "DAY": str(DAYS[0])}[word]

    def _in_a_shell(self, command: str) -> subprocess.CompletedProcess[str]:
        script = f"{{ {command}\n}} >&2\nexec env -0"
        done = subprocess.run(
            ["sh", "-ec", script],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
        if done.returncode == 0:
            self.environment = dict(line.split("=", 1) for line in done.stdout.split("\0") if line)
        return done


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three days of orders are built and corrected, one waits, a file was refused before it came as it should be."""
    folder = tmp_path_factory.mktemp("reader") / "folder"
    shutil.copytree(Path(shop.__file__).parent, folder / "pipelines_of_mine")
    (folder / "Downloads").mkdir()
    for path in (folder, folder / "Downloads"):
        (path / f"refunds_{DAYS[0]}.csv").write_text(REFUNDS)
    reader = Reader(folder)
    made = reader.types(f"etl new-source refunds --from refunds_{DAYS[0]}.csv")
    assert made.returncode == 0, made.stderr
    for price in ("2.50", "3.00"):
        for day in DAYS:
            reader.place.drop(f"orders-{day}.csv", order_file(day, price=price))
        assert reader.types("etl drain").returncode == 0
    reader.place.drop(f"orders-{DAYS[0]}.csv", order_file(DAYS[0], price="4.00"))
    sent = folder / "data" / "incoming" / "refunds"
    sent.mkdir(parents=True, exist_ok=True)
    for text, exit_code in (("nothing,that,fits\n1,2,3\n", 1), (REFUNDS.replace("2.50", "9.50"), 0)):
        (sent / f"refunds_{DAYS[1]}.csv").write_text(text)
        drained = reader.types("etl drain")
        assert drained.returncode == exit_code, drained.stdout + drained.stderr
    reader.place.drop(f"orders-{WAITING}.csv", order_file(WAITING))
    return folder


@pytest.fixture
def reader(prepared: Path, tmp_path: Path) -> Reader:
    return Reader(Path(shutil.copytree(prepared, tmp_path / "folder")))


@pytest.mark.long
@pytest.mark.parametrize("block", list(typed()), ids=str)
def test_the_commands_of_a_page_run_as_they_stand_there(reader: Reader, block: Block) -> None:
    for command in block.commands:
        done = reader.types(command)
        well = (0, DIFFERENT) if command.startswith("etl diff ") else (0,)
        assert done.returncode in well, f"{command}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr


def test_what_the_page_on_http_sends_is_received_by_what_it_starts(tmp_path: Path) -> None:
    """Its blocks in their order, as in two terminals: the receiver with its settings, then a file and lines."""
    if shutil.which("curl") is None:
        pytest.skip("no curl")
    folder = tmp_path / "folder"
    for name, form in (("orders", "csv"), ("clicks", "jsonl")):
        (folder / "pipelines_of_mine" / name).mkdir(parents=True)
        (folder / "pipelines_of_mine" / name / "defs.yaml").write_text(DECLARED.format(name=name, format=form))
    (folder / "pipelines_of_mine" / "__init__.py").touch()
    (folder / ".curlrc").write_text("fail\nsilent\nshow-error\nretry = 20\nretry-connrefused\nretry-delay = 1\n")
    (folder / "orders-2026-01-05.csv").write_text("id\n1\n")
    (folder / "lines.jsonl").write_text('{"id": 1}\n{"id": 2}\n')
    reader, port = Reader(folder), str(steady.ports())
    reader.environment |= {"ETL_RECEIVER_PORT": port}
    receivers, sent = [], 0
    try:
        for command in (command for block in HTTP for command in block.commands):
            if command == "etl receive-http":
                reader.environment |= {
                    "ETL_RECEIVER_SOURCES_ACME": f"{reader.environment['ETL_RECEIVER_SOURCES_ACME']}, clicks"
                }
                receivers.append(
                    subprocess.Popen(
                        [sys.executable, "-m", "etl_project.cli", "receive-http"], cwd=folder, env=reader.environment
                    )
                )
                continue
            done = reader.types(command.replace(":8085/", f":{port}/"))
            assert done.returncode == 0, f"{command}: exit {done.returncode}\n{done.stderr}"
            sent += command.startswith("curl")
    finally:
        for process in receivers:
            process.terminate()
            process.wait(PATIENCE_SECONDS)
    [table] = (folder / "data" / "incoming" / "orders").glob("*.csv")
    [lines] = (folder / "data" / "incoming" / "clicks").glob("*.jsonl")
    assert (len(receivers), sent) == (1, 2)
    assert table.read_text() == "id\n1\n"
    assert [json.loads(line) for line in lines.read_text().splitlines()] == [{"id": 1}, {"id": 2}]


def test_what_is_run_elsewhere_is_on_a_page_and_its_test_exists() -> None:
    shown = {command for block in (*blocks(), *inline()) for command in block.commands}
    assert [start for start in ELSEWHERE if not any(f"{command} ".startswith(f"{start} ") for command in shown)] == []
    for start, runner in ELSEWHERE.items():
        path, _, name = runner.partition("::")
        text = (ROOT / "etl_project_tests" / path).read_text(encoding="utf-8")
        assert (f"def {name}(" if name else start if path.startswith("../.") else "") in text, runner


def test_every_variable_that_a_page_exports_is_read_by_something() -> None:
    exported = [name for block in blocks() for line in block.commands for name in re.findall(r"\b(ETL_[A-Z_]+)=", line)]
    assert exported and [n for n in exported if n not in settings.NAMES and not n.startswith(settings.PREFIXES)] == []
