"""Objects: what is asked of an object store, and what its errors mean, in one line.

Belongs here: obstore, and nothing about partitions. Every request is made here, and every error is turned into one of
ours, without the text of the server: it may hold an access key and what was signed. A 404 counts as "there is none"
only where the server says that it is the object that is missing: some say the same of an unknown user.
"""

from __future__ import annotations

import mmap
import os
import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, cast

from etl_project.storage.contract import StoreUnavailable, WriteRefused
from etl_project.storage.lake.address import Address
from etl_project.storage.lake.refusals import advice
from etl_project.storage.places import ExtraMissing, UnknownPlace

try:
    import obstore
    from obstore.exceptions import AlreadyExistsError, BaseError, NotModifiedError, PreconditionError
except ImportError as error:
    raise ExtraMissing(
        f"A bucket needs the extra `s3` ({error.name} is not installed): pip install 'etl-project[s3]'."
    ) from None

if TYPE_CHECKING:
    from obstore import GetOptions
    from obstore.store import ObjectStore, S3Store

MOST_BYTES = 5 * 1024**3
"""What one PUT may bring (S3's own limit). A day of a table is compressed Parquet: some hundred million rows."""

_IN_ONE_BYTES, _PART_BYTES, _PARTS_AT_ONCE = 256 * 1024**2, 32 * 1024**2, 4
"""What goes in parts, where no condition is needed; 10,000 parts are as many as S3 takes."""

_MISSING = re.compile(r"<Code>NoSuchKey</Code>")
_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
_ASKING_SECONDS, _MOVING_SECONDS = 30, 1800
"""How long one request may take: a question, and one that moves a whole file."""


class Conflict(Exception):  # Not an error of anything: the answer to a PUT with a condition.
    """The condition did not hold: somebody else was faster, or an earlier try of the same PUT was."""


class Unchanged(Exception):  # Neither.
    """The object is the one that the caller has."""

    def __init__(self, etag: str) -> None:
        super().__init__(etag)
        self.etag = etag


class Object(NamedTuple):
    """An object as it was when it was listed or read."""

    key: str
    size_bytes: int
    etag: str
    modified: datetime


