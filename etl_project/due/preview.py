"""Preview: what a drain would build now, what becomes due after that, and why; nothing is changed.

Belongs here: putting what `pending` found, what became of earlier runs, and what lies in the drop folders side by side
for a person. Does not belong here: deciding what is due (`pending`), which runs are tried again (`attempts`), printing
(`cli.plan`).

What becomes due later is found by the same pure functions, as if every run before it had gone well, and rows that are
built again were others; a run that brings the same rows ends its branch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Literal, NamedTuple

from etl_project.due import attempts, words
from etl_project.due.drain import Wish, ahead
from etl_project.due.execution import Deployment
from etl_project.due.graph import Key, in_dependency_order
from etl_project.due.pending import Cause, Due
from etl_project.due.snapshot import Snapshot
from etl_project.sources import SourceSpec, archive, scan, shown
from etl_project.storage import asked_again

Kind = Literal["new", "new version", "the same again", "gone"]


class File(NamedTuple):
    """A file that waits, and what it is to what was accepted of its day: a kind of `Kind`."""

    name: str
    day: date
    size_bytes: int
    kind: Kind


@dataclass(frozen=True)
class Step:
    """Partitions of one asset that are built for the same reason: `committed` of them have `rows` rows by now.

    `files` are those that wait, where the asset takes files in.
    """

    asset: str
    keys: Sequence[Key]
    cause: Cause
    committed: int
    rows: int
    files: Sequence[File] = ()


@dataclass(frozen=True)
class Preview:
    """What is ahead: the runs that would be made `now`, and what is built `after` them.

    `given_up` failed for good and wait for other input or code; `waits` are lines on what is not asked for. `notices`
    are lines on what lies in the drop folders and is not taken in, or is lost; `to_look_at` of them need a person.
    """

    runs: Sequence[attempts.Part]
    given_up: Sequence[Due]
    now: Sequence[Step]
    after: Sequence[Step]
    waits: Sequence[str]
    to_look_at: Sequence[str]
    notices: Sequence[str]


def preview(deployment: Deployment, snapshot: Snapshot, wish: Wish) -> Preview:
    """What `drain` with this wish would do in this snapshot. Reads files that may be the same again, writes nothing.

    Raises NoSuchAsset (retrying does not help).
    """
    found = ahead(deployment, snapshot, wish)
    parts = attempts.in_parts(deployment.instance, found.due, patience=1)
    given_up = [part.due for part in parts if part.until == attempts.NEVER and not wish.for_good_too]
    left = {(asset, key) for one in given_up for asset in one.assets for key in one.keys}
    later = ahead(deployment, snapshot, wish, eventually=True, given_up=left)
    now = {
        asset: {key: cause for key, cause in causes.items() if (asset, key) not in left}
        for asset, causes in found.causes.items()
    }
    after = {
        asset: {key: cause for key, cause in causes.items() if key not in found.causes.get(asset, {})}
        for asset, causes in later.causes.items()
    }
    return Preview(
        [part for part in parts if part.due not in given_up],
        given_up,
        _steps(deployment, snapshot, now),
        _steps(deployment, snapshot, after),
        list(words.of_held(found)),
        [*snapshot.unreadable.values(), *snapshot.passed_over, *snapshot.lost, *_undated(snapshot)],
        [*snapshot.being_written, *_waiting_for_something(snapshot), *snapshot.gone_in_words],
    )


def _undated(snapshot: Snapshot) -> Iterator[str]:
    for source, files in snapshot.undated.items():
        for file in files:
            yield f"{source}: {shown(file.entry.name)} goes to quarantine: {file.reason}"


def _waiting_for_something(snapshot: Snapshot) -> Iterator[str]:
    """What is in the drop folders and belongs to no run of days yet."""
    for source, found in snapshot.scans.items():
        if found.unsettled:
            yield f"{source}: {found.unsettled} files are still being written, or too young to be touched"
        for file in found.early:
            yield f"{source}: {shown(file.name)} waits for its day, {file.day}"
    for source, files in snapshot.many_days.items():
        yield f"{source}: {len(files)} files say their days in their rows: they are taken in first, then days are due"


def rebuilt(deployment: Deployment, snapshot: Snapshot, runs: Iterable[Due]) -> list[Step]:
    """What these runs build, as the steps of somebody's asking."""
    causes: dict[str, dict[Key, Cause]] = {}
    for one in runs:
        for asset in one.assets:
            causes.setdefault(asset, {}).update(dict.fromkeys(one.keys, Cause("asked")))
    return _steps(deployment, snapshot, causes)


def after_rebuild(deployment: Deployment, snapshot: Snapshot, runs: Iterable[Due]) -> list[Step]:
    """What is built of these partitions, and so becomes due once they are built again and have other rows."""
    asked = {(asset, key) for one in runs for asset in one.assets for key in one.keys}
    again = {
        which: head._replace(input_hash=asked_again(head.input_hash))
        for which, head in snapshot.commits.items()
        if which in asked
    }
    downstream = {asset for asset, _ in asked}
    for node in in_dependency_order(deployment.project.nodes):
        if downstream.intersection(node.upstream):
            downstream.add(node.asset)
    there = ahead(deployment, snapshot, Wish(), eventually=True)
    later = ahead(deployment, replace(snapshot, commits={**snapshot.commits, **again}), Wish(), eventually=True)
    days = {key for _, key in asked}

    def known(asset: str, key: Key, cause: Cause) -> bool:
        """Whether it is due anyway, for the same reason."""
        return key not in days and there.causes.get(asset, {}).get(key) == cause

    follows = {
        asset: {key: why for key, why in causes.items() if (asset, key) not in asked and not known(asset, key, why)}
        for asset, causes in later.causes.items()
        if asset in downstream
    }
    return _steps(deployment, snapshot, follows)


def _steps(deployment: Deployment, snapshot: Snapshot, causes: Mapping[str, Mapping[Key, Cause]]) -> list[Step]:
    """The partitions by asset and cause, upstream first."""
    sources = {spec.name: spec for spec in deployment.project.sources}
    steps = []
    for node in in_dependency_order(deployment.project.nodes):
        by_cause: dict[Cause, list[Key]] = {}
        for key, cause in causes.get(node.asset, {}).items():
            by_cause.setdefault(cause, []).append(key)
        for cause, keys in by_cause.items():
            keys.sort(key=str)
            heads = [head for key in keys if (head := snapshot.commits.get((node.asset, key))) is not None]
            files = _files(deployment, snapshot, sources[node.source], keys) if node.source else []
            steps.append(Step(node.asset, keys, cause, len(heads), sum(head.rows for head in heads), files))
    return steps


def _files(deployment: Deployment, snapshot: Snapshot, spec: SourceSpec, days: Collection[Key]) -> list[File]:
    by_day: dict[date, list[scan.Waiting]] = {}
    for file in snapshot.scans[spec.name].waiting:
        if file.day in days:
            by_day.setdefault(file.day, []).append(file)
    root = deployment.project.settings.archive
    found = []
    for day, files in by_day.items():
        there = archive.Day(root, spec, day)
        found += [File(file.name, day, file.size, _kind(file, there)) for file in files]
    return found


def _kind(file: scan.Waiting, there: archive.Day) -> Kind:
    """What a file is to the archive of its day. Only one of the same size is read."""
    before = there.current(file.name)
    if before is None:
        return "new"
    try:
        if before.path.stat().st_size == file.size and _sha256(Path(file.path)) == before.sha256:
            return "the same again"
    except OSError:  # Somebody takes it in, or its sender takes it back, at this moment.
        return "gone" if not Path(file.path).exists() else "new version"
    return "new version"


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
