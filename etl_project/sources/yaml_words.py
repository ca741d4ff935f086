"""YAML words: what editors and `dg check yaml` can know of a setting, beyond its type.

Belongs here: rules for the JSON schema of the components. Each is checked once more, with better words, when the source
is loaded: a template, like `{{ env.LIMIT }}`, has a value only then, and no schema knows SQL.
"""

from __future__ import annotations

from typing import Any
from zoneinfo import available_timezones

from etl_project.sources.reading.formats import FORMATS
from etl_project.sources.spec import LONGEST_LATENESS_DAYS

Schema = dict[str, Any]

_LIMITS: dict[str, Schema] = {
    "max_rejected_ratio": {"minimum": 0, "maximum": 1},
    "max_removed_ratio": {"exclusiveMinimum": 0, "maximum": 1},
    "max_expanded_bytes": {"minimum": 1},
    "max_line_bytes": {"minimum": 1},
    "lateness_days": {"minimum": 0, "maximum": LONGEST_LATENESS_DAYS},
    "skip_lines": {"minimum": 0},
    "footer_lines": {"minimum": 0},
    "max_expanded_ratio": {"minimum": 1},
    "batch_messages": {"minimum": 1},
    "batch_bytes": {"minimum": 1},
    "batch_seconds": {"exclusiveMinimum": 0},
    "name": {"pattern": r"^[A-Za-z][A-Za-z0-9_]*$|\{\{"},
    "deadline": {"pattern": r"^[0-2][0-9]:[0-5][0-9]|\{\{"},
    "patterns": {"items": {"type": "string", "minLength": 1}, "minItems": 1},
    "columns": {"minProperties": 1},
}
"""Limits of numbers leave text alone, and the other way round: so a template passes."""


_CHOICES: dict[str, tuple[str, ...]] = {
    "format": tuple(FORMATS),
    "unknown_columns": ("refuse", "ignore", "keep"),
    "header_matching": ("exact", "relaxed"),
    "nested_values": ("refuse", "text"),
    "line_ends": ("lf", "any"),
    "compression": ("name", "auto", "none", "gzip", "zstd", "zip"),
    "envelope": ("none", "debezium"),
    "tombstones": ("reject", "drop", "keep"),
    "day_format": ("iso", "epoch_days", "epoch_seconds", "epoch_milliseconds", "epoch_microseconds"),
}


def rules(schema: Schema) -> None:
    """Add them to the schema of a component."""
    for told in schema.get("properties", {}).values():
        _text_is_a_template(told)
    for name, choices in _CHOICES.items():
        if name in schema.get("properties", {}):
            schema["properties"][name]["allOf"] = [{"anyOf": [{"enum": list(choices)}, {"pattern": r"\{\{"}]}]
    zone = {"anyOf": [{"type": "null"}, {"pattern": r"\{\{"}, {"enum": sorted(available_timezones())}]}
    for name, told in {**_LIMITS, "time_zone": {"allOf": [zone]}, "business_zone": {"allOf": [zone]}}.items():
        if name in schema.get("properties", {}):
            schema["properties"][name].update(told)


def _text_is_a_template(told: Schema) -> None:
    """Dagster lets every setting be text, for templates; of a word, a number or a yes and no, nothing else is one."""
    kinds = told.get("anyOf", [])
    closed = [one for one in kinds if "enum" in one or one.get("type") in ("number", "integer", "boolean")]
    open_ones = [one for one in kinds if one.get("type") == "string" and "enum" not in one]
    if closed and open_ones and len(closed) + len(open_ones) >= len([k for k in kinds if k.get("type") != "null"]):
        for one in open_ones:
            one["pattern"] = r"\{\{"
