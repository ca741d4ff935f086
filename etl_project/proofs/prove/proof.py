"""Proof: the subject rebuilt under different circumstances, and whether all of it is the same.

Belongs here: which circumstances, starting the processes, the verdict. Comparing rows is `compare`'s.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from etl_project import settings
from etl_project.failures import Permanent
from etl_project.proofs.prove import compare, scratch
from etl_project.proofs.prove.subject import Subject
from etl_project.settings import Settings
from etl_project.storage import Commit, Deviation, Store

_ZONES = ("UTC", "Asia/Shanghai", "America/New_York", "Pacific/Apia", "Asia/Kathmandu")
_THREADS = (1, 4, 2, 8)
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "POLARS_MAX_THREADS")
_ELSEWHERE = ("ETL_WAREHOUSE", "ETL_LAKE", "ETL_LOCKS")
_LEFT_OUT = (
    *("DAGSTER_HOME", "ETL_FAULT", "ETL_DELIVERY_", "ETL_KAFKA_", "ETL_RECEIVER_", "PG", "AWS_"),
    *_ELSEWHERE,
)
"""Variables that lead out of the scratch folder."""


class RebuildFailed(Permanent):
    """The day cannot be built on the side. Retrying does not help before its cause is gone."""


class Circumstances(NamedTuple):
    """What differs from rebuild to rebuild, and must make no difference."""

    zone: str
    hash_seed: int
    threads: int
    order: str

    @classmethod
    def of(cls, turn: int) -> Circumstances:
        """Those of the turn, from 0. The order is that of the input's rows."""
        order = ("as stored", "reversed")[turn] if turn < 2 else "shuffled"
        return cls(_ZONES[turn % len(_ZONES)], turn, _THREADS[turn % len(_THREADS)], order)


@dataclass(frozen=True)
class Rebuild:
    """One rebuild; `complaint` is what its failed step said."""

    circumstances: Circumstances
    fingerprint: str | None = None
    rows: int | None = None
    complaint: str | None = None


@dataclass(frozen=True)
class Proof:
    """What came of it. `commit` says how the rebuilds compare with what is committed."""

    asset: str
    day: str
    rebuilds: tuple[Rebuild, ...]
    deviation: Deviation | None
    commit: str
    commit_deviation: Deviation | None = None
    reproducible: bool = field(init=False)

    def __post_init__(self) -> None:
        prints = {rebuild.fingerprint for rebuild in self.rebuilds}
        same = len(prints) == 1 and None not in prints and self.commit_deviation is None
        object.__setattr__(self, "reproducible", same)


def prove(
    subject: Subject,
    targets_in: scratch.TargetsIn,
    real: Settings,
    times: int,
    on_rebuild: Callable[[Rebuild], None] = lambda _: None,
) -> Proof:
    """Rebuild the subject `times` times in fresh processes and compare.

    Nothing outside a temporary folder is written; a kill leaves that folder. Raises StoreBusy (retrying helps) when
    a run holds the warehouse for longer than the wait setting, Missing for a day that there is nothing of.
    """
    _refuse_missing(subject, targets_in, real)
    with tempfile.TemporaryDirectory(prefix="etl-prove-") as folder:
        base = Path(folder) / "base"
        scratch.lay_out(real, _settings(base), subject, targets_in)
        committed = subject.target.store.last_commits([subject.target.asset], [subject.key])
        last = committed.get((subject.target.asset, subject.key))
        kept = _settings(Path(folder) / "committed")
        if last is not None:
            scratch.keep_committed(kept, subject, targets_in)
        built: list[compare.Built] = []
        rebuilds: list[Rebuild] = []
        for turn in range(times):
            place = _settings(Path(folder) / str(turn))
            shutil.copytree(base, place.data_dir, dirs_exist_ok=True)
            rebuild, commit = _rebuilt(subject, place, turn, targets_in)
            on_rebuild(rebuild)
            rebuilds.append(rebuild)
            built += [(_store(subject, place, targets_in), commit)] if commit is not None else []
        return Proof(
            subject.target.asset,
            subject.key,
            tuple(rebuilds),
            compare.among_themselves(subject, built),
            *compare.with_the_commit(subject, last, _store(subject, kept, targets_in), built),
        )


