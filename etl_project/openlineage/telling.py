"""Telling: which runs have ended and were not told yet, and posting their OpenLineage events.

Belongs here: what was told, the HTTP transport, and what a refusal means. A run is told after its end, by the sensor or
the command that comes next, so that no run waits for a receiver or fails with it, and a receiver that was away for a
while gets everything afterwards. What was told stands in Dagster's storage; losing it tells a day's runs once more, as
the same events. At least once, in the order in which the runs began.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

import dagster as dg

from etl_project import settings, utc
from etl_project.instance import json_lines

if TYPE_CHECKING:
    from openlineage.client.transport.http import HttpTransport

_CURSOR = "etl/openlineage"
_REACHES_BACK = timedelta(days=1)
"""Where nothing was told yet: what is older is no news."""
_OVERLAP = timedelta(hours=1)
"""Runs that end while others are looked for, on machines with other clocks, are found by the next look."""
_SECONDS = 20.0
_ONE_REQUEST_SECONDS = 5.0
_WRONG_EVENT = (400, 413, 422)
"""The receiver says that it will never take this one. Everything else may be put right, by somebody or by itself."""
_ENDED = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]


class Told(NamedTuple):
    """What a look at the runs came to: how many were told, how many are left, and what went wrong, in words."""

    runs: int
    left: int
    problems: tuple[str, ...] = ()


def tell(
    instance: dg.DagsterInstance,
    configured: settings.Settings,
    columns: Mapping[str, dg.TableSchema],
    seconds: float = _SECONDS,
) -> Told:
    """Tell of every run that has ended and was not told yet, for so many seconds; the next call goes on from there.

    A receiver that does not answer, or refuses everything, is a problem in words, and never an error. An event that it
    refuses for good is passed over and named.
    """
    memory = _Memory.of(instance)
    fresh = [one for one in _ended(instance, memory.since) if one.dagster_run.run_id not in memory.told]
    if not fresh:
        return Told(0, 0)
    transport, until = _transport(configured), time.monotonic() + seconds
    done: list[dg.RunRecord] = []
    problems: list[str] = []
    try:
        for record in fresh:
            if time.monotonic() > until:
                break
            stopped, passed_over = _post(transport, instance, record, configured, columns)
            problems += [*passed_over, *([stopped] if stopped else [])]
            if stopped:
                break
            done.append(record)
    finally:
        transport.close()
        memory.after(done, fresh[len(done) :]).keep(instance)
    return Told(len(done), len(fresh) - len(done), tuple(problems))


def after_command(instance: dg.DagsterInstance, configured: settings.Settings, specs: Iterable[dg.AssetSpec]) -> None:
    """Tell of the runs that a command has made, where events are asked for; a problem is a line on standard error."""
    if configured.openlineage_url is not None:
        for problem in tell(instance, configured, columns_of(specs)).problems:
            json_lines.complain(f"etl: {problem}")


def columns_of(specs: Iterable[dg.AssetSpec]) -> dict[str, dg.TableSchema]:
    """The columns that assets are declared with."""
    found = {one.key.to_user_string(): one.metadata.get("dagster/column_schema") for one in specs}
    schemas = {asset: getattr(schema, "schema", schema) for asset, schema in found.items()}
    return {asset: schema for asset, schema in schemas.items() if isinstance(schema, dg.TableSchema)}


def _post(
    transport: HttpTransport,
    instance: dg.DagsterInstance,
    record: dg.RunRecord,
    configured: settings.Settings,
    columns: Mapping[str, dg.TableSchema],
) -> tuple[str | None, list[str]]:
    """Post the events of a run; why it stopped, if it did, and what was passed over."""
    import requests  # noqa: PLC0415  # Comes with the client.

    from etl_project.openlineage import events  # noqa: PLC0415  # Needs an extra.

    passed_over: list[str] = []
    for event in events.of_run(instance, record, configured.openlineage_namespace, columns):
        what = f"The OpenLineage event {event.eventType.value if event.eventType else ''} of {event.job.name}"
        what += f" in run {record.dagster_run.run_id}"
        try:
            transport.emit(event)
        except requests.HTTPError as error:
            status = None if error.response is None else error.response.status_code
            if status not in _WRONG_EVENT:
                return (
                    f"{what} was answered with {status} by {settings.OPENLINEAGE_URL}; it is sent again.",
                    passed_over,
                )
            passed_over.append(f"{what} was refused with {status} and is passed over.")
        except requests.RequestException as error:
            # What requests says of an error has the address in it.
            return (
                f"{what} did not reach {settings.OPENLINEAGE_URL}: {type(error).__name__}; it is sent again.",
                passed_over,
            )
    return None, passed_over


def _transport(configured: settings.Settings) -> HttpTransport:
    """One attempt a request: the next tick is the retry."""
    from openlineage.client.transport.http import (  # noqa: PLC0415  # Needs an extra.
        ApiKeyTokenProvider,
        HttpConfig,
        HttpTransport,
        TokenProvider,
    )

    # The client's own log says every address and every answer.
    logging.getLogger("openlineage").setLevel(logging.CRITICAL)
    key = configured.openlineage_key
    auth = ApiKeyTokenProvider({"api_key": key}) if key else TokenProvider({})
    retry: dict[str, Any] = {"total": 0}
    return HttpTransport(
        HttpConfig(url=str(configured.openlineage_url), timeout=_ONE_REQUEST_SECONDS, auth=auth, retry=retry)
    )


def _ended(instance: dg.DagsterInstance, since: datetime) -> list[dg.RunRecord]:
    """Runs that ended since, in the order in which they were made. Tags that come later make no run end again."""
    found = instance.get_run_records(dg.RunsFilter(statuses=_ENDED, updated_after=since), ascending=True)
    return [one for one in found if _end(one) >= since]


def _end(record: dg.RunRecord) -> datetime:
    return datetime.fromtimestamp(record.end_time, UTC) if record.end_time else record.update_timestamp


class _Memory(NamedTuple):
    """From when on runs are looked at, and those of them that were told."""

    since: datetime
    told: Mapping[str, datetime]

    @classmethod
    def of(cls, instance: dg.DagsterInstance) -> _Memory:
        text = instance.daemon_cursor_storage.get_cursor_values({_CURSOR}).get(_CURSOR)
        if text is None:
            return cls(utc.now() - _REACHES_BACK, {})
        held = json.loads(text)
        told = {run_id: datetime.fromisoformat(ended) for run_id, ended in held["told"].items()}
        return cls(datetime.fromisoformat(held["since"]), told)

    def after(self, done: Iterable[dg.RunRecord], left: Iterable[dg.RunRecord]) -> _Memory:
        """The memory once some runs were told; nothing that is left is ever before it."""
        told = {**self.told, **{one.dagster_run.run_id: _end(one) for one in done}}
        newest = max(told.values(), default=self.since) - _OVERLAP
        since = max(self.since, min([newest, *map(_end, left)]))
        return _Memory(since, {run_id: ended for run_id, ended in told.items() if ended >= since})

    def keep(self, instance: dg.DagsterInstance) -> None:
        told = {run_id: ended.isoformat() for run_id, ended in self.told.items()}
        text = json.dumps({"since": self.since.isoformat(), "told": told})
        instance.daemon_cursor_storage.set_cursor_values({_CURSOR: text})
