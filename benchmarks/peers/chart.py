"""The figures of `fast.py` as a picture: a bar a writer.

    python benchmarks/peers/chart.py benchmarks/results/peers_fast.txt docs/pictures/peers.svg

Works in an environment of its own (`environments.TOOLS`), which the first call makes.
"""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path

from environments import python_of

Figures = dict[str, float]
_RIGHT = {"ours_table", "ours_lake"}
_CHOSEN = 4
"""How many tables of the results are drawn: those that come first."""


def tables(text: str) -> list[tuple[str, Figures]]:
    """What was measured, each with the processor's time of a writer as a multiple of the floor."""
    found: list[tuple[str, Figures]] = []
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if ": median of" in line:
            found.append((line.partition(":")[0], {}))
        elif line.startswith("| ") and found and len(cells) == 4 and cells[0]:
            found[-1][1][cells[0]] = float(cells[3])
    return found


def draw(chosen: list[tuple[str, Figures]], target: Path) -> None:
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.fonttype"] = "none"
    matplotlib.rcParams["svg.hashsalt"] = "the same picture for the same figures"
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(len(chosen), 1, figsize=(9, 2.6 * len(chosen)), layout="constrained")
    for axis, (work, figures) in zip(axes, chosen, strict=True):
        names = sorted(figures, key=figures.__getitem__, reverse=True)
        colours = ["#2a78d6" if name in _RIGHT else "#9aa3ad" for name in names]
        bars = axis.barh(names, [figures[name] for name in names], color=colours)
        axis.bar_label(bars, labels=[f" {figures[name]:g}" for name in names])
        axis.xaxis.set_visible(False)
        axis.set_title(f"{work}: processor time, DuckDB alone = 1", loc="left", fontsize=10)
        axis.spines[["top", "right", "bottom"]].set_visible(False)
    figure.savefig(target, metadata={"Date": None})


def main() -> None:
    if find_spec("matplotlib") is None:
        os.execv(python := python_of("chart"), [python, *sys.argv])
    source, target = map(Path, sys.argv[1:])
    draw(tables(source.read_text())[:_CHOSEN], target)


if __name__ == "__main__":
    main()
