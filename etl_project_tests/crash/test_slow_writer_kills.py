"""SIGKILL while files are taken whose senders go on writing: whatever was killed, every row is there once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from datetime import date, timedelta
from pathlib import Path

import pytest

from etl_project import utc
from etl_project.sources.intake import admit, quarantine, scan
from etl_project.sources.intake.writers import Writers
from etl_project_tests.deployments import Place, order_file
from etl_project_tests.forks import FORKS
from etl_project_tests.unit.sources.world import World, rows, spec

A = "a-2024-03-05.csv"
HALF, WHOLE = rows(1_000), rows(2_000)
REST = WHOLE.removeprefix(HALF)
DAY = date(2025, 3, 20)
TAKING = ["archive.before_rename", "archive.after_rename", "incoming.after_archive", "incoming.after_mark"]
REMOVING = ["incoming.after_claim", "incoming.after_removal"]


def world_in(root: Path) -> World:
    return World(root, spec(settle_seconds=0.0, quiet_seconds=600.0))


def take(root: Path, fault: str, later_seconds: float) -> None:
    """What a child runs: take in what waits, and remove what has been quiet; it sees no writer."""
    os.environ["ETL_FAULT"] = fault
    Writers.have = lambda *_: False  # type: ignore[method-assign]
    world = world_in(root)
    now = utc.now() + timedelta(seconds=later_seconds)
    results = admit.receive_all(scan.scan(world.folder, world.spec, now).waiting, world.spec, *world.roots)
    assert not results.failed
    admit.tidy(scan.scan(world.folder, world.spec, now), world.spec, world.incoming, now)


def run(world: World, fault: str = "", later_seconds: float = 0.0) -> int:
    child = FORKS.Process(target=take, args=(world.root, fault, later_seconds))
    child.start()
    child.join()
    return int(child.exitcode)


@pytest.mark.parametrize("step", [*TAKING, *REMOVING])
@pytest.mark.parametrize("killed", ["with the first half", "with the whole"])
def test_a_kill_while_a_sender_goes_on_loses_and_doubles_nothing(tmp_path: Path, step: str, killed: str) -> None:
    world = world_in(tmp_path)
    path = world.folder / A
    later_seconds = 601.0 if step in REMOVING else 0.0
    first, second = (f"{step}=kill", "") if killed == "with the first half" else ("", f"{step}=kill")
    with path.open("wb", buffering=0) as sender:
        sender.write(HALF)
        assert run(world, first, later_seconds if first else 0.0) == (-signal.SIGKILL if first else 0)
        sender.write(REST)
    if not (first and step == "incoming.after_removal"):  # It was quiet for so long that it was removed.
        assert run(world, second, later_seconds if second else 0.0) == (-signal.SIGKILL if second else 0)
        assert run(world) == 0
        assert world.accepted() == {A: WHOLE}
    for _ in range(2):  # What was in a claim when its process died is read once more, and kept once more.
        assert run(world, later_seconds=1_300.0) == 0
    assert quarantine.open_days(world.quarantine, world.archive, world.spec) == set()
    left = [one for one in world.folder.rglob("*") if one.is_file()]
    assert left == [] or [one.parent.name for one in left] == [".kept"]


def test_a_drain_in_the_middle_of_a_slow_upload_waits_for_its_end(tmp_path: Path) -> None:
    """A redirect, an scp over a bad line: nothing is lost, and the drain says what it is waiting for."""
    place = Place(tmp_path / "data")
    place.incoming.mkdir(parents=True)
    path = place.incoming / f"orders-{DAY}.csv"
    text = order_file(DAY, invoices=6)
    half = len(text) // 2
    script = """if True:
        import sys
        _, path, first, rest = sys.argv
        with open(path, "w") as file:
            file.write(first)
            file.flush()
            sys.stdin.read()
            file.write(rest)
    """
    with subprocess.Popen(
        [sys.executable, "-c", script, path, text[:half], text[half:]], stdin=subprocess.PIPE
    ) as slow:
        while not path.exists() or path.stat().st_size < half:
            time.sleep(0.05)
        said = place.drained(ETL_SETTLE_SECONDS="0.2", ETL_QUIET_SECONDS="3600")
        assert path.name in said and "open for writing" in said
        assert "open for writing" in place.etl("status").stdout
        assert not (place.data / "archive").exists()
        slow.communicate(b"")
    time.sleep(0.3)
    place.drained(ETL_SETTLE_SECONDS="0.2", ETL_QUIET_SECONDS="3600")
    [(count,)] = place.query("select count(*) from orders")
    assert count == text.count("\n") - 1
    assert path.exists(), "it stays until it has been quiet"
    commits = place.last_commits()
    place.drained(ETL_SETTLE_SECONDS="0.2", ETL_QUIET_SECONDS="3600")
    assert place.last_commits() == commits
    place.drained(ETL_SETTLE_SECONDS="0.2", ETL_QUIET_SECONDS="0.1")
    assert not place.leftovers() and not path.exists()