class Missing(Permanent):
    """The day was never built, and nothing is there to build it from. Retrying does not help before a file comes."""


def _refuse_missing(subject: Subject, targets_in: scratch.TargetsIn, real: Settings) -> None:
    """A day that is missing is neither reproducible nor the opposite."""
    stored = {target.asset: target for target in targets_in(real)}
    asked = {subject.target.asset: (subject.key,), **{asset: subject.reads[asset] for asset in subject.reads}}
    there = (stored[asset].store.last_commits([asset], keys) for asset, keys in asked.items() if asset in stored)
    files = ((real.archive / source / subject.key).is_dir() for source in subject.sources)
    if not any(there) and not any(files):
        raise Missing(
            f"{subject.target.asset} of {subject.day} is missing: it was never built, and nothing that it reads is "
            "there. There is nothing to prove."
        )


@contextmanager
def rebuilt_aside(subject: Subject, targets_in: scratch.TargetsIn, real: Settings) -> Iterator[tuple[Store, Commit]]:
    """The subject built once with the code and the inputs as they are now, on the side, for as long as the block lasts.

    Nothing outside a temporary folder is written. Raises RebuildFailed with what the failed step said.
    """
    with tempfile.TemporaryDirectory(prefix="etl-rebuild-") as folder:
        place = _settings(Path(folder))
        scratch.lay_out(real, place, subject, targets_in)
        rebuild, commit = _rebuilt(subject, place, 0, targets_in)
        if commit is None:
            raise RebuildFailed(f"{subject.target.asset} of {subject.key} cannot be built: {rebuild.complaint}")
        yield _store(subject, place, targets_in), commit


def _settings(folder: Path) -> Settings:
    """The settings of a folder on the side. Its warehouse is a DuckDB file and its lake a folder in it, whatever the
    real ones are: the same rows have the same fingerprint in both."""
    aside = {name: value for name, value in os.environ.items() if not name.startswith(_ELSEWHERE)}
    return settings.load({**aside, "ETL_DATA_DIR": str(folder)})


def _rebuilt(
    subject: Subject, place: Settings, turn: int, targets_in: scratch.TargetsIn
) -> tuple[Rebuild, Commit | None]:
    """One rebuild in a process of its own, and the record of what it committed on the side."""
    circumstances = Circumstances.of(turn)
    if turn:
        scratch.mix(place, turn, targets_in)
    result = place.data_dir / "result.json"
    command = [sys.executable, "-W", "ignore", "-m", "etl_project.proofs.prove.rebuild", subject.key]
    command += [str(circumstances.threads), str(result), *(target.asset for target in subject.outputs)]
    done = subprocess.run(command, env=_environment(place, circumstances), capture_output=True, text=True, check=False)
    if not result.is_file():
        said = done.stderr.strip().splitlines()[-1:] or [f"the process ended with {done.returncode}"]
        return Rebuild(circumstances, complaint=said[0]), None
    complaints = json.loads(result.read_text())
    if complaints:
        return Rebuild(circumstances, complaint="\n".join(complaints)), None
    commit = _store(subject, place, targets_in).last_commits([subject.target.asset], [subject.key])
    found = commit[subject.target.asset, subject.key]
    return Rebuild(circumstances, found.fingerprint, found.rows), found


def _environment(place: Settings, circumstances: Circumstances) -> dict[str, str]:
    """The environment of a rebuild: its own circumstances, its own folder, and nothing that leads out of it."""
    temporary = place.data_dir / "tmp"
    temporary.mkdir()
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith(_LEFT_OUT)},
        **dict.fromkeys(_THREAD_VARIABLES, str(circumstances.threads)),
        "ETL_DATA_DIR": str(place.data_dir),
        "TMPDIR": str(temporary),
        "TZ": circumstances.zone,
        "PYTHONHASHSEED": str(circumstances.hash_seed),
    }


def _store(subject: Subject, place: Settings, targets_in: scratch.TargetsIn) -> Store:
    """The store of the subject in another data folder."""
    return scratch.stores(targets_in(place))[subject.target.asset]
