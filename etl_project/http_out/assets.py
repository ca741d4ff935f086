"""What is delivered: the asset that posts a table day by day, and the sensor that posts failed runs.

Belongs here: thin Dagster shells over `DeliveryClient`. Does not belong here: which table is posted (`component`), and
how a delivery is made safe to repeat.

A posted day is a row of a table, written like any other table: its commit says which content it was made from, so a
changed day is due again and an unchanged one is not.
"""

# No `from __future__ import annotations` here: Dagster reads the annotation of `context` as it stands.

from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa

from etl_project import utc
from etl_project.declare import contracts, daily_table
from etl_project.due import attempts
from etl_project.failures import EtlError
from etl_project.http_out.client import (
    DeliveryClient,
    DeliveryFailed,
    DeliveryOutcome,
    DeliveryRejected,
    ReceiverSilent,
)
from etl_project.http_out.resource import Delivery
from etl_project.storage import as_failure, tag_run

ALERT = "run_failure"
_TABLE_IN_CONTRACT = "report_delivery"
_ALERTS_REACH_BACK = timedelta(days=1)
_ALERTS_A_TICK = 20
_LONGEST_MESSAGE = 1000
_PROBLEMS_SHOWN = 10

_SCHEMA = pa.schema(
    [
        ("batch_date", pa.date32()),
        ("delivery_key", pa.string()),
        ("content_hash", pa.string()),
        ("status", pa.int32()),
    ]
)


def delivery_definitions(delivery: Delivery) -> dg.Definitions:
    """The resource always; the sensor only where there is an address to post to."""
    sensors = [] if delivery.sending is None else [run_failure_alert(delivery)]
    return dg.Definitions(sensors=sensors, resources={"delivery": delivery})


def delivery_asset(table: str, name: str, since: date | None = None) -> dg.AssetsDefinition:
    """The daily asset `name` that posts `table`, which has one row a day, once for each content of a day.

    Days before `since` are left alone. It needs the resource `delivery`.
    """

    @daily_table(
        Path(__file__).parent,
        contract=_contract(name),
        name=name,
        group_name="delivery",
        ins={"rows": dg.AssetIn(table)},
        kinds={"http"},
    )
    def delivered(context: dg.AssetExecutionContext, rows: pa.Table, delivery: dg.ResourceParam[Delivery]) -> pa.Table:
        """The day's report, posted to ETL_DELIVERY_URL with at most one effect; one row for each confirmation."""
        days = [row for row in rows.to_pylist() if since is None or row["batch_date"] >= since]
        try:
            with delivery.open(context.log) as (client, _):
                posted = deliver_days(client, table, days, patient=attempts.is_asked_for(context.run))
                outcomes = {row["batch_date"]: outcome for row, outcome in posted}
        except EtlError as error:
            tag_run(context.instance, context.run.run_id, error)
            raise as_failure(error) from error
        return confirmations(outcomes)

    return delivered


def _contract(name: str) -> contracts.TableContract:
    """The contract of the table of confirmations, under its name."""
    sql = (Path(__file__).parent / "contract.sql").read_text(encoding="utf-8")
    return contracts.parse(sql.replace(_TABLE_IN_CONTRACT, name))[name]


