"""Address: which bucket and prefix a setting names, and that no secret is in it.

Belongs here: taking the text of a setting apart, without any package that is not always there. Credentials are never
part of an address: they come from the environment, and a text that seems to hold some is shown nowhere.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from etl_project.storage.places import UnknownPlace

EXAMPLE = "s3://bucket/prefix"
SCHEMES = {"s3": "s3", "s3a": "s3"}
"""What is tested. Google's and Azure's stores name what a PUT replaces in other ways, and are refused."""
_URL = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<rest>.*)", re.DOTALL)
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}")
_PREFIX = re.compile(r"[^\x00-\x1f\x7f?#%\\]*")


@dataclass(frozen=True)
class Address:
    """A bucket and the prefix under which a lake lies in it."""

    scheme: str
    bucket: str
    prefix: str

    @property
    def url(self) -> str:
        """The address as it is said and shown: two with the same one have the same rows."""
        return f"{self.scheme}://{self.bucket}" + (f"/{self.prefix}" if self.prefix else "")


def is_bucket(root: Path | str) -> bool:
    """Whether a setting names an object store, be it rightly or wrongly written."""
    found = _URL.match(root) if isinstance(root, str) else None
    return found is not None and found["scheme"].lower() in SCHEMES


def of(root: Path | str, setting: str = "root") -> Address:
    """The address that a setting gives. Raises UnknownPlace (retrying does not help), quoting no secret."""
    found = _URL.match(str(root))
    if found is None or found["scheme"].lower() not in SCHEMES:
        raise UnknownPlace(f"{setting}={str(root)!r} is no address of a bucket; write it like {EXAMPLE}.")
    bucket, _, prefix = found["rest"].partition("/")
    if {"@", ":"} & set(bucket) or "?" in found["rest"]:  # A secret key may have a slash in it.
        raise UnknownPlace(
            f"{setting} has more than a bucket and a prefix in it, perhaps a key: it is not shown. Write it like "
            f"{EXAMPLE}, and give credentials as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
        )
    prefix = prefix.rstrip("/")
    if not _BUCKET.fullmatch(bucket):
        raise UnknownPlace(f"{setting}={str(root)!r} names no bucket: {bucket!r} is no name of one; write {EXAMPLE}.")
    if not _PREFIX.fullmatch(prefix) or any(part in ("", ".", "..") for part in prefix.split("/") if prefix):
        raise UnknownPlace(
            f"{setting}={str(root)!r}: {prefix!r} is no prefix; write plain names with slashes between them, like "
            f"{EXAMPLE}."
        )
    return Address(SCHEMES[found["scheme"].lower()], bucket, prefix)
