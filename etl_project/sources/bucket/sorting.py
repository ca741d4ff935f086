"""Sorting: which objects of a source are fetched now, and why the others are not. Pure.

Belongs here: the rules of `intake.scan`, for objects. S3 shows an object only once it is complete, so that its age says
nothing but whether its sender may be about to replace it. Does not belong here: asking the server (`looking`).
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from etl_project.sources import names
from etl_project.sources.intake.scan import TEMPORARY, PassedOver

if TYPE_CHECKING:
    from etl_project.storage import Object

_LONGEST_NAME, _LONGEST_PART = 800, 255
"""In bytes: a key has 1,024 at the most, and that in the archive is longer; file systems take so many for a part."""


class Sorted(NamedTuple):
    """The objects of a source. `ready` are fetched, the oldest first; those of `with_us` were, and are being judged;
    `behind` wait until an earlier object was: one of their name or, where one file is the day, of their day.
    `unsettled` are too young."""

    ready: tuple[Object, ...] = ()
    with_us: tuple[Object, ...] = ()
    behind: tuple[Object, ...] = ()
    unsettled: int = 0
    passed_over: tuple[PassedOver, ...] = ()


def sort(
    objects: Iterable[Object], source: str, fetched: dict[str, str], settle_seconds: float, now: datetime
) -> Sorted:
    """`fetched`: the ETags of objects that were fetched and are not done with, by name. `now` is an aware instant.

    What lies in the future by this machine's clock has settled: its clock, or the server's, is wrong.
    """
    found = {name_of(one.key, source): one for one in objects}
    folders = {name[: n + 1] for name in found for n, letter in enumerate(name) if letter == "/"}
    ready: list[Object] = []
    with_us: list[Object] = []
    behind: list[Object] = []
    passed_over: list[PassedOver] = []
    unsettled = 0
    for name, one in found.items():
        if is_temporary(name) or (f"{name}/" in folders and not one.size_bytes):
            continue  # The second is what some tools make for a folder.
        why_not = _why_not(name, folders)
        if why_not is not None:
            passed_over.append(PassedOver(name, why_not))
        elif name in fetched:
            (with_us if fetched[name] == one.etag else behind).append(one)
        elif 0 <= (now - one.modified).total_seconds() < settle_seconds:
            unsettled += 1
        else:
            ready.append(one)
    ready.sort(key=lambda one: (one.modified, names.order(one.key)))
    return Sorted(tuple(ready), tuple(with_us), tuple(behind), unsettled, tuple(passed_over))


def name_of(key: str, source: str) -> str:
    """The name that the object has as a file below the drop folder of its source."""
    return key.removeprefix(f"{source}/")


def is_temporary(name: str) -> bool:
    """Whether any part of the name is hidden or temporary, as in a drop folder."""
    return any(part.startswith(".") or part.endswith(TEMPORARY) for part in name.split("/"))


def _why_not(name: str, folders: Collection[str]) -> str | None:
    if f"{name}/" in folders:
        return "other objects have this name as their folder"
    if len(os.fsencode(name)) > _LONGEST_NAME:
        return f"its name is longer than {_LONGEST_NAME} bytes"
    if any(len(os.fsencode(part)) > _LONGEST_PART for part in name.split("/")):
        return f"a part of its name is longer than {_LONGEST_PART} bytes"
    return None
