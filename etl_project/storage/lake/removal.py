"""Removal: an object is removed only as long as it is the one that was read.

Belongs here: the DELETE with `If-Match`, which obstore does not make, and finding out whether a server keeps to it.
Where it does not, the object is looked at once more right before: what is put there within these milliseconds is lost.
"""

from __future__ import annotations

import time
import urllib.error
import urllib.request
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path

from etl_project.storage.contract import StoreUnavailable
from etl_project.storage.lake.objects import Conflict, Objects, endpoint
from etl_project.storage.lake.refusals import advice

KEY = ".etl/conditional-delete"
_CONTENT = b"Whether a DELETE with a condition is kept to is tried with this object. It may be deleted.\n"
_NOBODYS = '"00000000000000000000000000000000"'
_VALID_SECONDS, _TIMEOUT_SECONDS, _TRIES = 120, 30.0, 4
_MET, _NOT_MET, _MISSING, _NOT_KNOWN = (200, 204), 412, 404, 501
_AGAIN = (409, 429)
"""Beside what is the server's own fault: somebody else is at work on the object; it is asked too much."""


class Removal:
    """Removes objects below one prefix. `stamp`: a local file that says that the server keeps to conditions."""

    def __init__(self, objects: Objects, stamp: Path | None = None) -> None:
        self._objects = objects
        self._stamp = stamp
        self._kept: bool | None = None

    def keeps_conditions(self) -> bool:
        """Whether the server refuses a DELETE whose condition does not hold, tried with an object under `.etl/`."""
        if self._kept is None and self._stamp is not None and self._stamp.exists():
            self._kept = True
        if self._kept is None:
            with suppress(Conflict):
                self._objects.put(KEY, _CONTENT, None)
            self._kept = self._answer(KEY, _NOBODYS) == _NOT_MET
            if self._kept and self._stamp is not None:
                with suppress(OSError):  # It is tried again next time.
                    self._stamp.touch()
        return self._kept

    def of(self, key: str, etag: str) -> bool:
        """Remove the object if it has this ETag; whether it is gone afterwards. False: another one is there.

        Raises StoreUnavailable (retrying helps): it is gone, or it is still there. Repeatable.
        """
        if self.keeps_conditions():
            return self._answer(key, etag) != _NOT_MET
        there = self._objects.tail(key, 1)
        if there is None:
            return True
        if there[1].etag != etag:
            return False
        self._objects.remove([key])
        return True

    def _answer(self, key: str, etag: str) -> int:
        """The status of one DELETE, which is sent again where the server or the network fail."""
        said = ""
        for again in range(_TRIES):
            time.sleep(0.2 * (2**again - 1))
            status, said = _asked(self._objects.signed("DELETE", key, _VALID_SECONDS), etag)
            if status in (*_MET, _NOT_MET, _NOT_KNOWN) or (status == _MISSING and "NoSuchBucket" not in said):
                return status
            if 0 < status < 500 and status not in _AGAIN:
                break
        where = f" at {endpoint()}" if endpoint() else ""
        raise StoreUnavailable(f"{self._objects.shown}{where}: cannot remove {key}: {advice(said, '')}")


def _asked(url: str, etag: str) -> tuple[int, str]:
    """Status and text of an answer; 0 where there is none. Nothing of the address may go on: it is signed."""
    request = urllib.request.Request(url, method="DELETE", headers={"If-Match": etag})
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as answer:
            return int(answer.status), ""
    except urllib.error.HTTPError as error:
        with error:
            return error.code, f"{error.read(10_000).decode('utf-8', 'replace')} status code: {error.code}"
    except (OSError, HTTPException):
        return 0, "the connection was lost"
