"""Settings of HTTP out: every environment variable of deliveries, validated when loaded.

Belongs here: reading and checking the environment. Does not belong here: any request. Secrets are kept out of `repr`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from urllib.parse import urlsplit

from etl_project.http_in import header_safe, number, refuse_misspelt, whole
from etl_project.settings import SettingsError

_KNOWN = tuple(
    f"ETL_DELIVERY_{name}"
    for name in (
        "URL",
        "TOKEN",
        "SINCE",
        "CONNECT_SECONDS",
        "READ_SECONDS",
        "ATTEMPT_SECONDS",
        "TOTAL_SECONDS",
        "ATTEMPTS",
    )
)


@dataclass(frozen=True)
class Outgoing:
    """Where results are posted, from which day on, and how patient the client is. Times are seconds."""

    url: str = field(repr=False)
    token: str | None = field(default=None, repr=False)
    since: date | None = None
    connect_seconds: float = 5.0
    read_seconds: float = 30.0
    attempt_seconds: float = 60.0
    total_seconds: float = 300.0
    attempts: int = 6
    first_wait_seconds: float = 0.5
    longest_wait_seconds: float = 30.0


def outgoing(environ: Mapping[str, str] | None = None) -> Outgoing | None:
    """Settings of the outgoing side, or None while ETL_DELIVERY_URL is not set: then nothing is delivered.

    Raises SettingsError (retrying does not help) with one line that names the variable and what would do.
    """
    env = os.environ if environ is None else environ
    refuse_misspelt(env, "ETL_DELIVERY_", _KNOWN)
    url = env.get("ETL_DELIVERY_URL")
    if not url:
        return None
    return Outgoing(
        url=_url("ETL_DELIVERY_URL", url),
        token=header_safe("ETL_DELIVERY_TOKEN", env.get("ETL_DELIVERY_TOKEN")),
        since=_day(env, "ETL_DELIVERY_SINCE"),
        connect_seconds=number(env, "ETL_DELIVERY_CONNECT_SECONDS", 5.0),
        read_seconds=number(env, "ETL_DELIVERY_READ_SECONDS", 30.0),
        attempt_seconds=number(env, "ETL_DELIVERY_ATTEMPT_SECONDS", 60.0),
        total_seconds=number(env, "ETL_DELIVERY_TOTAL_SECONDS", 300.0),
        attempts=whole(env, "ETL_DELIVERY_ATTEMPTS", 6),
    )


def _url(name: str, text: str) -> str:
    try:
        parts = urlsplit(text)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0 and text.isascii()
    except ValueError:
        usable = False
    if not usable or any(character.isspace() for character in text):
        # The value may hold a secret: it is described, not shown.
        raise SettingsError(f"{name} is not a usable address; write it in full, like https://example.org/reports.")
    if parts.username or parts.password:
        raise SettingsError(f"{name} holds a user or password; put the secret into ETL_DELIVERY_TOKEN instead.")
    return text


def _day(env: Mapping[str, str], name: str) -> date | None:
    text = env.get(name)
    try:
        return date.fromisoformat(text) if text else None
    except ValueError:
        raise SettingsError(f"{name}={text!r} is not a date; write it as YYYY-MM-DD, or leave it out.") from None