class Objects:
    """The objects below one prefix of a bucket."""

    def __init__(self, address: Address) -> None:
        """Nothing is opened."""
        self._address = address
        self.shown = address.url

    def below(self, folder: str) -> Iterator[Object]:
        """Every object below the folder, in the order of their keys, a thousand a request."""
        with self._translated(f"list {folder or 'it'}"):
            for some in obstore.list(self._asking, folder or None):
                yield from (self._object(dict(one)) for one in some)

    def folders(self) -> list[str]:
        """The names right below the prefix that have something below them."""
        with self._translated("list it"):
            found = obstore.list_with_delimiter(self._asking)["common_prefixes"]
        return sorted(name.strip("/").rpartition("/")[2] for name in found)

    def get(self, key: str, target: Path, unless: str | None = None, only: str | None = None) -> Object | None:
        """Write the object's bytes to a new file; None where there is no such object.

        Raises Unchanged, and reads nothing, where its ETag is `unless`, and Conflict where it is not `only`.
        """
        condition: GetOptions = {"if_none_match": unless} if unless else {"if_match": only} if only else {}
        with self._translated(f"read {key}"):
            try:
                found = obstore.get(self._moving, key, options=condition)
                with target.open("xb") as file:
                    for chunk in found.stream():
                        file.write(chunk)
            except PreconditionError:
                raise Conflict(key) from None
            except NotModifiedError:
                raise Unchanged(str(unless)) from None
            except FileNotFoundError as error:
                if _MISSING.search(str(error)):
                    return None
                raise
            there = self._object({**found.meta, "path": key})
        if target.stat().st_size != there.size_bytes:
            raise StoreUnavailable(f"{self.shown}: {key} came short. Nothing was changed; retrying helps.")
        return there

    def tail(self, key: str, size_bytes: int) -> tuple[bytes, Object] | None:
        """The last bytes of an object, all of a smaller one; None where there is none."""
        with self._translated(f"read {key}"):
            try:
                found = obstore.get(self._asking, key, options={"range": {"suffix": size_bytes}})
                return bytes(found.bytes()), self._object({**found.meta, "path": key})
            except FileNotFoundError as error:
                if _MISSING.search(str(error)):
                    return None
                raise
            except BaseError as error:
                # An empty object has no last bytes: some servers refuse to give them, others give all of it.
                if "416 " not in str(error) and "non-partial" not in str(error):
                    raise
            whole = obstore.get(self._asking, key)
            return bytes(whole.bytes())[-size_bytes:], self._object({**whole.meta, "path": key})

    def put(self, key: str, content: Path | bytes, expected: str | None) -> str:
        """Make it the object's content, in the place of the one with the ETag `expected` or of none; its ETag.

        Raises Conflict where something else is there; StoreUnavailable does not mean that nothing was written.
        """
        mode = "create" if expected is None else {"e_tag": expected}
        with self._translated(f"write {key}", ""):
            try:
                if isinstance(content, bytes):
                    return str(obstore.put(self._asking, key, content, mode=mode, use_multipart=False)["e_tag"])  # type: ignore[arg-type]
                self._refuse_too_large(key, content)
                with _mapped(content) as mapped:
                    return str(obstore.put(self._moving, key, mapped, mode=mode, use_multipart=False)["e_tag"])  # type: ignore[arg-type]
            except (AlreadyExistsError, PreconditionError):
                raise Conflict(key) from None

    def overwrite(self, key: str, content: Path) -> None:
        """Make it the object's content, whatever is there."""
        self._refuse_too_large(key, content)
        with self._translated(f"write {key}"), _mapped(content) as mapped:
            obstore.put(self._moving, key, mapped, use_multipart=False)

    def keep(self, key: str, content: Path) -> None:
        """Make it the object's content, where the key says the content: what is there already is the same.

        In parts where it is large. A kill leaves nothing, or parts that the bucket's lifecycle removes.
        """
        with self._translated(f"write {key}", ""):
            if content.stat().st_size == 0:
                obstore.put(self._asking, key, b"", use_multipart=False)
            elif content.stat().st_size <= _IN_ONE_BYTES:
                with _mapped(content) as mapped:
                    obstore.put(self._moving, key, mapped, use_multipart=False)
            else:
                obstore.put(
                    self._moving,
                    key,
                    content,
                    use_multipart=True,
                    chunk_size=_PART_BYTES,
                    max_concurrency=_PARTS_AT_ONCE,
                )

    def signed(self, method: Literal["DELETE"], key: str, valid_seconds: int) -> str:
        """The address of a request that obstore does not make, signed. It is a secret for as long as it is valid."""
        with self._translated(f"sign a request for {key}"):
            return obstore.sign(cast("S3Store", self._asking), method, key, timedelta(seconds=valid_seconds))

    def remove(self, keys: Collection[str]) -> None:
        """Remove objects; those that are gone are no error."""
        for key in keys:
            with self._translated(f"remove {key}"):
                try:
                    obstore.delete(self._asking, key)
                except FileNotFoundError as error:
                    if not _MISSING.search(str(error)):
                        raise

    @cached_property
    def _asking(self) -> ObjectStore:
        return self._opened(_ASKING_SECONDS)

    @cached_property
    def _moving(self) -> ObjectStore:
        return self._opened(_MOVING_SECONDS)

    def _opened(self, timeout_seconds: int) -> ObjectStore:
        try:
            return obstore.store.from_url(
                self.shown,
                client_options={
                    "allow_http": (endpoint() or "").startswith("http://"),
                    "connect_timeout": timedelta(seconds=5),
                    "timeout": timedelta(seconds=timeout_seconds),
                },
                retry_config={"max_retries": 4, "retry_timeout": timedelta(seconds=60)},
            )
        except (BaseError, ValueError):
            # What it says about a setting may quote it.
            raise UnknownPlace(
                f"{self.shown} cannot be opened with the AWS_ variables as they are. Retrying does not help. Write "
                "AWS_ENDPOINT_URL like https://s3.example.com, and AWS_REGION like eu-central-1."
            ) from None

    @contextmanager
    def _translated(self, doing: str, outcome: str = " Nothing was changed.") -> Iterator[None]:
        """Turn what the store raises into one line of ours. The text of the server goes no further."""
        try:
            yield
        except (BaseError, FileNotFoundError) as error:
            if isinstance(error, FileNotFoundError) and error.errno is not None:
                raise  # A file of this machine.
            where = f" at {endpoint()}" if endpoint() else ""
            raise StoreUnavailable(f"{self.shown}{where}: cannot {doing}: {advice(str(error), outcome)}") from None

    def _object(self, meta: dict[str, object]) -> Object:
        etag, modified = meta["e_tag"], meta["last_modified"]
        if not isinstance(etag, str) or not isinstance(modified, datetime):
            raise UnknownPlace(
                f"{self.shown}: the server gives objects no ETag, without which two writers of one day could both win. "
                "Retrying does not help. Use a server that has ETags."
            )
        return Object(str(meta["path"]), int(str(meta["size"])), etag, modified)

    def _refuse_too_large(self, key: str, content: Path) -> None:
        size_bytes = content.stat().st_size
        if size_bytes > MOST_BYTES:
            raise WriteRefused(
                f"{self.shown}: {key} would have {size_bytes:,} bytes, and one PUT takes {MOST_BYTES:,}. Nothing was "
                "changed; retrying does not help. Split the day (partitions of several dimensions), or keep it in a "
                "folder."
            )


@contextmanager
def _mapped(file: Path) -> Iterator[mmap.mmap]:
    """A file's bytes, mapped and not read: the memory for it is what the system has left."""
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        yield mapped


def endpoint() -> str | None:
    """The address of the server, where a variable says it; what stands before an @ is left out."""
    found = next((os.environ[name] for name in _ENDPOINTS if os.environ.get(name)), None)
    return None if found is None else re.sub(r"//[^/@]*@", "//", found)
