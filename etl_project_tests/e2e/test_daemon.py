"""The real daemon: a bare `dagster dev`, a file dropped while it runs, and history that outlives a restart."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import psutil
import pytest

from etl_project_tests import steady
from etl_project_tests.deployments import ROOT, Place, order_file
from etl_project_tests.steady import PATIENCE_SECONDS

DAY = date(2025, 3, 3)
EARLIER, LATER, LAST = date(2025, 2, 28), date(2025, 3, 4), date(2025, 3, 5)

MATERIALIZED = """
query ($key: AssetKeyInput!) {
  assetNodeOrError(assetKey: $key) {
    ... on AssetNode { assetMaterializations { partition runId metadataEntries { label } } }
  }
}
"""
PARTITIONS = """
query ($key: AssetKeyInput!) {
  assetNodeOrError(assetKey: $key) { ... on AssetNode { partitionKeysByDimension { partitionKeys } } }
}
"""
INSTIGATORS = """
{ repositoriesOrError { ... on RepositoryConnection { nodes {
    sensors { name sensorState { status } } schedules { name scheduleState { status } } } } } }
"""


class Server:
    """A running `dagster dev`, of which `pid` is the first process."""

    def __init__(self, port: int, pid: int = 0) -> None:
        self.url = f"http://127.0.0.1:{port}/graphql"
        self.pid = pid

    def ask(self, query: str, **variables: Any) -> Any:
        """The data of a GraphQL query."""
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(self.url, body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=240) as answer:
            return json.load(answer)["data"]

    def first_partition(self, asset: str) -> str:
        """The first day of the asset that the UI shows."""
        node = self.ask(PARTITIONS, key={"path": [asset]})["assetNodeOrError"]
        return str(node["partitionKeysByDimension"][0]["partitionKeys"][0])

    def materialized(self, asset: str) -> set[str]:
        """The partitions of an asset with a materialization event."""
        node = self.ask(MATERIALIZED, key={"path": [asset]})["assetNodeOrError"]
        return {event["partition"] for event in node.get("assetMaterializations", ())}  # No code server: no asset.


@contextmanager
def dagster_dev(place: Place, log: Path, **environment: str) -> Iterator[Server]:
    """`dagster dev` as a person starts it in the project's folder: no DAGSTER_HOME, only the data folder is its own.

    It ends as by Ctrl-C in a terminal: every process of the group is interrupted, and none of them waits for a request
    that a client has not ended. Interrupted alone, the first process gives each of its two children a minute.
    """
    port = steady.ports()
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "dagster", "dev", "--port", str(port)],
            cwd=ROOT,
            env=place.environment(**environment),
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    server = Server(port, process.pid)
    try:
        eventually(lambda: server.ask("{ version }"), log, process)
        yield server
    finally:
        _interrupted(process)


def _interrupted(process: subprocess.Popen[bytes]) -> None:
    """Interrupt it, and again as long as it goes on, as a person at a terminal would."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    try:
        while process.poll() is None and time.monotonic() < deadline:
            os.killpg(process.pid, signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=PATIENCE_SECONDS / 8)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            pytest.fail(f"`dagster dev` did not end within {PATIENCE_SECONDS} s of its first interrupt")


def eventually(met: Callable[[], Any], log: Path, process: subprocess.Popen[bytes] | None = None) -> Any:
    """Wait until the condition is met; refused connections and a held warehouse are not yet."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        assert process is None or process.poll() is None, log.read_text()[-4000:]
        try:
            if found := met():
                return found
        except (OSError, duckdb.Error):
            pass
        time.sleep(0.3)
    pytest.fail(f"not met within {PATIENCE_SECONDS} s; the log ends with:\n{log.read_text()[-4000:]}")


def kill_code_servers(server: Server, *words: str) -> None:
    """Kill what has one of these words in its command, as a lack of memory would; `dagster dev` starts it again."""
    killed = [child for child in psutil.Process(server.pid).children(recursive=True) if has_one_of(words, child)]
    assert killed
    for child in killed:
        child.kill()


def has_one_of(words: Sequence[str], process: psutil.Process) -> bool:
    try:
        return not set(words).isdisjoint(process.cmdline())
    except psutil.Error:  # A step's process that has ended between the list and the question.
        return False


@pytest.mark.long
@pytest.mark.timeout(1200)  # It starts `dagster dev` twice, which a busy machine takes minutes for.
def test_a_dropped_file_is_materialized_and_a_restart_keeps_the_history(tmp_path: Path) -> None:
    place, log = Place(tmp_path / "data"), tmp_path / "dev.log"
    pool = ThreadPoolExecutor(1)
    beside = pool.submit(place.etl, "drain")  # The folder comes into being under both at once.
    with pool, dagster_dev(place, log, ETL_START_DATE="") as server:
        assert beside.result().returncode == 0, beside.result()
        [states] = server.ask(INSTIGATORS)["repositoriesOrError"]["nodes"]
        running = {s["name"] for s in states["sensors"] if s["sensorState"]["status"] == "RUNNING"}
        running |= {s["name"] for s in states["schedules"] if s["scheduleState"]["status"] == "RUNNING"}
        assert running >= {"pending_days", "alerts", "closed_day", "verify_weekly"}
        place.drop(f"orders-{DAY}.csv", order_file(DAY))
        eventually(lambda: str(DAY) in server.materialized("daily_report"), log)
        assert eventually(lambda: place.query("select count(*) from orders"), log) == [(6,)]
    with dagster_dev(place, log, ETL_START_DATE="") as server:
        assert server.materialized("daily_report") == {str(DAY)}
        assert server.materialized("orders_files") == {str(DAY)}
        second = subprocess.run(
            [sys.executable, "-m", "dagster", "dev"],
            cwd=ROOT,
            env=place.environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        lines = [line for line in second.stderr.splitlines() if line.startswith("Error: ")]
        assert second.returncode == 1 and len(lines) == 1 and "is at work on" in lines[0], second.stderr
        assert server.first_partition("orders") == str(DAY), "the days begin where the data begins"
        place.drop(f"orders-{EARLIER}.csv", order_file(EARLIER))
        eventually(lambda: str(EARLIER) in server.materialized("daily_report"), log)
        assert str(DAY) in server.materialized("daily_report"), "an earlier day costs no history"
        kill_code_servers(server, "code-server", "grpc")
        place.drop(f"orders-{LATER}.csv", order_file(LATER))
        eventually(lambda: str(LATER) in server.materialized("daily_report"), log)
        kill_code_servers(server, "grpc")  # Alone: the one that loads the project and runs the sensor.
        place.drop(f"orders-{LAST}.csv", order_file(LAST))
        eventually(lambda: str(LAST) in server.materialized("daily_report"), log)
    assert not (ROOT / ".tmp_dagster_home").exists()
    assert "BetaWarning" not in log.read_text()
