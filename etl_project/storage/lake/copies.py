"""Copies: local files with the content of objects, each under the object's ETag.

Belongs here: fetching, so that DuckDB reads a plain file, and letting go of what nobody has used for a while. A copy is
never changed and named by key and ETag, so it cannot be an old one of another version; it is on the disk before it has
that name, so a power cut leaves none that is short. The folder may be deleted at any time, and a reader who is at it
then has to read again.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote, unquote

from etl_project import atomic
from etl_project.storage.lake.objects import Object, Objects, Unchanged
from etl_project.storage.scratch import scratch_folder

KEPT_BYTES = 4 * 1024**3
"""What may stay of copies that nobody is using."""

_IN_USE_SECONDS = 3600.0
"""A copy that was asked for is not removed for so long: a query may be about to read it."""
_TIDIED_EVERY_SECONDS = 600.0
_TAIL_BYTES = 64 * 1024
_MAGIC = b"PAR1"
_WHOLE, _FOOTER = ".parquet", ".footer"


class Copy(NamedTuple):
    """A local file, and the ETag of the object that it is a copy of."""

    path: Path
    etag: str


class Copies:
    """The copies of the objects below one prefix."""

    def __init__(self, folder: Path, objects: Objects) -> None:
        self._folder = folder
        self._objects = objects

    def nothing(self, key: str) -> Path:
        """Where there is no file, for an object that does not exist."""
        return self._of(key) / "none"

    def of(self, key: str, etag: str | None = None) -> Copy | None:
        """The object as it is now; None where there is none. With the ETag of a listing, nothing is asked again."""
        if etag is not None and (there := self._there(key, etag)):
            return there
        newest = self._newest(key)
        with self._scratch(key) as temporary:
            try:
                found = self._objects.get(key, temporary, newest.etag if newest else None)
            except Unchanged as unchanged:
                # A copy that was let go of meanwhile is fetched: no file would mean that the day has no rows.
                return self._there(key, unchanged.etag) or self.of(key)
            if found is None:
                return None
            target = self._path(key, found.etag)
            atomic.sync_file(temporary)
            os.rename(temporary, target)
        self.tidy()  # Here too: who only reads prepares no write.
        return Copy(target, found.etag)

    def add(self, key: str, etag: str, file: Path) -> None:
        """Keep what was just written, so that whoever reads it next need not fetch it; the file goes."""
        with suppress(OSError):
            atomic.make_folder(self._of(key))
            atomic.sync_file(file)
            os.replace(file, self._path(key, etag))

    def footer(self, one: Object) -> Path:
        """A local file of which only the footer is there: as long as the object, and empty up to its last bytes."""
        if there := self._there(one.key, one.etag):
            return there.path
        path = self._path(one.key, one.etag).with_suffix(_FOOTER)
        if not path.is_file():
            found = tail_of(self._objects, one.key)
            if found is None:
                return self.nothing(one.key)  # It has gone since it was listed.
            tail, there_now = found
            with self._scratch(one.key) as temporary:
                with temporary.open("xb") as file:
                    file.write(_MAGIC if there_now.size_bytes > len(_MAGIC) else b"")
                    file.seek(max(there_now.size_bytes - len(tail), 0))
                    file.write(tail)
                atomic.sync_file(temporary)
                path = self._path(one.key, there_now.etag).with_suffix(_FOOTER)
                os.rename(temporary, path)
        os.utime(path)
        return path

    def tidy(self) -> None:
        """Remove what has not been used for longest, until no more than `KEPT_BYTES` stay; now and then."""
        stamp = self._folder / "tidied"
        with suppress(OSError):
            if time.time() - stamp.stat().st_mtime < _TIDIED_EVERY_SECONDS:
                return
        with suppress(OSError):
            atomic.make_folder(self._folder)
            stamp.touch()
            self._tidy()

    def _tidy(self) -> None:
        found = []
        for path in self._files():
            with suppress(FileNotFoundError):
                status = path.stat()
                found.append((status.st_mtime, status.st_blocks * 512, path))
        over_bytes = sum(size_bytes for _, size_bytes, _ in found) - KEPT_BYTES
        for used, size_bytes, path in sorted(found):
            if over_bytes > 0 and time.time() - used > _IN_USE_SECONDS:
                path.unlink(missing_ok=True)
                over_bytes -= size_bytes

    @contextmanager
    def _scratch(self, key: str) -> Iterator[Path]:
        """Where a copy is made: in a folder that the next one sweeps, should this process be killed."""
        atomic.make_folder(self._of(key))
        with scratch_folder(self._folder) as folder:
            yield folder / "copy"

    def _files(self) -> Iterator[Path]:
        for folder in self._folder.iterdir():
            if folder.is_dir() and not folder.name.startswith("."):
                yield from folder.iterdir()

    def _there(self, key: str, etag: str) -> Copy | None:
        path = self._path(key, etag)
        try:
            os.utime(path)
        except FileNotFoundError:
            return None
        return Copy(path, etag)

    def _newest(self, key: str) -> Copy | None:
        """The copy of the object that was used last."""
        found = []
        with suppress(FileNotFoundError):
            for path in self._of(key).iterdir():
                if path.suffix == _WHOLE:
                    with suppress(FileNotFoundError):
                        found.append((path.stat().st_mtime, path))
        return Copy(max(found)[1], unquote(max(found)[1].stem)) if found else None

    def _of(self, key: str) -> Path:
        return self._folder / hashlib.sha256(key.encode()).hexdigest()[:32]

    def _path(self, key: str, etag: str) -> Path:
        return self._of(key) / f"{quote(etag, safe='')}{_WHOLE}"


def tail_of(objects: Objects, key: str) -> tuple[bytes, Object] | None:
    """The last bytes of an object, its whole footer among them; None where there is no object."""
    found = objects.tail(key, _TAIL_BYTES)
    if found is None:
        return None
    footer_bytes = int.from_bytes(found[0][-8:-4], "little") + 8
    if len(found[0]) < found[1].size_bytes and footer_bytes > len(found[0]) and found[0].endswith(_MAGIC):
        found = objects.tail(key, footer_bytes)
    return found


def second_name(file: Path, target: Path) -> None:
    """Have the file under another name as well; where there are no links, its bytes once more."""
    try:
        os.link(file, target)
    except OSError:
        shutil.copyfile(file, target)
