"""Settings of the broker: where it is and how to log in, from the environment alone: no secret is in the project.

Belongs here: reading and checking ETL_KAFKA_BOOTSTRAP and ETL_KAFKA_CONFIG. Does not belong here: connecting.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from etl_project.settings import SettingsError

BOOTSTRAP, CONFIG = "ETL_KAFKA_BOOTSTRAP", "ETL_KAFKA_CONFIG"
OWNED = (
    "auto.offset.reset",
    "bootstrap.servers",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "enable.partition.eof",
    "group.id",
    "group.protocol",
    "isolation.level",
    "partition.assignment.strategy",
)
"""What no file may set: these keep every message landed, and come from the project, the source or the environment."""


@dataclass(frozen=True)
class Broker:
    """Where the brokers are; `options` are librdkafka's, passwords among them, and are never shown."""

    bootstrap: str
    options: Mapping[str, str] = field(default_factory=dict, repr=False)


def is_configured(environ: Mapping[str, str] | None = None) -> bool:
    """Whether the environment names a broker at all."""
    return bool((os.environ if environ is None else environ).get(BOOTSTRAP))


def load(environ: Mapping[str, str] | None = None) -> Broker:
    """The broker that the environment names, or one clear line that says what is missing (SettingsError)."""
    env = os.environ if environ is None else environ
    bootstrap = env.get(BOOTSTRAP)
    if not bootstrap:
        raise SettingsError(f"{BOOTSTRAP} is not set; name the brokers, like localhost:9092 or host1:9092,host2:9092.")
    path = env.get(CONFIG)
    options = options_in(CONFIG, path) if path else {}
    owned = sorted(set(options) & set(OWNED))
    if owned:
        raise SettingsError(f"{CONFIG}={path} sets {', '.join(owned)}, which the landing sets itself; remove it there.")
    return Broker(bootstrap, options)


def options_in(setting: str, file: str) -> dict[str, str]:
    """The options in the file that a setting names: NAME=VALUE lines, or a JSON object. Raises SettingsError.

    No message repeats what stands in the file: it may be a password.
    """
    path = Path(file)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise SettingsError(f"{setting}={path} cannot be read: {reason}; name a file of NAME=VALUE lines.") from None
    if path.suffix == ".json":
        return _from_json(setting, path, text)
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1)]
    return _from_lines(setting, path, ((number, line) for number, line in lines if line and line[0] not in "#!"))


def _from_json(setting: str, path: Path, text: str) -> dict[str, str]:
    try:
        options = json.loads(text)
    except ValueError:
        options = None
    if not isinstance(options, dict):
        raise SettingsError(f'{setting}={path} is no JSON object; write {{"sasl.username": "..."}}.')
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in options.items()}


def _from_lines(setting: str, path: Path, lines: Iterable[tuple[int, str]]) -> dict[str, str]:
    options = {}
    for number, line in lines:
        name, equals, value = line.partition("=")
        if not equals or not name.strip():
            raise SettingsError(f"{setting}={path}, line {number} is not NAME=VALUE, like security.protocol=SASL_SSL.")
        options[name.strip()] = value.strip()
    return options
