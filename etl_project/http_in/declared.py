"""Declared sources: which sources the pipelines have, and what their files are called.

Belongs here: reading that much, and no more, out of the `defs.yaml` of each pipeline, so that nothing is accepted that
no pipeline will ever read. Does not belong here: what else a source is; loading that takes Dagster (`sources`).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

from etl_project.http_in.settings import Sender
from etl_project.settings import SettingsError
from etl_project.sources import DaysOfNames, name_pattern, refusal

_LOG = logging.getLogger("etl.receiver")
_OF_A_SOURCE = {"patterns", "columns", "topic"}
_TEMPLATE = "{{"
"""What Dagster fills in when it loads a YAML; it cannot be told here."""


@dataclass(frozen=True)
class Declared:
    """A source of some pipeline. `patterns` is None where they cannot be known here; `topic` names a Kafka source's.

    `newest_only`: of the files of a day the newest one is the day. `undated`: no name says a day, the rows do.
    """

    name: str
    patterns: tuple[str, ...] | None
    topic: str | None = None
    newest_only: bool = False
    undated: bool = False

    def day(self, name: str, first: date, today: date) -> date | str | None:
        """The day that the source reads in this file name, why it reads none, or None where that cannot be known."""
        if self.patterns is None:
            return None
        return self._refusal(name) if self.undated else DaysOfNames(self.patterns, first, today).place(name)

    def name_for(self, day: date, unique: str, first: date, today: date) -> str | None:
        """A name for JSON lines of a day that the source reads as that; None where it reads no such name."""
        usual = f"{self.name}-{day.isoformat()}-{unique}.jsonl"
        if self.patterns is None:
            return usual
        made = [_filled(pattern, day, f"{self.name}-{unique}") for pattern in self.patterns]
        names = [name for name in (usual, *made) if name.endswith(".jsonl")]
        if self.undated:
            fitting = [name for name in names if unique in name and self._refusal(name) is None]
        else:
            places = DaysOfNames(self.patterns, first, today)
            fitting = [name for name in names if places.place(name) == day]
        return fitting[0] if fitting else None

    def _refusal(self, name: str) -> str | None:
        return refusal([name_pattern.NamePattern(one, dated=False) for one in self.patterns or ()], name)


def declared_sources(pipelines: str) -> dict[str, Declared]:
    """The sources in the package of pipelines, by name.

    Raises SettingsError (retrying does not help) where there is no such package. A `defs.yaml` that cannot be read is
    told in the log: its source is not known here, nor to anybody else.
    """
    try:
        spec = find_spec(pipelines)
    except (ImportError, ValueError):
        spec = None
    places = list(spec.submodule_search_locations or ()) if spec else []
    if not places:
        raise SettingsError(
            f"ETL_PIPELINES={pipelines!r} is no package of pipelines; name one on the Python path, like shop.pipelines."
        )
    files = sorted(path for place in places for path in Path(place).glob("[!.]*/defs.yaml"))
    return {source.name: source for path in files for source in _sources_in(path)}


def refuse_unknown(clients: Sequence[Sender], declared: Mapping[str, Declared]) -> None:
    """Raise SettingsError (retrying does not help) where a sender may send what no pipeline would read."""
    for client in clients:
        variable = f"ETL_RECEIVER_SOURCES_{client.name.upper()}"
        for name in sorted(client.sources):
            if name not in declared:
                known = ", ".join(sorted(one.name for one in declared.values() if one.topic is None)) or "none"
                raise SettingsError(
                    f"{variable} names {name!r}, which no pipeline declares; sources of files: {known}."
                )
            if declared[name].topic is not None:
                raise SettingsError(
                    f"{variable} names {name!r}, which is fed by the Kafka topic {declared[name].topic!r}: "
                    "what is uploaded would never become a row; leave it out."
                )
            if client.signature is not None and declared[name].newest_only:
                raise SettingsError(
                    f"{variable} names {name!r}, of whose files only the newest counts (files_per_day: latest): each "
                    "webhook would replace the day; name a source with files_per_day: many."
                )


def _sources_in(path: Path) -> Iterator[Declared]:
    try:
        documents = list(yaml.safe_load_all(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, yaml.YAMLError) as error:
        _LOG.error("%s cannot be read, its source is unknown: %s", path, " ".join(str(error).split()))
        return
    for document in documents:
        attributes = document.get("attributes") if isinstance(document, dict) else None
        if isinstance(attributes, dict) and isinstance(attributes.get("name"), str) and _OF_A_SOURCE & set(attributes):
            yield _declared(attributes)


def _declared(attributes: Mapping[str, Any]) -> Declared:
    topic = attributes.get("topic")
    patterns = attributes.get("patterns")
    known = isinstance(patterns, list) and all(isinstance(one, str) and _TEMPLATE not in one for one in patterns)
    if topic is None and not known:
        _LOG.warning("the patterns of %s cannot be told from its defs.yaml: names are not checked", attributes["name"])
    return Declared(
        attributes["name"],
        tuple(patterns) if known and patterns else None,
        str(topic) if topic is not None else None,
        attributes.get("files_per_day") == "latest",
        topic is None and attributes.get("day_from") is not None,
    )


def _filled(pattern: str, day: date, unique: str) -> str:
    """A name that fits the pattern, with what makes it unique where the first `*` is."""
    before, star, after = pattern.partition("*")
    text = before + (unique if star else "") + after.replace("*", "")
    return name_pattern.filled(text.replace("?", "x"), day)
