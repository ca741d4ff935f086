"""Who is right after a kill, after two writers, after a second run: the same questions to us and to what others use.

Every tool has a writer of its own (`writers/`), set up as its own documentation advises, in an environment of its own
(build/peers/), and is asked to replace one day of a table. What is asked is in `questions.py`. A row of the result
says "right", or in a few words what was found instead; the command that shows it again is printed below.

    python benchmarks/peers/correct.py [--only WRITER ...] [--kills 20] [--rounds 10]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from questions import QUESTIONS, Trial

HERE = Path(__file__).resolve().parent
ENVIRONMENTS = HERE.parents[1] / "build" / "peers"
PEERS = {
    "ours_table": [],
    "ours_lake": [],
    "by_hand": [],
    "stock_io_manager": ["dagster", "dagster-duckdb-pandas"],
    "delta": ["deltalake", "pandas", "pyarrow"],
    "iceberg": ["pyiceberg[sql-sqlite,pyarrow]"],
    "dlt_merge": ["dlt[duckdb]", "pyarrow"],
    "dbt_microbatch": ["dbt-core==1.10.*", "dbt-duckdb==1.10.*"],
    "sqlmesh_range": ["sqlmesh[duckdb]"],
}
"""Each writer, and what its environment needs; none for what runs in this project's own."""


def python_of(name: str) -> str:
    """The interpreter of the writer's environment, which is made if it is not there yet."""
    if not PEERS[name]:
        return sys.executable
    folder = ENVIRONMENTS / name
    python = folder / "bin" / "python"
    if not (folder / ".complete").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *PEERS[name]], check=True)
        (folder / ".complete").touch()
    return str(python)


def version_of(name: str, python: str) -> str:
    """What was tried: the packages that were asked for, with their versions."""
    if not PEERS[name]:
        return "duckdb of this project" if name == "by_hand" else "this checkout"
    words = [package.partition("[")[0].partition("=")[0] for package in PEERS[name]]
    code = "import sys, importlib.metadata as m; print(', '.join(f'{n} {m.version(n)}' for n in sys.argv[1:]))"
    return subprocess.run([python, "-c", code, *words], check=True, capture_output=True, text=True).stdout.strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", choices=PEERS, default=list(PEERS))
    parser.add_argument("--questions", nargs="*", choices=QUESTIONS, default=list(QUESTIONS))
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=10)
    options = parser.parse_args()
    for name in options.only:
        python = python_of(name)
        print(f"\n## {name} ({version_of(name, python)})")
        for question in options.questions:
            with tempfile.TemporaryDirectory(prefix="peers-") as folder:
                trial = Trial(python, HERE / "writers" / f"{name}.py", Path(folder), options.kills, options.rounds)
                print(f"| {question} | {QUESTIONS[question](trial)} |", flush=True)
        again = f"python benchmarks/peers/correct.py --only {name} --kills {options.kills} --rounds {options.rounds}"
        print(f"\nAgain: `{again}`")


if __name__ == "__main__":
    main()
