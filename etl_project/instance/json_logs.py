"""Logs as JSON lines: one line on standard error for every record, in runs as in commands, when ETL_LOG_FORMAT=json.

Belongs here: what a line holds, and putting it in the place of Dagster's console logger. Every commit is one line of
level INFO: it is made from the event that Dagster logs of it anyway, so it costs nothing and comes exactly as often.

Dagster has no setting for the console logger of ticks, and of runs that name none, like those from the UI, so
`use_json_lines` replaces both by name (tried with dagster 1.13.27, which the project pins). What is neither (webserver,
daemon) logs by `dagster dev --log-format json`.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import dagster as dg
from dagster import _loggers
from dagster._core.definitions import instigation_logger
from dagster._core.log_manager import LOG_RECORD_METADATA_ATTR
from dagster._core.utils import coerce_valid_log_level

from etl_project import settings, utc

_SECRET = re.compile("TOKEN|SECRET|PASSWORD|CREDENTIAL|API_KEY|DELIVERY_URL|_DSN", re.IGNORECASE)
_SHORTEST_SECRET = 6
_ROWS = ("dagster/partition_row_count", "dagster/row_count")
_OF_A_COMMIT = ("rows_before", "rows_added", "rows_removed", "rows_kept", "changed", "fingerprint", "input_hash")


class JsonFormatter(logging.Formatter):
    """A record as one line: time (UTC), level, logger, message, and run id, job, step, asset and day where known.

    Values of environment variables that are secrets by their name are replaced by `***`, wherever they stand.
    """

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        super().__init__()
        env = os.environ if environ is None else environ
        values = (value for name, value in env.items() if _SECRET.search(name))
        self._secrets = sorted({value for value in values if len(value) >= _SHORTEST_SECRET}, key=len, reverse=True)

    def format(self, record: logging.LogRecord) -> str:
        """One line of JSON, whatever the message holds."""
        fields: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        metadata = getattr(record, LOG_RECORD_METADATA_ATTR, None)
        if metadata is not None:
            fields |= dict(_of_run(metadata))
        if record.exc_info:
            fields["error"] = self.formatException(record.exc_info)
        return json.dumps({name: self._safe(value) for name, value in fields.items()}, ensure_ascii=False, default=str)

    def _safe(self, value: Any) -> Any:
        if isinstance(value, str):
            for secret in self._secrets:
                value = value.replace(secret, "***")
        return value


class Wanted(logging.Filter):
    """Records of the level or above, and every commit."""

    def __init__(self, level: int) -> None:
        super().__init__()
        self._level = level

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is to be a line."""
        metadata = getattr(record, LOG_RECORD_METADATA_ATTR, None)
        return record.levelno >= self._level or (metadata is not None and _commit(metadata) is not None)


@dg.logger(
    {"log_level": dg.Field(str, default_value="INFO"), "name": dg.Field(str, default_value="dagster")},
    description="One JSON line on standard error for every record.",
)
def json_lines(context: dg.InitLoggerContext) -> logging.Logger:
    """The console logger of a run."""
    logger = logging.Logger(context.logger_config["name"], logging.DEBUG)
    logger.addHandler(_handler(coerce_valid_log_level(context.logger_config["log_level"])))
    return logger


def use_json_lines() -> None:
    """Let every run and tick of this process log JSON lines if the setting says so. Can be repeated."""
    if settings.log_format() == "json":
        _loggers.colored_console_logger = json_lines
        instigation_logger.create_console_logger = _of_a_tick  # type: ignore[attr-defined]


def start_command() -> None:
    """Let a command of `etl` log what libraries and warnings say as JSON lines if the setting says so."""
    if settings.log_format() == "json":
        logging.captureWarnings(True)
        logging.basicConfig(level=logging.WARNING, handlers=[_handler(logging.WARNING)], force=True)


def run_config(quiet: Mapping[str, Any]) -> Mapping[str, Any]:
    """The run config of a run in a command: quiet, but INFO where the lines are for machines."""
    if settings.log_format() == "json":
        return {"loggers": {"console": {"config": {"log_level": "INFO"}}}}
    return quiet


def complain(message: str) -> None:
    """Why a command gives up: one line on standard error, in the form that was asked for."""
    if any(isinstance(handler.formatter, JsonFormatter) for handler in logging.getLogger().handlers):
        logging.getLogger("etl").error(message)
    else:
        print(message, file=sys.stderr)  # noqa: T201


def _of_a_tick(name: str, level: str | int) -> logging.Logger:
    """The console logger of a sensor or schedule."""
    logger = logging.Logger(name, level)
    logger.addHandler(_handler(coerce_valid_log_level(level)))
    return logger


def _handler(level: int) -> logging.Handler:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    handler.addFilter(Wanted(level))
    return handler


def _of_run(metadata: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """What Dagster knows about a record of a run, or of a tick, which has a name only."""
    yield "message", metadata["orig_message"]
    for name, known_as in (("tick", "name"), ("run_id", "run_id"), ("job", "job_name"), ("step", "step_key")):
        if metadata.get(known_as):
            yield name, metadata[known_as]
    if days := _days(metadata.get("job_tags", {})):
        yield "days", days
    event: dg.DagsterEvent | None = metadata.get("dagster_event")
    if event is None:
        return
    yield "event", event.event_type_value
    if event.asset_key is not None:
        yield "asset", event.asset_key.to_user_string()
    if event.partition is not None:
        yield "day", event.partition
    error = getattr(event.event_specific_data, "error", None)
    if error is not None:
        yield "error", error.to_string()
    if (commit := _commit(metadata)) is not None:
        yield from (("level", "INFO"), ("message", "commit"))
        yield from commit.items()


def _commit(metadata: Mapping[str, Any]) -> dict[str, Any] | None:
    """What a materialization says of the commit it was made for; None for every other record."""
    event: dg.DagsterEvent | None = metadata.get("dagster_event")
    if event is None or event.event_type_value != dg.DagsterEventType.ASSET_MATERIALIZATION.value:
        return None
    known = event.step_materialization_data.materialization.metadata
    if "fingerprint" not in known:
        return None
    names = {**dict.fromkeys(_ROWS, "rows"), **{name: name for name in _OF_A_COMMIT}}
    return {shown: known[name].value for name, shown in names.items() if name in known}


def _days(tags: Mapping[str, str]) -> str | None:
    try:
        days = utc.days_of_run(tags)
    except ValueError:
        return None
    return None if days is None else f"{days[0]}...{days[1]}" if days[0] != days[1] else str(days[0])
