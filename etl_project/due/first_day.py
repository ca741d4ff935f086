"""The first day: where the set of days begins, derived from the data that is there.

Without ETL_START_DATE the days begin with the data, so that a catalog shows days with data instead of years without.
Belongs here: finding the earliest day of archive, lake, quarantine, waiting files and commit records, cheaply, when the
project is loaded. Nothing is opened for writing and nobody is waited for. What is committed for a week or a month says
nothing: it stands under the day on which that begins. Which assets have those, the load before has remembered. An
earlier file makes the set longer at the next load; no day that holds anything ever leaves it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import date, datetime, timedelta
from pathlib import Path
from urllib.parse import unquote

import duckdb

from etl_project import atomic, utc
from etl_project.declare import lake, warehouse
from etl_project.settings import Settings
from etl_project.sources import SourceSpec, scan
from etl_project.storage import StoreBusy, StoreUnavailable

_OLD_ENOUGH = timedelta(hours=1)
"""A file that is too young to be touched has settled by the time its day is asked for."""
_LAKE_PREFIX = "batch_date="
_REMEMBERED = "first_day.json"
_REMEMBERED_OF_LAKE = "first_day_of_lake.json"
_WITHOUT_DAYS = "assets_without_days.json"
_FIRST_COMMIT = (
    "SELECT min(try_cast(partition_key AS DATE)) FROM etl_commits "
    "WHERE regexp_full_match(partition_key, '[0-9]{4}-[0-9]{2}-[0-9]{2}') AND NOT list_contains($others, asset)"
)


def of(settings: Settings, sources: Iterable[SourceSpec], now: datetime) -> date:
    """The first day (UTC) of the project: ETL_START_DATE, else that of the earliest data, not before `start_date`.

    Where there is no data at all, it is `start_date`: whatever comes first has a day then.
    """
    if not settings.begins_with_data:
        return settings.start_date
    known = (day for day in _days(settings, sources, now) if settings.start_date <= day <= now.date())
    return min(known, default=settings.start_date)


def remember_without_days(settings: Settings, has_days: Mapping[str, bool]) -> None:
    """Keep which assets have other partitions than days, for the next load: what they hold begins before the data does.

    One that is no longer declared is what it was.
    """
    gone = {asset for asset in _without_days(settings) if asset not in has_days}
    named = sorted(gone.union(asset for asset, has in has_days.items() if not has))
    if named != _without_days(settings):
        with suppress(OSError), atomic.replacing(settings.cache / _WITHOUT_DAYS, "first-day") as temporary:
            temporary.write_text(json.dumps(named))


def _without_days(settings: Settings) -> list[str]:
    try:
        return [str(asset) for asset in json.loads((settings.cache / _WITHOUT_DAYS).read_text())]
    except (OSError, ValueError, TypeError):
        return []


def _days(settings: Settings, sources: Iterable[SourceSpec], now: datetime) -> Iterator[date]:
    for spec in sources:
        yield from _named(settings.archive / spec.name)
        yield from _named(settings.quarantine / spec.name)
        with suppress(scan.CannotList):
            found = scan.scan(settings.incoming / spec.name, spec, now + _OLD_ENOUGH)
            yield from (file.day for file in found.waiting)
            if found.many_days:
                yield settings.start_date  # Its rows may be of any day.
    yield from _in_lake(settings)
    committed = _first_commit(settings)
    if committed is not None:
        yield committed


def _in_lake(settings: Settings) -> Iterator[date]:
    """The days of the lake's files; of a bucket the first one of each asset, as of the last time that it answered."""
    if isinstance(settings.lake, Path):
        others = set(_without_days(settings))
        for asset in _folders(settings.lake):
            if unquote(asset) not in others:
                yield from _named(settings.lake / asset, _LAKE_PREFIX)
        return
    path = settings.cache / _REMEMBERED_OF_LAKE
    try:
        keys = lake(settings).first_keys()
    except StoreUnavailable:
        remembered = _remembered(path) or {}
        keys = [str(remembered.get("first"))] if remembered.get("warehouse") == settings.lake else []
    else:
        first = min((key for key in keys if utc.is_day(key)), default=None)
        if first is not None:
            _remember(path, {"warehouse": settings.lake, "first": first})
    yield from (utc.day_of(key) for key in keys if utc.is_day(key))


def _named(folder: Path, prefix: str = "") -> Iterator[date]:
    """The days that folders in this one are named after."""
    for name in _folders(folder):
        if name.startswith(prefix):
            with suppress(ValueError):
                yield utc.day_of(name.removeprefix(prefix))


def _folders(folder: Path) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError:  # Not there, or unreadable: who works with it says so.
        return []


def _first_commit(settings: Settings) -> date | None:
    """The earliest day of a commit record in the warehouse, asked for once for each state of the file.

    While a run holds the file, or nobody answers, the last answer is good enough: a run only adds days that something
    above names too.
    """
    try:
        state = _state(settings)
    except OSError:
        return None
    remembered, others = _remembered(settings.cache / _REMEMBERED), _without_days(settings)
    is_of_this = remembered is not None and remembered.get("without", []) == others
    if remembered is not None and is_of_this and remembered["warehouse"] == state is not None:
        return _day(remembered["first"])
    try:
        first = _asked(settings, others)
    except (StoreBusy, StoreUnavailable, duckdb.Error):
        return _day(remembered["first"]) if remembered is not None else None
    known: dict[str, object] = {"warehouse": state, "without": others, "first": first and first.isoformat()}
    _remember(settings.cache / _REMEMBERED, known)
    return first


def _state(settings: Settings) -> list[int] | None:
    """What changes with the warehouse; None for one of which only itself can tell. Raises OSError without a file."""
    if settings.warehouse_url is not None:
        return None
    stat = settings.warehouse.stat()
    return [stat.st_mtime_ns, stat.st_size]


def _asked(settings: Settings, others: list[str]) -> date | None:
    with warehouse(settings, wait_seconds=0).look() as connection:
        if connection is None:
            return None
        tables = connection.execute("SELECT 1 FROM duckdb_tables() WHERE table_name = 'etl_commits'").fetchone()
        found = connection.execute(_FIRST_COMMIT, {"others": others}).fetchone() if tables else None
        return found[0] if found else None


def _remembered(path: Path) -> dict[str, object] | None:
    try:
        found = json.loads(path.read_text())
        return found if {"warehouse", "first"} <= found.keys() else None
    except (OSError, ValueError, AttributeError):
        return None


def _remember(path: Path, answer: dict[str, object]) -> None:
    """A cache only makes loading faster: where it cannot be written, nothing is lost."""
    with suppress(OSError), atomic.replacing(path, "first-day") as temporary:
        temporary.write_text(json.dumps(answer))


def _day(text: object) -> date | None:
    return utc.day_of(text) if isinstance(text, str) else None
