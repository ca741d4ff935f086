"""Plausible: signs that a readable file is not what its sender meant, found by comparing it with the source's others.

Belongs here: files that were cut, and files of another day. Does not belong here: what a single file says about itself
(`judge`), how many rows a day may lose (`shrunk`). Only a file that comes in is compared: what
was accepted stays accepted.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from datetime import date
from functools import cached_property
from itertools import islice
from pathlib import Path
from threading import Lock

from etl_project.sources import names
from etl_project.sources.intake import archive
from etl_project.sources.intake.archive import Accepted
from etl_project.sources.intake.private_copy import Copy
from etl_project.sources.intake.scan import Entry, Waiting
from etl_project.sources.reading import compression, judge
from etl_project.sources.reading.file_format import SourceFile
from etl_project.sources.reading.file_refused import FileRefused
from etl_project.sources.spec import SourceSpec

_OTHERS, _BESIDE = 5, 50
"""So many of the newest accepted files, and of those that wait as well, are asked how they end."""

_CUT_RATIO = 0.1
"""Where more files than this have no end, a file without one is nothing special."""

_REPEATED = 20
_TAIL_BYTES = 8
_OF_LINES = ("csv", "tsv", "jsonl", "fixed")
_FEW_ROWS = 1
"""A file of one row, or none, is easily the same on two days."""

_PACKED = (".gz", ".zst", ".zip")


class Others:
    """The accepted files of a source, for one batch of new ones: read once, and only when they are needed."""

    def __init__(self, spec: SourceSpec, archive_root: Path, waiting: Sequence[Entry | Waiting] = ()) -> None:
        self._spec = spec
        self._root = archive_root
        self._lock = Lock()
        self._accepted_now: dict[str, dict[date, Accepted]] = {}
        self._listed: dict[date, list[Accepted]] = {}
        # Looked at before any of them is taken, so that the order in which they are taken makes no difference.
        self._newest = list(islice(self._newest_first(), _OTHERS)) if self._asks_for_ends else []
        beside = (one for one in waiting if not one.name.endswith(_PACKED)) if self._asks_for_ends else ()
        self._beside = {one.path: has_its_end(Path(one.path), one.name, spec) for one in islice(beside, _BESIDE)}

    @property
    def _asks_for_ends(self) -> bool:
        return self._spec.format in _OF_LINES and self._spec.unended_last_line == "refuse"

    def listed(self, day: date) -> list[Accepted] | None:
        """All versions of the day as they were before the first of the new files, once; None where nobody looked."""
        return self._listed.pop(day, None)

    def refuse_cut(self, copy: Copy, waiting: Entry | Waiting, last_row_is_reject: bool) -> None:
        """Raise FileRefused for a file whose last line has no end although the source's other files end theirs.

        Without other files, a last line that is no row either says the same. `unended_last_line: accept` accepts both.
        """
        if not self._asks_for_ends or _ends(copy, waiting.name, self._spec):
            return
        ends = [ends for path, ends in self._beside.items() if path != waiting.path]
        ends += [has_its_end(one.path, one.name, self._spec) for one in self._newest]
        unended = ends.count(False)
        if unended > _CUT_RATIO * len(ends) or not (ends or last_row_is_reject):
            return
        why = f"{ends.count(True)} other files of the source end theirs" if ends else "and it is no row"
        raise FileRefused(
            "cut off",
            f"the last line has no line end; {why}",
            "a file that was sent to its end: send it again; or, where files of this source may end so, write "
            "`unended_last_line: accept` into its defs.yaml and release it",
        )

    def refuse_content_of_another_day(self, sha256: str, day: date, rows: int) -> None:
        """Raise FileRefused for content that another day has, unless the source is known to repeat whole files."""
        if self._spec.repeats_itself or self._spec.same_content_on_days == "accept" or rows <= _FEW_ROWS:
            return
        there = {**self._by_content.get(sha256, {}), **self._accepted_now.get(sha256, {})}
        there.pop(day, None)
        if not there or self._repeats_whole_files:
            return
        other, version = min(there.items())
        raise FileRefused(
            "another day's content",
            f"the same content as {names.shown(version.name)} of {other}",
            f"the file of {day}: send that one; or, where days of this source may be equal, write "
            "`same_content_on_days: accept` into its defs.yaml and release it",
        )

    def note(self, version: Accepted, day: date) -> None:
        """Count a version that was accepted just now."""
        with self._lock:
            self._accepted_now.setdefault(version.sha256, {})[day] = version

    @cached_property
    def _days(self) -> dict[date, tuple[Accepted, ...]]:
        return archive.accepted_days(self._root, self._spec)

    @cached_property
    def _by_content(self) -> dict[str, dict[date, Accepted]]:
        found: dict[str, dict[date, Accepted]] = {}
        for day, versions in self._days.items():
            for version in versions:
                found.setdefault(version.sha256, {})[day] = version
        return found

    @cached_property
    def _repeats_whole_files(self) -> bool:
        """Whether days that are equal were accepted before this was looked at; those of few rows say nothing."""
        repeated = [next(iter(days.values())) for days in self._by_content.values() if len(days) > 1]
        return any(judge.count_rows(self._spec, version).records > _FEW_ROWS for version in repeated[:_REPEATED])

    def _newest_first(self) -> Iterator[Accepted]:
        """The versions that count, of the newest days first."""
        days = (entry.name for entry in sorted(_folders(self._root / self._spec.name), key=lambda one: one.name)[::-1])
        for text in days:
            try:
                day = date.fromisoformat(text)
            except ValueError:
                continue
            self._listed[day] = archive.versions(self._root, self._spec, day)
            yield from archive.counting(self._listed[day], self._spec)[::-1]


def _folders(root: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(root) as entries:
            return [entry for entry in entries if entry.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return []


def _ends(copy: Copy, name: str, spec: SourceSpec) -> bool:
    """As `has_its_end`, without opening a copy whose bytes are here and end as those of most files do."""
    plain = copy.content is not None and spec.layout.compression == "name" and not name.endswith(_PACKED)
    return (plain and copy.content is not None and copy.content.endswith(b"\n")) or has_its_end(copy.path, name, spec)


def has_its_end(path: Path, name: str, spec: SourceSpec) -> bool:
    """Whether the last line of the file has its end; files that have no lines, or no bytes, have."""
    if spec.format not in _OF_LINES:
        return True
    # In UTF-16 and UTF-32 the zero bytes of a line end may come after it.
    try:
        tail = _tail(path, name, spec)
    except (OSError, FileRefused):
        return True  # It waits with others, and cannot be read or has gone: nothing is known of its end.
    return not tail or tail.rstrip(b"\0").endswith((b"\n", b"\r"))


def _tail(path: Path, name: str, spec: SourceSpec) -> bytes:
    file = SourceFile(path, name, accepted=True)
    kind = compression.kind_of(file, spec)
    if kind == "zip":
        return b""
    if kind != "none":
        tail = b""
        for piece in compression.pieces(file, spec):
            tail = (tail + piece)[-_TAIL_BYTES:]
        return tail
    with path.open("rb") as opened:
        size = opened.seek(0, os.SEEK_END)
        opened.seek(max(0, size - _TAIL_BYTES))
        return opened.read()
