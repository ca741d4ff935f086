"""A bucket before the drop folder of a `World`: the same tests ask the same of files that came by it.

Belongs here: putting objects, and passes of the real `fetch` before and after the intake, on a real server.
"""

from __future__ import annotations

import dataclasses
import os
from functools import cached_property
from pathlib import Path
from typing import Any

from etl_project import settings, utc
from etl_project.sources.intake import admit, archive, scan
from etl_project.sources.spec import SourceSpec
from etl_project_tests import s3
from etl_project_tests.unit.sources.world import DAY, SPEC, World

OWN = {"cache", "deployment-id", "deployment-id.lock"}
"""What a deployment with a bucket has beside its folders."""


class BucketWorld(World):
    """What is dropped is an object; it is fetched before files are taken in, and sent back afterwards."""

    def __init__(self, root: Path, source: SourceSpec = SPEC) -> None:
        super().__init__(root, source)
        self.url = f"{s3.url_of(root)}/incoming"

    @property
    def settings(self) -> settings.Settings:
        return settings.load({"ETL_DATA_DIR": str(self.root), "ETL_INCOMING": self.url})

    @cached_property
    def places(self) -> Any:
        from etl_project.sources.bucket.looking import Places  # noqa: PLC0415  # Needs an extra.

        return Places(self.settings)

    def drop(self, name: str, content: bytes) -> Path:
        key = f"{self.spec.name}/{name}"
        there = self.places.incoming.tail(key, 1)
        self.places.incoming.put(key, content, there and there[1].etag)
        return self.folder / name

    def fetch(self) -> Any:
        """One pass; what went wrong fails the test."""
        done = self.try_to_fetch()
        assert done.problems == []
        return done

    def try_to_fetch(self) -> Any:
        from etl_project.sources.bucket.fetch import fetch  # noqa: PLC0415  # Needs an extra.

        return fetch(self.settings, [self._settled])

    def scan(self) -> scan.Scan:
        self.fetch()
        return scan.scan(self.folder, self._settled, utc.now())

    def receive(self, threads: int = 1) -> list[admit.Received]:
        found = super().receive(threads)
        self.end()
        return found

    def receive_what_is_there(self) -> None:
        """Take files in without a pass before or after it."""
        found = scan.scan(self.folder, self._settled, utc.now()).waiting
        assert admit.receive_all(found, self.spec, *self.roots).failed == ()

    def archive_of_day(self) -> list[archive.Accepted]:
        """The versions of the day that count, here."""
        return list(archive.accepted(self.archive, self.spec, DAY))

    def end(self) -> None:
        self.fetch()

    def state(self) -> dict[bytes, Any]:
        there = super().state().items()
        return {name: content for name, content in there if os.fsdecode(name).partition("/")[0] not in OWN}

    def waiting(self) -> list[str]:
        """The names of the objects that are left where they came in."""
        return sorted(one.key.partition("/")[2] for one in self.places.incoming.below(self.spec.name))

    def archived(self) -> dict[str, bytes]:
        """What is in `archive` of the bucket, by key."""
        return self._contents(self.places.archive)

    def refused(self) -> dict[str, bytes]:
        """What is in `quarantine` of the bucket, by key."""
        return self._contents(self.places.quarantine)

    @property
    def _settled(self) -> SourceSpec:
        return dataclasses.replace(self.spec, settle_seconds=0)

    def _contents(self, objects: Any) -> dict[str, bytes]:
        return {one.key: objects.tail(one.key, 10**6)[0] for one in objects.below(self.spec.name)}
