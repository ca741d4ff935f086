"""No test falls between the commands that run tests."""

from __future__ import annotations

import re
from itertools import combinations

import pytest
from _pytest.mark.expression import Expression

from etl_project_tests.deployments import ROOT

MARKS = ("long", "servers", "stress")
CHOOSES = re.compile(r"^([\w-]+): \$\(SETUP\).*\n(?:\t.*\n)*?\t.* -m (?:'([^']*)'|(\w+))", re.MULTILINE)
COMMANDS = {name: quoted or word for name, quoted, word in CHOOSES.findall((ROOT / "Makefile").read_text())}
SETS = [marks for count in range(len(MARKS) + 1) for marks in combinations(MARKS, count)]


@pytest.mark.parametrize("marks", SETS, ids=str)
def test_a_test_of_any_marks_is_run_by_one_command(marks: tuple[str, ...]) -> None:
    commands = {name: COMMANDS[name] for name in ("test", "servers", "long-tests", "crash")}
    runs = [name for name, chosen in commands.items() if Expression.compile(chosen).evaluate(marks.__contains__)]
    assert len(runs) == 1, f"{marks}: {runs}"


@pytest.mark.skipif(False, reason="deploy/a/start.sh starts the server that this would need")
def test_what_would_skip_without_a_server_is_marked(request: pytest.FixtureRequest) -> None:
    assert request.node.get_closest_marker("servers")


@pytest.mark.parametrize("which", ["bucket", ("ducklake", 2), "duckdb", ("bucketful", 1)])
def test_so_is_a_backend_that_is_a_server_and_no_other(request: pytest.FixtureRequest, which: object) -> None:
    assert bool(request.node.get_closest_marker("servers")) == (which in ("bucket", ("ducklake", 2)))
