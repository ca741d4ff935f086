"""Logs of runs and ticks as JSON lines, when ETL_LOG_FORMAT=json: what takes the place of Dagster's console logger.

Belongs here: the places in Dagster where a logger is chosen. What a line holds is `json_lines`'s.

Dagster has no setting for the console logger of ticks, and of runs that name none, like those from the UI, so
`use_json_lines` replaces both by name (tried with dagster 1.13.27, which the project pins). What is neither (webserver,
daemon) logs by `dagster dev --log-format json`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import dagster as dg
from dagster import _loggers
from dagster._core.definitions import instigation_logger
from dagster._core.utils import coerce_valid_log_level

from etl_project import settings
from etl_project.instance.json_lines import handler


@dg.logger(
    {"log_level": dg.Field(str, default_value="INFO"), "name": dg.Field(str, default_value="dagster")},
    description="One JSON line on standard error for every record.",
)
def json_lines(context: dg.InitLoggerContext) -> logging.Logger:
    """The console logger of a run."""
    logger = logging.Logger(context.logger_config["name"], logging.DEBUG)
    logger.addHandler(handler(coerce_valid_log_level(context.logger_config["log_level"])))
    return logger


def use_json_lines() -> None:
    """Let every run and tick of this process log JSON lines if the setting says so. Can be repeated."""
    if settings.log_format() == "json":
        _loggers.colored_console_logger = json_lines
        instigation_logger.create_console_logger = _of_a_tick  # type: ignore[attr-defined]


def run_config(quiet: Mapping[str, Any]) -> Mapping[str, Any]:
    """The run config of a run in a command: quiet, but INFO where the lines are for machines."""
    if settings.log_format() == "json":
        return {"loggers": {"console": {"config": {"log_level": "INFO"}}}}
    return quiet


def _of_a_tick(name: str, level: str | int) -> logging.Logger:
    """The console logger of a sensor or schedule."""
    logger = logging.Logger(name, level)
    logger.addHandler(handler(coerce_valid_log_level(level)))
    return logger
