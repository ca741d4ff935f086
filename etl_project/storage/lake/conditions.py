"""Conditions: whether a server keeps `If-None-Match` and `If-Match` of a PUT, on which a lake in a bucket rests.

Belongs here: trying it, with an object of no content under a hidden prefix. A server that takes every PUT would let two
writers of one day both win, in silence; it is refused before anything is written.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from etl_project.storage.contract import WriteRefused
from etl_project.storage.lake.objects import Conflict, Objects

KEY = ".etl/conditional-put"
_CONTENT = b"Whether a PUT with a condition is kept to is tried with this object. It may be deleted.\n"
_NOBODYS = '"00000000000000000000000000000000"'


def proven(objects: Objects, stamp: Path) -> None:
    """See that the server keeps conditions; once it has, a local file says so, and nothing is asked again.

    Raises WriteRefused where it does not (retrying does not help), StoreUnavailable (it does).
    """
    if stamp.exists():
        return
    kept = tried(objects)
    if not all(kept.values()):
        ignored = ", ".join(condition for condition, is_kept in kept.items() if not is_kept)
        raise WriteRefused(
            f"{objects.shown}: the server takes a PUT although its condition does not hold ({ignored}): two writers of "
            "one day could both win. Nothing was changed; retrying does not help. Use a server or a version of it that "
            "has conditional writes."
        )
    with suppress(OSError):  # It is asked again next time.
        stamp.touch()


def tried(objects: Objects) -> dict[str, bool]:
    """Each condition, and whether a PUT that breaks it was refused."""
    with suppress(Conflict):
        objects.put(KEY, _CONTENT, None)
    return {
        "If-None-Match": _is_refused(objects, None),
        "If-Match": _is_refused(objects, _NOBODYS),
    }


def _is_refused(objects: Objects, expected: str | None) -> bool:
    try:
        objects.put(KEY, _CONTENT, expected)
    except Conflict:
        return True
    return False