def run_failure_alert(delivery: Delivery) -> dg.SensorDefinition:
    """The sensor that posts every run that failed within the last day, once.

    It compares failed runs with confirmed deliveries at every tick. Dagster's own failure sensors move on when their
    function raises, and the alert is lost; here an unreachable receiver makes the tick fail, and the next one tries
    again.
    """

    @dg.sensor(
        name="run_failure_alert",
        minimum_interval_seconds=30,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Posts every failed run to ETL_DELIVERY_URL, once.",
    )
    def sensor(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        with delivery.impatient().open(context.log) as (client, deliveries):
            known = deliveries.settled(client.endpoint, f"{ALERT}/")
            posted = [post_alert(client, alert) for alert in failed_runs(context.instance, known)]
        return dg.SkipReason(f"{len(posted)} failed runs posted" if posted else "No failed run that is not posted yet.")

    return sensor


def deliver_days(
    client: DeliveryClient, report: str, rows: list[dict[str, Any]], *, patient: bool
) -> Iterator[tuple[dict[str, Any], DeliveryOutcome]]:
    """Post each day's row. A day that is refused, or not confirmed, does not keep the others back; a receiver that
    confirms nothing ends it.

    Raises, naming the days at fault, ReceiverSilent where the receiver ended it, DeliveryFailed (retrying helps) where
    any was not confirmed, else DeliveryRejected (it does not). Days that were confirmed before are not posted
    again.
    """
    for day, number in Counter(row["batch_date"] for row in rows).items():
        if number > 1:
            raise DeliveryRejected(
                f"{report} {day}: {number} rows; one a day is delivered. Make one row of them first."
            )
    refused: list[str] = []
    failed: list[str] = []
    for row in rows:
        try:
            yield row, client.deliver(report, row["batch_date"], content(report, row), patient=patient)
        except DeliveryRejected as error:
            refused.append(str(error))
        except DeliveryFailed as error:
            failed.append(str(error))
            if isinstance(error, ReceiverSilent):
                raise ReceiverSilent(_listed([*failed, *refused])) from error
    if failed:
        raise DeliveryFailed(_listed([*failed, *refused]))
    if refused:
        raise DeliveryRejected(_listed(refused))


def _listed(problems: list[str]) -> str:
    more = len(problems) - _PROBLEMS_SHOWN
    return "\n".join([*problems[:_PROBLEMS_SHOWN], *([f"and {more} more days"] if more > 0 else [])])


def content(report: str, row: Mapping[str, Any]) -> dict[str, Any]:
    """A row as JSON content: days and instants as ISO 8601, decimals as text so that no digit is lost."""
    return {"report": report, **{name: _plain(value) for name, value in row.items()}}


def confirmations(outcomes: Mapping[date, DeliveryOutcome]) -> pa.Table:
    """The rows of the table of confirmations."""
    rows = [
        {"batch_date": day, "delivery_key": o.key, "content_hash": o.content_hash, "status": o.status}
        for day, o in sorted(outcomes.items())
    ]
    return pa.Table.from_pylist(rows, schema=_SCHEMA)


def failed_runs(instance: dg.DagsterInstance, known: set[str]) -> list[dict[str, Any]]:
    """Runs that failed within the last day and are not among the `known` alerts, oldest first, as contents to post."""
    since = utc.now() - _ALERTS_REACH_BACK
    failed = dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE], updated_after=since)
    fresh = [r for r in instance.get_run_records(failed, ascending=True) if _alert(r.dagster_run.run_id) not in known]
    return [_described(instance, record) for record in fresh[:_ALERTS_A_TICK]]


def post_alert(client: DeliveryClient, alert: Mapping[str, Any]) -> DeliveryOutcome:
    """Post one alert under a name of its own, so that each run is one delivery."""
    return client.deliver(_alert(alert["run_id"]), date.fromisoformat(alert["failed_at"][:10]), alert)


def _alert(run_id: str) -> str:
    return f"{ALERT}/{run_id}"


def _described(instance: dg.DagsterInstance, record: dg.RunRecord) -> dict[str, Any]:
    """Only what is stored for good: the same run is the same content at every tick."""
    run = record.dagster_run
    failures = instance.all_logs(
        run.run_id, of_type={dg.DagsterEventType.STEP_FAILURE, dg.DagsterEventType.RUN_FAILURE}
    )
    tags = {name: value for name, value in sorted(run.tags.items()) if name.startswith(("dagster/partition", "etl/"))}
    tags |= {name: value for name, value in run.tags.items() if name.startswith("dagster/asset_partition_range")}
    return {
        "alert": "run failed",
        "run_id": run.run_id,
        "job": run.job_name,
        "failed_at": datetime.fromtimestamp(record.end_time or record.update_timestamp.timestamp(), UTC).isoformat(),
        "message": "\n".join(_message(entry) for entry in failures)[:_LONGEST_MESSAGE],
        "tags": tags,
    }


def _message(entry: dg.EventLogEntry) -> str:
    """What went wrong in the step: its first cause, without Dagster's wrapping."""
    event = entry.dagster_event
    if event is None or not event.is_step_failure or event.step_failure_data.error is None:
        return entry.user_message or (event.message if event and event.message else "")
    error = event.step_failure_data.error
    while error.cause is not None:
        error = error.cause
    return f"{event.step_key}: {error.message.strip()}"


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return str(value)
    return value.isoformat() if isinstance(value, date) else value
