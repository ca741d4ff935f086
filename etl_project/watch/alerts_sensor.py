"""The sensor `alerts`, and the check that no day is left failed.

Belongs here: thin Dagster shells. Alerts go to ETL_DELIVERY_URL, else to the log as one warning each. Nothing remembers
what was sent but the delivery log; without an address, the sensor's cursor holds what was logged.
"""

# No `from __future__ import annotations` here: Dagster reads the annotation of `context` as it stands.

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import date, timedelta
from typing import Any, NamedTuple

import dagster as dg

from etl_project import utc
from etl_project.due import Project, keys_in_words, look, red_checks
from etl_project.http_out import ALERT, Delivery, DeliveryFailed, DeliveryRejected, failed_runs
from etl_project.storage import StoreBusy, reported
from etl_project.watch.alerts import Alert, alerts
from etl_project.watch.status import left_open

CHECK = "no_day_left_failed"
_A_TICK = 20
_POSTING_SECONDS = 20.0
"""No alert is begun after so long: with one that takes all of its own time, a tick still ends within its 60 s."""
_RUNS_REMEMBERED = timedelta(days=2)
"""Longer than a failed run is looked for."""


def alerts_sensor(project: Project, delivery: Delivery) -> dg.SensorDefinition:
    """Tells of refused files, files that did not come and red checks, and keeps `no_day_left_failed` up to date.

    Failed runs are logged here where there is no address to post them to (`run_failure_alert` does that). What an
    unreachable receiver did not confirm is an error in the tick's log; the next tick tries again, under the same keys.
    """

    @dg.sensor(
        name="alerts",
        minimum_interval_seconds=30,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=(alerts_sensor.__doc__ or "").split("\n\n", maxsplit=1)[0],
    )
    def tell(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        memory = Memory.of(context.cursor)
        try:
            snapshot = look(project, utc.now(), context.instance, wait=False)
        except StoreBusy as busy:
            return dg.SensorResult(skip_reason=f"A run holds the warehouse; the next tick looks again. {busy}")
        found, unsent = alerts(project, snapshot, red_checks(context.instance, _check_keys(context))), 0
        if delivery.sending is not None:
            told = memory.told
            sent, unsent = _post(delivery, found, context)
        else:
            runs = [_of_run(run) for run in failed_runs(context.instance, set(memory.told))]
            sent = _log([*runs, *found], memory, context)
            told = memory.after(found, sent, snapshot.at.date())
        failed = left_open(project, context.instance, snapshot).failed
        state = {asset: keys_in_words(days) for asset, days in sorted(failed.items())}
        told_before = memory.failed if context.cursor else dict.fromkeys(_checked(project), "not told yet")
        changed = [asset for asset in _checked(project) if state.get(asset) != told_before.get(asset)]
        return dg.SensorResult(
            skip_reason=_summary(len(sent), unsent),
            cursor=json.dumps({"told_of": told, "failed": state}),
            asset_events=[_evaluation(asset, state.get(asset)) for asset in changed],
        )

    return tell


def _check_keys(context: dg.SensorEvaluationContext) -> list[dg.AssetCheckKey]:
    """Every check of the code location."""
    with suppress(dg.DagsterInvariantViolationError):  # Evaluated on its own, outside of a code location.
        if context.repository_def is not None:
            return sorted(context.repository_def.asset_graph.asset_check_keys)
    return []


def left_failed_checks(project: Project) -> list[dg.AssetChecksDefinition]:
    """One check an asset: red while the last attempt at one of its days failed. The sensor tells when that changes."""
    description = "The last attempt at every day that is due went well."
    specs = {
        asset: dg.AssetCheckSpec(CHECK, asset=dg.AssetKey.from_user_string(asset), description=description)
        for asset in _checked(project)
    }
    if not specs:
        return []

    @dg.multi_asset_check(name=CHECK, specs=list(specs.values()), can_subset=True)
    def no_day_left_failed(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
        with reported(context.instance, context.run.run_id):
            snapshot = look(project, utc.now(), context.instance)
        failed = left_open(project, context.instance, snapshot).failed
        for asset, spec in specs.items():
            if spec.key in context.selected_asset_check_keys:
                days = failed.get(asset)
                yield dg.AssetCheckResult(**_result(asset, keys_in_words(days) if days else None))

    return [no_day_left_failed]


class Memory(NamedTuple):
    """What the cursor holds: subjects that were logged, each with its day in ISO form, and the failed days of each
    asset as last told."""

    told: Mapping[str, str]
    failed: Mapping[str, str]

    @classmethod
    def of(cls, cursor: str | None) -> "Memory":
        """A lost cursor only tells the same once more."""
        held = json.loads(cursor) if cursor else {}
        return cls(held.get("told_of", {}), held.get("failed", {}))

    def after(self, found: Sequence[Alert], sent: Sequence[Alert], today: date) -> dict[str, str]:
        """What to remember: everything told that could come up again, however much that is."""
        current = {alert.subject for alert in found}
        since = (today - _RUNS_REMEMBERED).isoformat()
        told = {
            subject: day
            for subject, day in self.told.items()
            if subject in current or (subject.startswith(f"{ALERT}/") and day >= since)
        }
        return told | {alert.subject: alert.day.isoformat() for alert in sent}


def _post(delivery: Delivery, found: Sequence[Alert], context: dg.SensorEvaluationContext) -> tuple[list[Alert], int]:
    """Post what was not posted yet; gives what was, and how many were not confirmed.

    An alert that is refused does not keep the others back; a receiver that does not answer ends the tick.
    """
    sent: list[Alert] = []
    began = time.monotonic()
    with delivery.impatient().open(context.log) as (client, deliveries):
        known = {
            name
            for prefix in ("refused/", "overdue/", "check/")
            for name in deliveries.settled(client.endpoint, prefix)
        }
        left = [alert for alert in found if alert.subject not in known][:_A_TICK]
        for alert in left:
            if time.monotonic() - began > _POSTING_SECONDS:
                break
            try:
                client.deliver(alert.subject, alert.day, alert.content)
                sent.append(alert)
            except DeliveryRejected as refused:
                context.log.error(f"{refused} The alert: {alert.line}")
            except DeliveryFailed as failed:
                context.log.error(str(failed))
                break
    return sent, len(left) - len(sent)


def _summary(sent: int, unsent: int) -> str:
    """What a tick has done, for the list of ticks."""
    if unsent:
        return f"{sent} alerts told, {unsent} not confirmed; the tick's log says why, and the next tick goes on."
    return f"{sent} alerts told" if sent else "Nothing to tell that is not told yet."


def _log(found: Sequence[Alert], memory: Memory, context: dg.SensorEvaluationContext) -> list[Alert]:
    """One warning each for what was not logged yet."""
    sent = [alert for alert in found if alert.subject not in memory.told][:_A_TICK]
    for alert in sent:
        context.log.warning(alert.line)
    return sent


def _of_run(content: Mapping[str, Any]) -> Alert:
    return Alert(f"{ALERT}/{content['run_id']}", utc.day_of(content["failed_at"][:10]), content)


def _checked(project: Project) -> list[str]:
    """The assets whose days can be due."""
    return [node.asset for node in project.nodes if node.source is None]


def _evaluation(asset: str, failed: str | None) -> dg.AssetCheckEvaluation:
    return dg.AssetCheckEvaluation(**_result(asset, failed))


def _result(asset: str, failed: str | None) -> dict[str, Any]:
    return {
        "asset_key": dg.AssetKey.from_user_string(asset),
        "check_name": CHECK,
        "passed": failed is None,
        "description": None
        if failed is None
        else f"The last attempt failed for {failed}; these days keep their last good rows. The run's page says why; "
        "they are asked for again when retrying can help, or when their input or code changes.",
    }
