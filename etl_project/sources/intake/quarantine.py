"""Quarantine: refused files, each with a reason file beside it, until somebody has looked.

Belongs here: the layout `quarantine/<source>/<day or undated>/<key>/<name>` with `<key>.json` beside, listing, and
putting a file back. Does not belong here: deciding what is refused (`judge`, `admit`).

The key is a hash of source, day, name and content, so that a repeated refusal lands in the same place. The reason is
written first and the file moved second: there is never a file without a reason, and a reason without its file (a kill
between the two) is not an entry.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, date, datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, BinaryIO, Literal

from etl_project import atomic, faults
from etl_project.failures import Permanent
from etl_project.sources import names
from etl_project.sources.intake import archive, kept, private_copy
from etl_project.sources.intake.scan import CLAIMS
from etl_project.sources.spec import SourceSpec

UNDATED = "undated"
RELEASING = ".releasing"
"""The hidden folder in a drop folder in which a file is made ready to go back."""
NO_ROWS_LEFT = "no rows left"
ROWS_GONE = "rows gone"
SHRINKING = (NO_ROWS_LEFT, ROWS_GONE)
"""The reasons of files that would shrink their day (`shrunk`): they are let in by who says that it is meant."""
_MEANT = ".meant"
"""The hidden folder of marks `<day>-<sha256>`: that content was released although it shrinks its day."""

_KEY_LENGTH = 16

Kind = Literal["refused", "duplicate", "undated"]


class NotReleased(Permanent):
    """The quarantined file cannot be put back; nothing was changed. The message says what to do first."""


@dataclass(frozen=True)
class Reason:
    """Why a file is in quarantine. `name` is text fit to be shown; the file itself carries its exact name.

    `archive_sequence` is the highest of the day when the file was refused: a version accepted later is higher.
    `settled` says that a version was accepted since, or sent once more, so that nothing is open any longer.
    """

    source: str
    key: str
    kind: Kind
    day: date | None
    name: str
    sha256: str
    size_bytes: int
    reason: str
    found: str
    expected: str
    refused_at: datetime
    archive_sequence: int = 0
    settled: bool = False


@dataclass(frozen=True)
class Quarantined:
    """A refused file: why it is here, where it is, and its exact name below the drop folder."""

    reason: Reason
    path: Path
    name: str


def key_of(source: str, day: date | None, name: str, sha256: str) -> str:
    """The key under which this content of this file is quarantined, now and whenever it comes again."""
    parts = [source, str(day), os.fsencode(name).hex(), sha256]
    return hashlib.sha256(json.dumps(parts).encode("ascii")).hexdigest()[:_KEY_LENGTH]


def put(root: Path, reason: Reason, name: str, copy: Path) -> Path:
    """Move `copy` (complete and flushed to disk) into quarantine under its reason; gives its new path.

    Repeatable: the same refusal replaces itself. A kill leaves the copy where it was, or in quarantine as a whole.
    """
    folder = _folder(root, reason)
    atomic.make_folder(folder)
    _write(folder / f"{reason.key}.json", reason)
    faults.reach("quarantine.after_reason")
    target = folder / reason.key / name
    atomic.make_folder(target.parent)
    _move(copy, target)
    faults.reach("quarantine.after_move")
    return target


def listing(root: Path, source: str | None = None, since: datetime | None = None) -> list[Quarantined]:
    """Everything in quarantine (of one source), by source, day and name.

    With `since`, what was last touched before it is passed over, without a look into its reason file.
    """
    sources = [source] if source is not None else sorted(entry.name for entry in _entries(root) if entry.is_dir())
    found = [one for name in sources for one in _of_source(root, name, since)]
    return sorted(found, key=lambda one: (one.reason.source, str(one.reason.day), names.order(one.name)))


def show(root: Path, key: str) -> Quarantined:
    """The entry with this key. Raises NotReleased when there is none."""
    for one in listing(root):
        if one.reason.key == key:
            return one
    raise NotReleased(f"nothing in {root} has the key {key!r}; list the quarantine to see what there is.")


def open_days(root: Path, archive_root: Path, spec: SourceSpec) -> set[date]:
    """Days that are not what their sender meant: a file of theirs was refused and nothing accepted since replaces it.

    A version of the same name accepted later does (any version of the day, where the newest file is the day).
    Duplicates and undated files leave no day open.
    """
    return {
        one.reason.day
        for one in _of_source(root, spec.name)
        if one.reason.day is not None and one.reason.kind == "refused" and not _replaced(one, archive_root, spec)
    }


def settle(root: Path, spec: SourceSpec, day: date | None, name: str) -> None:
    """Note that a version of this file is accepted, or was sent again: what was refused of it is no longer open."""
    for one in _of_day(root / spec.name / (UNDATED if day is None else day.isoformat())):
        if not one.reason.settled and _is_of(name, one.name, spec):
            _write(_folder(root, one.reason) / f"{one.reason.key}.json", replace(one.reason, settled=True))


def chosen(
    root: Path, keys: Sequence[str] = (), source: str | None = None, matching: str | None = None
) -> list[Quarantined]:
    """The entries with these keys, or all of a source, of a name like `matching` (as in a shell), or of both; of all
    without any. The newest refusal comes first.

    Raises NotReleased naming every key that is unknown.
    """
    found = listing(root, source)
    unknown = sorted(set(keys) - {one.reason.key for one in found})
    if unknown:
        shown = ", ".join(map(repr, unknown))
        raise NotReleased(f"nothing in {root} has the key {shown}; list the quarantine to see what there is.")
    fitting = (
        one
        for one in found
        if (not keys or one.reason.key in keys) and (matching is None or fnmatchcase(one.reason.name, matching))
    )
    return sorted(fitting, key=lambda one: one.reason.refused_at, reverse=True)


def still_open(root: Path, archive_root: Path, spec: SourceSpec) -> list[Quarantined]:
    """What is left to be looked at, by day and name: entries that no version accepted since replaces."""
    found = listing(root, spec.name)
    return [
        one
        for one in found
        if (not one.reason.settled if one.reason.day is None else not _replaced(one, archive_root, spec))
    ]


def discard(root: Path, one: Quarantined) -> None:
    """Remove a refused file for good, with its reason; its day is open no longer. A kill leaves both, or no entry.

    Of two that discard it at once, both do: what is gone is what was wanted.
    """
    no_longer_meant(root, one.reason.source, one.reason.day, one.reason.sha256)
    _remove(root, one)


def _remove(root: Path, one: Quarantined) -> None:
    folder = _folder(root, one.reason)
    while os.path.lexists(folder / one.reason.key):
        with suppress(FileNotFoundError):  # Another one removes it as well, just now.
            shutil.rmtree(folder / one.reason.key)
    (folder / f"{one.reason.key}.json").unlink(missing_ok=True)


def release(root: Path, key: str, incoming_root: Path) -> Path:
    """Put the file back where it came from, to be judged anew; gives its path there.

    A file that would shrink its day is taken in then, whoever comes first: a sensor, or a drain that allows it.

    Raises NotReleased (retrying does not help) when the key is unknown or another file has its place. Repeatable: a
    kill leaves the file in quarantine, in both places, or back, and perhaps a copy that the next receiving removes.
    """
    one = show(root, key)
    marked = one.reason.reason in SHRINKING and _mean(root, one.reason)
    try:
        target = _put_back(root, one, incoming_root)
    except BaseException:
        if marked:
            no_longer_meant(root, one.reason.source, one.reason.day, one.reason.sha256)
        raise
    faults.reach("quarantine.release.back")
    if _is_the_same(root, one):
        _remove(root, one)
    return target


def _put_back(root: Path, one: Quarantined, incoming_root: Path) -> Path:
    """A copy of the file in the drop folder, complete and flushed to disk; its path there."""
    drop = incoming_root / one.reason.source
    atomic.make_folder(drop / RELEASING)
    staged = atomic.temporary_sibling(drop / RELEASING / one.reason.key)
    try:
        with _opened(root, one) as source, private_copy.locked(staged) as copy:
            shutil.copyfileobj(source, copy)
            copy.flush()
            os.fsync(copy.fileno())
            faults.reach("quarantine.release.staged")
            target = _handed_back(staged, drop, one)
    finally:
        staged.unlink(missing_ok=True)
    atomic.sync_folder(target.parent)
    return target


def _opened(root: Path, one: Quarantined) -> BinaryIO:
    try:
        return one.path.open("rb")
    except FileNotFoundError:
        gone = f"{names.shown(one.name)} is not in {root} any more: another one released or discarded it meanwhile."
        raise NotReleased(gone) from None


def is_meant(root: Path, source: str, day: date | None, sha256: str) -> bool:
    """Whether somebody released this content, which would shrink the day, and it was not taken in since."""
    return _mark_of(root, source, day, sha256).exists()


def no_longer_meant(root: Path, source: str, day: date | None, sha256: str = "") -> None:
    """From now on this content is refused again where it would shrink the day; without one, whatever would."""
    for mark in _entries(root / source / _MEANT):
        if mark.name.startswith(f"{day}-{sha256}"):
            Path(mark.path).unlink(missing_ok=True)


def _mean(root: Path, reason: Reason) -> bool:
    """Mark that the content may shrink its day, before a sensor can see it; False where it was marked already."""
    mark = _mark_of(root, reason.source, reason.day, reason.sha256)
    if mark.exists():
        return False
    atomic.make_folder(mark.parent)
    mark.touch()
    return True


def _mark_of(root: Path, source: str, day: date | None, sha256: str) -> Path:
    return root / source / _MEANT / f"{day}-{sha256}"


def sweep(drop: Path) -> None:
    """Remove the copies that killed releases have left in the drop folder."""
    private_copy.sweep(drop / RELEASING)


def _handed_back(staged: Path, drop: Path, one: Quarantined) -> Path:
    """The copy in its place in the drop folder, or in a claim (`removal`): on a file system without hard links, and
    where the file that has the name was taken in and is kept. Either way it is a new file, which is judged again
    whatever became of the one before, and no file that a sender puts there meanwhile is ever replaced.
    """
    target = drop / one.name
    atomic.make_folder(target.parent)
    try:
        os.link(staged, target)
    except OSError:
        if not os.path.lexists(target) or _is_kept(drop, target, one.name):
            target = drop / CLAIMS / one.reason.key / one.name
            atomic.make_folder(target.parent)
            os.rename(staged, target)
        elif _sha256(target) != one.reason.sha256:
            message = f"{names.shown(str(target))} waits already; let it be taken in, or move it away, then release."
            raise NotReleased(message) from None
    return target


def _is_kept(drop: Path, target: Path, name: str) -> bool:
    """Whether the file that has the name was taken in and has not changed since."""
    with suppress(FileNotFoundError):
        return kept.identity(os.lstat(target), name) in kept.marks(os.fspath(drop))
    return False


def _is_the_same(root: Path, one: Quarantined) -> bool:
    """Whether it has not been refused anew meanwhile: that refusal has the same key, and the only copy of the file."""
    with suppress(FileNotFoundError):
        return _load(_folder(root, one.reason) / f"{one.reason.key}.json").refused_at == one.reason.refused_at
    return False


def _replaced(one: Quarantined, archive_root: Path, spec: SourceSpec) -> bool:
    if one.reason.settled or one.reason.day is None:
        return True
    return any(
        version.sequence > one.reason.archive_sequence and _is_of(version.name, one.name, spec)
        for version in archive.accepted(archive_root, spec, one.reason.day)
    )


def _is_of(name: str, other: str, spec: SourceSpec) -> bool:
    """Whether a version of the one is a version of the other."""
    return spec.files_per_day == "latest" or spec.version_of(name)[0] == spec.version_of(other)[0]


def _of_source(root: Path, source: str, since: datetime | None = None) -> Iterator[Quarantined]:
    for day in _entries(root / source):
        if day.is_dir(follow_symlinks=False):
            yield from _of_day(Path(day.path), since)


def _of_day(folder: Path, since: datetime | None = None) -> Iterator[Quarantined]:
    for entry in _entries(folder):
        key, _, suffix = entry.name.partition(".")
        with suppress(FileNotFoundError):  # It was released or discarded meanwhile.
            if since is not None and entry.stat().st_mtime < since.timestamp():
                continue
            if suffix == "json" and len(key) == _KEY_LENGTH:
                yield from _entry(folder, key, _load(Path(entry.path)))


def _entry(folder: Path, key: str, reason: Reason) -> Iterator[Quarantined]:
    for parent, _, files in os.walk(folder / key):
        for file in files:
            if not file.startswith(atomic.TEMPORARY_PREFIX):
                path = Path(parent, file)
                yield Quarantined(reason, path, str(path.relative_to(folder / key)))


def _folder(root: Path, reason: Reason) -> Path:
    return root / reason.source / (UNDATED if reason.day is None else reason.day.isoformat())


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except FileNotFoundError:
        return []


def _write(path: Path, reason: Reason) -> None:
    content = asdict(reason) | {
        "day": None if reason.day is None else reason.day.isoformat(),
        "refused_at": reason.refused_at.astimezone(UTC).isoformat(),
    }
    with atomic.replacing(path, "quarantine.reason") as temporary:
        temporary.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _load(path: Path) -> Reason:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    content["day"] = None if content["day"] is None else date.fromisoformat(content["day"])
    content["refused_at"] = datetime.fromisoformat(content["refused_at"])
    return Reason(**{field.name: content[field.name] for field in fields(Reason)})


def _move(source: Path, target: Path) -> None:
    """Rename; to another file system: copy, flush, rename there, and remove the source last."""
    try:
        os.rename(source, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        with atomic.replacing(target, "quarantine.move") as temporary:
            shutil.copyfile(source, temporary)
        with suppress(FileNotFoundError):
            source.unlink()
    atomic.sync_folder(target.parent)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
