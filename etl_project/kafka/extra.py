"""The extra `kafka`: whether what talks to a broker is installed. Everything else of a Kafka source works without."""

from __future__ import annotations

from importlib.util import find_spec

from etl_project.failures import Permanent

LIBRARIES = ("confluent_kafka", "orjson")


class MissingExtra(Permanent):
    """The client library is not installed. The message says how to get it."""


REGISTRY = ("authlib", "fastavro", "google.protobuf")


def require_registry() -> None:
    """Return only where what talks to a schema registry is installed. Raises MissingExtra (retrying does not help)."""
    missing = [library for library in REGISTRY if find_spec(library.partition(".")[0]) is None]
    if missing:
        raise MissingExtra(f"{' and '.join(missing)} is not installed: pip install 'etl-project[kafka,registry]'")


def require() -> None:
    """Return only where the extra is installed. Raises MissingExtra (retrying does not help)."""
    missing = [library for library in LIBRARIES if find_spec(library) is None]
    if missing:
        raise MissingExtra(f"{' and '.join(missing)} is not installed: pip install 'etl-project[kafka]'")
