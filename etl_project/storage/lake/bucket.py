"""The lake in a bucket: where the object of a partition lies, and how one takes the place of another.

Belongs here: everything that knows about keys of objects; `layout` is the same for a folder. A partition is replaced by
one PUT with a condition: that there is none yet (`If-None-Match: *`), or that it still is the one that was looked at
(`If-Match`). So of two writers one comes first, and the other one looks again. Whatever goes wrong with the PUT is
settled by what the object says: the commit record in its footer is ours, or it is not. Nothing is ever deleted for it.
A kill before the PUT leaves the old object, one after it the new one, and locally a scratch folder that is swept.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TypeVar
from urllib.parse import unquote

from etl_project import atomic, faults
from etl_project.storage.contract import Commit, StoreUnavailable, Table
from etl_project.storage.lake import conditions, footer, former
from etl_project.storage.lake.address import Address
from etl_project.storage.lake.bucket_candidates import BucketCandidates
from etl_project.storage.lake.bucket_versions import BucketVersions
from etl_project.storage.lake.copies import Copies, second_name, tail_of
from etl_project.storage.lake.files import FILE, Held, Overtaken
from etl_project.storage.lake.footers import Footers
from etl_project.storage.lake.names import encoded
from etl_project.storage.lake.objects import Conflict, Object, Objects, endpoint
from etl_project.storage.scratch import scratch_folder

_AT_ONCE = 16
"""Requests under way: more are of no use to one process."""

_ASKED_ONE_BY_ONE = 8
"""So many partitions are asked for by name; for more, a listing is cheaper."""

_ONE_INSTANT = timedelta(seconds=1)
"""What the time of an object is exact to (HTTP); within it, the commit records say which one is newer."""
_T = TypeVar("_T")
_R = TypeVar("_R")


class Bucket:
    """Parquet objects, `<asset>/<partition column>=<key>/data.parquet` below a prefix."""

    copies_at_once = 64

    def __init__(self, address: Address, cache: Path | None = None) -> None:
        """`cache`: a local folder for copies and remembered records, which may be deleted at any time.

        Nothing is opened.
        """
        self._objects = Objects(address)
        told = hashlib.sha256(f"{endpoint()} {address.url}".encode()).hexdigest()[:16]
        self._cache = (cache or _temporary()) / f"lake-{told}"
        self._copies = Copies(self._cache / "copies", self._objects)
        self.versions = BucketVersions(self._objects, self._copies)
        self.candidates = BucketCandidates(self._objects, self._copies)

    def __str__(self) -> str:
        return self._objects.shown

    @property
    def beside(self) -> Path:
        """The local folder."""
        return self._cache

    def prepare(self) -> None:
        """Make the local folder, and see once that the server keeps the conditions of a PUT."""
        atomic.make_folder(self._cache)
        conditions.proven(self._objects, self._cache / "conditions")
        self._copies.tidy()

    def shown(self, table: Table, key: str | None) -> str:
        """The address of a partition's object."""
        return f"{self}/{_key(table, key)}"

    def newest(self, table: Table) -> Path | None:
        """The footer of the object that was written last. Damaged ones are passed over.

        Of those that were written within the same second, and where objects were restored or copied without their
        times, the commit records say which one is newer.
        """
        all_of_them = sorted(self._listed(table.asset).values(), key=lambda one: one.modified, reverse=True)
        found = all_of_them
        while found:
            together = [one for one in found if found[0].modified - one.modified < _ONE_INSTANT]
            for one in self._newest_first(table.asset, together):
                path = self._copies.footer(one)
                if footer.schema_of(path) is not None:
                    if former.is_restored(footer.intact_record(path), one.modified.timestamp()):
                        return self._copies.footer(self._newest_first(table.asset, all_of_them)[0])
                    return path
            found = found[len(together) :]
        return None

    def local(self, table: Table, keys: Collection[str | None]) -> dict[str | None, Path]:
        """Copies of the objects, fetched where they are not here yet."""
        if len(keys) <= _ASKED_ONE_BY_ONE:
            wanted: dict[str | None, tuple[str, str | None]] = {key: (_key(table, key), None) for key in keys}
        else:
            there = {one.key: one.etag for one in self._listed(table.asset).values()}
            names = {key: _key(table, key) for key in keys}
            wanted = {key: (name, there[name]) for key, name in names.items() if name in there}
        copies = dict(zip(wanted, _at_once(lambda one: self._copies.of(*one), wanted.values()), strict=True))
        return {key: copy.path if (copy := copies.get(key)) else self._copies.nothing(_key(table, key)) for key in keys}

    def records(
        self, assets: Iterable[str] | None = None, partitions: Collection[str | None] | None = None
    ) -> Iterator[Commit]:
        """The newest record of every object, or of those given: a listing an asset, and a footer for each new ETag."""
        for asset in self._with_objects(assets):
            found = self._listed(asset)
            some = [one for key, one in found.items() if partitions is None or key in partitions]
            if partitions is None or len(some) > _ASKED_ONE_BY_ONE:
                yield from self._remembered(asset, some, are_all=partitions is None)
            else:
                records = _at_once(self._record, [one.key for one in some])
                yield from (record for record in records if record is not None)

    def history(self, asset: str, partition: str | None) -> list[Commit]:
        """The records in the object of a partition, whatever its partition column is called."""
        one = self._listed(asset).get(partition)
        found = None if one is None else tail_of(self._objects, one.key)
        return [] if found is None else footer.history(footer.of_tail(found[0]))

    def keys(self, asset: str) -> list[str | None]:
        """Every partition of the asset that has an object."""
        return list(self._listed(asset))

    def first_keys(self) -> Iterator[str]:
        """The first partition of every asset, in the order of their names: for days, the earliest one."""
        for asset in self._asset_folders():
            named = (_partition_of(one.key) for one in self._objects.below(encoded(asset)))
            first = next((key for key in named if key is not None), None)
            if first is not None:
                yield first

    @contextmanager
    def copies(self, asset: str, keys: Collection[str | None]) -> Iterator[Mapping[str | None, Held]]:
        """The objects, fetched anew: a copy that is here already would hide one that has rotted there."""
        listed = self._listed(asset)
        with scratch_folder(self._cache) as folder:
            wanted = {key: (folder / f"{n}.parquet", listed[key].key) for n, key in enumerate(keys) if key in listed}
            found = _at_once(lambda one: self._objects.get(one[1], one[0]), wanted.values())
            yield {
                key: Held(path, f"{self}/{name}")
                for (key, (path, name)), one in zip(wanted.items(), found, strict=True)
                if one is not None
            }

    def footers(self, asset: str) -> Iterator[tuple[str | None, Path]]:
        """The footers, fetched some at a time where they are not here yet."""
        listed = list(self._listed(asset).items())
        for first in range(0, len(listed), _AT_ONCE):
            some = listed[first : first + _AT_ONCE]
            paths = _at_once(self._copies.footer, [one for _, one in some])
            yield from zip((key for key, _ in some), paths, strict=True)

    @contextmanager
    def turn(self, table: Table, key: str | None, wait_seconds: float, whom: str) -> Iterator[_Place]:
        """The place of a partition. Nobody waits for a turn: who comes second looks again."""
        with scratch_folder(self._cache) as folder:
            yield _Place(self, self._objects, self._copies, _key(table, key), folder, whom)

    def _with_objects(self, assets: Iterable[str] | None) -> list[str]:
        """Assets to list, or all. Of many, most are tables and have nothing here: one question says which are not."""
        asked = None if assets is None else list(assets)
        if asked is not None and len(asked) <= 2:
            return asked
        there = self._asset_folders()
        return there if asked is None else [asset for asset in asked if asset in there]

    def _asset_folders(self) -> list[str]:
        return [unquote(name) for name in self._objects.folders() if not name.startswith(".")]

    def _listed(self, asset: str) -> dict[str | None, Object]:
        """Every partition of the asset that has an object, with the object."""
        return {
            _partition_of(one.key): one
            for one in self._objects.below(encoded(asset))
            if one.key.rpartition("/")[2] == FILE and one.key.count("/") <= 2
        }

    def _newest_first(self, asset: str, objects: Sequence[Object]) -> Sequence[Object]:
        if len(objects) < 2:
            return objects
        keys = {_partition_of(one.key): one for one in objects}
        records = sorted(
            self._remembered(asset, objects, are_all=False), key=lambda record: record.committed_at, reverse=True
        )
        first = [keys[record.partition] for record in records if record.partition in keys]
        return [*first, *(one for one in objects if one not in first)]

    def _remembered(self, asset: str, objects: Iterable[Object], are_all: bool = True) -> list[Commit]:
        cache = Footers(self._cache / "records" / f"{encoded(asset)}.json")
        return cache.records(((one.key, [one.etag]) for one in objects), partial(_at_once, self._record), are_all)

    def _record(self, key: str) -> Commit | None:
        found = tail_of(self._objects, key)
        return None if found is None else footer.intact_record(footer.of_tail(found[0]))


