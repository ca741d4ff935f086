"""Another order of the tests, by a seed: no test may need what ran before it, nor mind it.

The tests of a file stay together, since some share a place that is dear to prepare; files and tests change their order.
"""

from __future__ import annotations

import random
from collections.abc import Hashable, Iterable
from itertools import chain
from typing import TypeVar

Test = TypeVar("Test")


def shuffled(tests: Iterable[tuple[Hashable, Test]], seed: str) -> list[Test]:
    """The tests, each given with its file, in the order of this seed: the same one in every process."""
    dice = random.Random(seed)
    files: dict[Hashable, list[Test]] = {}
    for file, test in tests:
        files.setdefault(file, []).append(test)
    order = list(files.values())
    dice.shuffle(order)
    for one in order:
        dice.shuffle(one)
    return list(chain.from_iterable(order))
