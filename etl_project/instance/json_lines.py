"""A log record as one line of JSON: what it holds, and how commands write it.

Belongs here: the form, which needs nothing of Dagster, so that a command logs before it loads any. How runs and ticks
come to use it is `json_logs`'s. Every commit is one line of level INFO: it is made from the event that Dagster logs of
it anyway, so it costs nothing and comes exactly as often.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote

from etl_project import settings, utc

METADATA = "dagster_meta"
"""The attribute of a record under which Dagster says what it is about; a test holds it against Dagster's own."""
_MATERIALIZED, _CHECKED = "ASSET_MATERIALIZATION", "ASSET_CHECK_EVALUATION"
_SHORTEST_SECRET = 6
_PASSWORD = re.compile(r"://[^/\s:@]*:([^/\s]+)@|passw(?:or)?d\s*=\s*('[^']*'|[^\s&;]+)", re.IGNORECASE)
"""The password in an address, or among the words of a connection string."""
_ROWS = ("dagster/partition_row_count", "dagster/row_count")
_OF_A_COMMIT = ("rows_before", "rows_added", "rows_removed", "rows_kept", "changed", "fingerprint", "input_hash")


class JsonFormatter(logging.Formatter):
    """A record as one line: time (UTC), level, logger, message, and run id, job, step, asset and day where known.

    Values of environment variables that are secrets by their name are replaced by `***`, wherever they stand.
    """

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        super().__init__()
        self._secrets = secrets(os.environ if environ is None else environ)

    def format(self, record: logging.LogRecord) -> str:
        """One line of JSON, whatever the message holds."""
        fields: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        metadata = getattr(record, METADATA, None)
        if metadata is not None:
            fields |= dict(_of_run(metadata))
        if record.exc_info:
            fields["error"] = self.formatException(record.exc_info)
        return json.dumps({name: self._safe(value) for name, value in fields.items()}, ensure_ascii=False, default=str)

    def _safe(self, value: Any) -> Any:
        return masked(value, self._secrets) if isinstance(value, str) else value


def secrets(env: Mapping[str, str]) -> list[str]:
    """The values of variables that are secrets, and the passwords in addresses among them, the longest first.

    A library may quote the password of an address alone, as it stands there or decoded.
    """
    values = {value for name, value in env.items() if settings.is_secret(name, value)}
    passwords = {match[match.lastindex or 0].strip("'\"") for value in values for match in _PASSWORD.finditer(value)}
    found = values | passwords | {unquote(password) for password in passwords}
    return sorted({value for value in found if len(value) >= _SHORTEST_SECRET}, key=len, reverse=True)


def masked(text: str, secrets: Sequence[str]) -> str:
    """The text with `***` for each of these values, wherever they stand."""
    for secret in secrets:
        text = text.replace(secret, "***")
    return text


class Wanted(logging.Filter):
    """Records of the level or above, every commit and every check that failed."""

    def __init__(self, level: int) -> None:
        super().__init__()
        self._level = level

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is to be a line."""
        metadata = getattr(record, METADATA, None)
        if record.levelno >= self._level or metadata is None:
            return record.levelno >= self._level
        return _commit(metadata) is not None or bool(_failed_check(metadata))


def start_command() -> None:
    """Let a command of `etl` log what libraries and warnings say as JSON lines if the setting says so."""
    if settings.log_format() == "json":
        logging.captureWarnings(True)
        logging.basicConfig(level=logging.WARNING, handlers=[handler(logging.WARNING)], force=True)


def complain(message: str) -> None:
    """Why a command gives up: one line on standard error, in the form that was asked for."""
    if any(isinstance(handler.formatter, JsonFormatter) for handler in logging.getLogger().handlers):
        logging.getLogger("etl").error(message)
    else:
        print(message, file=sys.stderr)  # noqa: T201


def handler(level: int) -> logging.Handler:
    """Writes records of the level or above, and every commit, to standard error."""
    made = logging.StreamHandler(sys.stderr)
    made.setFormatter(JsonFormatter())
    made.addFilter(Wanted(level))
    return made


def _of_run(metadata: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """What Dagster knows about a record of a run, or of a tick, which has a name only."""
    yield "message", metadata["orig_message"]
    for name, known_as in (("tick", "name"), ("run_id", "run_id"), ("job", "job_name"), ("step", "step_key")):
        if metadata.get(known_as):
            yield name, metadata[known_as]
    if days := _days(metadata.get("job_tags", {})):
        yield "days", days
    event = metadata.get("dagster_event")
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
    yield from _failed_check(metadata).items()


def _failed_check(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """What a check that failed says, as an error or, where it only warns, as a warning; nothing for other records."""
    event = metadata.get("dagster_event")
    if event is None or event.event_type_value != _CHECKED or event.event_specific_data.passed:
        return {}
    result = event.event_specific_data
    level = "WARNING" if result.severity.value == "WARN" else "ERROR"
    said = {"check": result.check_name, "asset": result.asset_key.to_user_string(), "said": result.description}
    return {
        "level": level,
        "message": "check failed",
        **said,
        **({"day": result.partition} if result.partition else {}),
    }


def _commit(metadata: Mapping[str, Any]) -> dict[str, Any] | None:
    """What a materialization says of the commit it was made for; None for every other record."""
    event = metadata.get("dagster_event")
    if event is None or event.event_type_value != _MATERIALIZED:
        return None
    known = event.step_materialization_data.materialization.metadata
    if "fingerprint" not in known:
        return None
    names = {**dict.fromkeys(_ROWS, "rows"), **{name: name for name in _OF_A_COMMIT}}
    return {shown: known[name].value for name, shown in names.items() if name in known}


def _days(tags: Mapping[str, str]) -> str | None:
    days = utc.days_of_run(tags)
    return None if days is None else f"{days[0]}...{days[1]}" if days[0] != days[1] else str(days[0])