class _Place:
    """The place of one partition, and what was there when it was looked at."""

    def __init__(self, bucket: Bucket, objects: Objects, copies: Copies, key: str, folder: Path, whom: str) -> None:
        self.file = folder / FILE
        self.shown = f"{bucket}/{key}"
        self._objects = objects
        self._copies = copies
        self._key = key
        self._whom = whom
        self._expected: str | None = None

    def look(self) -> None:
        """Have what is there now as the local file; it is what a PUT replaces, or nothing is."""
        self.file.unlink(missing_ok=True)
        there = self._copies.of(self._key)
        self._expected = None if there is None else there.etag
        if there is not None:
            second_name(there.path, self.file)

    @contextmanager
    def replacing(self, record: Commit) -> Iterator[Path]:
        """One PUT, under the condition that what was looked at is still there.

        What was written stays in the scratch folder: rows that cannot be had again are written from it once more.
        """
        temporary = atomic.temporary_sibling(self.file)
        yield temporary
        faults.reach("bucket.before_put")
        try:
            etag = self._objects.put(self._key, temporary, self._expected)
            faults.reach("bucket.after_put")
        except (Conflict, StoreUnavailable, OSError) as error:
            etag = self._settled(record, error)
        self._copies.add(self._key, etag, temporary)

    def _settled(self, record: Commit, error: Exception) -> str:
        """The ETag of the object if it says that the commit happened; else what went wrong is raised."""
        try:
            found = tail_of(self._objects, self._key)
        except StoreUnavailable as unknown:
            raise StoreUnavailable(
                f"{self._whom}: whether it was committed is not known: {error} Then: {unknown} Nothing was deleted, "
                "and the next look finds out."
            ) from None
        if found is not None and footer.intact_record(footer.of_tail(found[0])) == record:
            return found[1].etag
        if isinstance(error, Conflict) or (found[1].etag if found else None) != self._expected:
            raise Overtaken(
                f"{self._whom}: somebody else has committed it since it was looked at. Nothing was changed by this "
                "writer; retrying helps."
            ) from None
        if isinstance(error, StoreUnavailable):
            raise StoreUnavailable(f"{self._whom}: {error} It keeps its old rows.") from None
        raise error


def _key(table: Table, key: str | None) -> str:
    folder = "" if key is None else f"{encoded(str(table.partition_column))}={encoded(key)}/"
    return f"{encoded(table.asset)}/{folder}{FILE}"


def _partition_of(key: str) -> str | None:
    folder = key.split("/")[1]
    return unquote(folder.partition("=")[2]) if "=" in folder else None


def _at_once(do: Callable[[_T], _R], all_of: Iterable[_T]) -> list[_R]:
    """The answers in order, several requests being under way at a time."""
    each = list(all_of)
    if len(each) < 2:
        return [do(one) for one in each]
    with ThreadPoolExecutor(min(_AT_ONCE, len(each))) as pool:
        return list(pool.map(do, each))


def _temporary() -> Path:
    """Where copies lie when nobody says: a folder of this user's own."""
    folder = Path(tempfile.gettempdir()) / f"etl-lake-{os.getuid()}"
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    if folder.is_symlink() or folder.stat().st_uid != os.getuid():
        return Path(tempfile.mkdtemp(prefix="etl-lake-"))
    return folder
