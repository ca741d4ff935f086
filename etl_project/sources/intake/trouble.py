"""Trouble: what the system puts in the way of a file that is taken in, as one error that says what to do.

Belongs here: the words for a full disk, a missing permission, a failing disk. Does not belong here: what is wrong with
a file itself (`judge`), what happens next (`admit`).
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

from etl_project.failures import Transient
from etl_project.sources import names
from etl_project.sources.intake.scan import Entry, Waiting


class CannotReceive(Transient):
    """The system is in the way (permission, full disk). The file is where it was; retrying helps once it is mended."""


@contextmanager
def receiving(entry: Entry | Waiting) -> Iterator[None]:
    """Turn the system's errors into one that says which file, what is in the way, and what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            advice = "free some space; the file waits where it is"
        elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            advice = "let this user read the file and write to its folder; the file waits where it is"
        else:
            advice = "the file waits where it is and is tried again"
        at = "" if error.filename is None else f" at {names.shown(os.fsdecode(error.filename))}"
        raise CannotReceive(f"{names.shown(entry.path)}: {error.strerror or error}{at}; {advice}.") from error
