"""Who is right after a kill, after two writers, after a second run: the same questions to us and to what others use.

Every tool has a writer of its own (`writers/`), set up as its own documentation advises, in an environment of its own
(build/peers/), and is asked to replace one day of a table. What is asked is in `questions.py`. A row of the result
says "right", or in a few words what was found instead; the command that shows it again is printed below.

    python benchmarks/peers/correct.py [--only WRITER ...] [--kills 20] [--rounds 10]
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
from pathlib import Path

from environments import PEERS, WRITERS, python_of, version_of
from questions import QUESTIONS
from trial import Trial


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
                trial = Trial(python, WRITERS / f"{name}.py", Path(folder), options.kills, options.rounds)
                try:
                    answer = QUESTIONS[question](trial)
                except (
                    AssertionError,
                    subprocess.TimeoutExpired,
                ) as broken:  # The other questions are asked all the same.
                    answer = f"cannot be asked: {broken}"
                print(f"| {question} | {answer} |", flush=True)
        again = f"python benchmarks/peers/correct.py --only {name} --kills {options.kills} --rounds {options.rounds}"
        print(f"\nAgain: `{again}`")


if __name__ == "__main__":
    main()
