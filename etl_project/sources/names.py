"""Names: how a file name that may hold anything is shown, stored as text and ordered.

Belongs here: the one way from a name on the disk (any bytes but NUL and `/`; Python carries undecodable ones as
surrogates) to valid text, and the one order of names. Does not belong here: what a name means (`scan`).
"""

from __future__ import annotations

import os


def shown(name: str) -> str:
    """The name as valid UTF-8 text: bytes that are none appear as `\\xNN`, everything else as it is."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def order(name: str) -> bytes:
    """Sort key: the bytes of the name, so that no locale and no Unicode table can change the order of a day."""
    return os.fsencode(name)
