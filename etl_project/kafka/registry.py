"""Registry: schemas by their number, from the schema registry that the environment names. Needs the extra `registry`.

Belongs here: connecting with Confluent's own client, and what its errors mean. Does not belong here: decoding.

A number stands for one schema for ever, so each is asked for once as long as a landing lasts. A registry that does not
answer ends the landing, and nothing of its batch is committed: messages must not become dead letters for that.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import httpx2
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.error import SchemaRegistryError

from etl_project.failures import Permanent, Transient
from etl_project.kafka.decode import Poison
from etl_project.kafka.settings import options_in
from etl_project.settings import SettingsError

URL, CONFIG = "ETL_SCHEMA_REGISTRY_URL", "ETL_SCHEMA_REGISTRY_CONFIG"
_NOT_FOUND = 404
_TRY_LATER = (408, 425, 429)
_SERVER_ERROR = 500


class RegistryAway(Transient):
    """The registry does not answer, or says that it cannot now. Nothing was committed; retrying helps."""


class RegistryRefuses(Permanent):
    """The registry refuses the question. Nothing was committed; retrying does not help before it is mended."""


class Registry:
    """The schemas of one registry."""

    def __init__(self, client: SchemaRegistryClient, url: str) -> None:
        self._client, self._url = client, url

    def schema(self, number: int, form: str | None = None) -> Any:
        """The schema of this number, as the registry has it. Raises Poison where there is none, and RegistryAway
        (retrying helps) or RegistryRefuses (it does not)."""
        return self._asked(f"schema {number}", lambda: self._client.get_schema(number, fmt=form))

    def version(self, subject: str, number: int, form: str | None = None) -> Any:
        """The schema that another one refers to. Raises like `schema`."""
        what = f"schema {subject!r}, version {number}"
        return self._asked(what, lambda: self._client.get_version(subject, number, fmt=form)).schema

    def _asked(self, what: str, question: Any) -> Any:
        asking = f"asking {self._url} for {what}"
        try:
            return question()
        except SchemaRegistryError as error:
            status = error.http_status_code
            if status == _NOT_FOUND:
                raise Poison(f"{what} is not in the registry at {self._url}") from None
            if status >= _SERVER_ERROR or status in _TRY_LATER:
                raise RegistryAway(
                    f"{asking}: HTTP {status}. Nothing of the batch was committed; retrying helps."
                ) from error
            raise RegistryRefuses(
                f"{asking}: HTTP {status}; check {URL}, and the credentials in the file that {CONFIG} names. "
                "Nothing of the batch was committed."
            ) from error
        except httpx2.HTTPError as error:
            raise RegistryAway(
                f"{asking}: {type(error).__name__}. Is it up, and is {URL} right? Nothing of the batch was committed; "
                "retrying helps."
            ) from error


def connected(environ: Mapping[str, str] | None = None) -> Registry:
    """The registry that the environment names. Nothing is asked yet. Raises SettingsError (retrying does not help)."""
    env = os.environ if environ is None else environ
    url = env.get(URL)
    if not url:
        raise SettingsError(f"{URL} is not set; name the schema registry, like http://localhost:8081.")
    config = env.get(CONFIG)
    options: dict[str, Any] = dict(options_in(CONFIG, config)) if config else {}
    try:
        return Registry(SchemaRegistryClient({**options, "url": url}), url)
    except (ValueError, TypeError, OSError) as error:
        raise SettingsError(f"{URL}={url}, {CONFIG}={config or 'not set'}: {type(error).__name__}; {_ADVICE}") from None


_ADVICE = "write a URL like http://localhost:8081, and options of the client like basic.auth.user.info=USER:PASSWORD."
