"""Trial: whether a bucket is fit for a lake, found out by doing what a run would do.

Belongs here: the questions that `etl doctor` asks. What is tried is one object under a hidden prefix, which is removed;
a kill leaves it, `.etl/trial-*`, and it may be removed.
"""

from __future__ import annotations

import uuid
from typing import NamedTuple

from etl_project.storage.lake import address
from etl_project.utc import now


class Trial(NamedTuple):
    """The conditions of a PUT that the server does not keep, and how far its clock is off at the least."""

    ignored: tuple[str, ...]
    clock_off_seconds: float


def of(root: str) -> Trial:
    """List, write, read and remove below the prefix. Raises StoreUnavailable (retrying helps once its cause is gone).

    Raises UnknownPlace and ExtraMissing, too (it does not).
    """
    from etl_project.storage.lake import conditions  # noqa: PLC0415  # Needs an extra.
    from etl_project.storage.lake.objects import Objects  # noqa: PLC0415

    objects, key = Objects(address.of(root)), f".etl/trial-{uuid.uuid4().hex}"
    objects.folders()
    kept = conditions.tried(objects)
    before = now()
    objects.put(key, b"A trial by `etl doctor`. It may be removed.\n", None)
    after = now()
    try:
        found = objects.tail(key, 8)
    finally:
        objects.remove([key])
    off = 0.0
    if found is not None:
        stamp = found[1].modified
        off = max((before - stamp).total_seconds() - 1, (stamp - after).total_seconds(), 0.0)  # Whole seconds.
    return Trial(tuple(condition for condition, is_kept in kept.items() if not is_kept), off)
