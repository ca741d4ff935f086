"""Spec problems: what is wrong with the settings of a source, each in one line with what they can be.

Belongs here: the settings of `SourceSpec` itself. Does not belong here: those of layout, values and rows, which say
what is wrong with themselves.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from etl_project.sources.name_pattern import NamePattern
from etl_project.sources.reading import formats, layout
from etl_project.sources.reading.rows import row_settings
from etl_project.sources.reading.values import value_settings
from etl_project.sources.reading.values.value_settings import PLAIN, ValueSettings
from etl_project.sources.spec import (
    ADDED,
    EVENT_TYPES,
    LONGEST_LATENESS_DAYS,
    SourceColumn,
    SourceSpec,
    SpecError,
)


def problems(spec: SourceSpec) -> Iterator[str]:
    """Everything that is wrong with a source."""
    yield from _problems_of_names(spec)
    yield from _problems_of_columns(spec)
    yield from _problems_of_values(spec)
    yield from _problems_of_days(spec)
    yield from _problems_of_day_from(spec)
    yield from _problems_of_settings(spec)
    yield from _problems_of_waiting(spec)
    yield from layout.problems(spec)
    yield from row_settings.problems(spec)
    yield from _problems_of_plausibility(spec)


def _problems_of_names(spec: SourceSpec) -> Iterator[str]:
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", spec.name):
        yield "the name of a source is letters, digits and _, and starts with a letter"
    if not spec.patterns:
        yield "patterns is empty"
    for pattern in spec.patterns:
        try:
            NamePattern(pattern, dated=spec.day_from is None)
        except ValueError as error:
            yield str(error)


def _problems_of_columns(spec: SourceSpec) -> Iterator[str]:
    known = {column.name: column for column in spec.types}
    targets = list(spec.columns.values())
    if not targets:
        yield "columns is empty"
    for name in dict.fromkeys(targets):
        if name in ADDED:
            yield f"column {name} is filled in from the file itself; no column of the file can be mapped to it"
        elif name not in known:
            yield f"column {name} is not in the contract (it has {', '.join(known) or 'no columns'})"
        else:
            try:
                _ = known[name].arrow
            except (SpecError, ValueError) as error:
                yield str(error)


def _problems_of_values(spec: SourceSpec) -> Iterator[str]:
    for setting, allowed in (
        ("format", tuple(formats.FORMATS)),
        ("files_per_day", ("many", "latest", *(("every",) if spec.day_from is not None else ()))),
        ("empty_days", ("missing", "allowed")),
        ("valid_utf8", ("refuse", "as_utf8", "as_declared")),
    ):
        if getattr(spec, setting) not in allowed:
            yield f"{setting} is {getattr(spec, setting)!r}; it can be {', '.join(allowed)}"
    for separator in spec.separators:
        if not separator or any(one in '"\r\n\0' for one in separator):
            yield f"delimiter is {separator!r}; it is text with no quote and no line end, like ';', or whitespace"
    yield from _problems_of_zone("time_zone", spec.time_zone)
    if not 0 <= spec.max_rejected_ratio <= 1:
        yield f"max_rejected_ratio is {spec.max_rejected_ratio}; it must lie between 0 and 1"
    for setting in ("max_expanded_bytes", "max_line_bytes"):
        if getattr(spec, setting) < 1:
            yield f"{setting} is {getattr(spec, setting)}; it must be at least 1"


def _problems_of_encodings(spec: SourceSpec) -> Iterator[str]:
    unknown = [one for one in spec.encodings if not _is_text_encoding(one)]
    for encoding in unknown:
        yield f"encoding {encoding!r} is not known; write one of Python's names, like utf-8 or cp1252"
    known = [one for one in spec.encodings if one not in unknown]
    for at, later in enumerate(known):
        first = next((one for one in known[:at] if _leaves_nothing(one, later, spec)), None)
        if first is not None:
            yield (
                f"encoding {later!r} stands behind {first!r}, in which every file can be read, so it is never used and "
                f"its files would be garbled; say the one that is meant, like encoding: [utf-8, {later}]"
            )


def _leaves_nothing(first: str, later: str, spec: SourceSpec) -> bool:
    """Whether no file comes to the later encoding. What is looked for beside the bytes (`reading.encodings`) tells
    UTF-8 from all others, and the code pages of Windows from ISO 8859."""
    names = [codecs.lookup(one).name for one in (first, later)]
    if names[0] == names[1] or not _has_every_byte(first):
        return False
    if spec.valid_utf8 == "as_declared":
        return True
    of_iso = [name.startswith("iso8859") for name in names]
    return names[1] not in ("utf-8", "utf-8-sig") and of_iso != [True, False]


def _has_every_byte(encoding: str) -> bool:
    try:
        return all(len(bytes([byte]).decode(encoding)) == 1 for byte in range(256))
    except UnicodeError:
        return False


def _is_text_encoding(name: str) -> bool:
    try:
        return isinstance("".encode(name), bytes) and codecs.getincrementaldecoder(name) is not None
    except (LookupError, UnicodeError, TypeError):
        return False


def _problems_of_settings(spec: SourceSpec) -> Iterator[str]:
    """What is wrong with the settings that say how text and values are written."""
    yield from _problems_of_encodings(spec)
    yield from spec.values.problems()
    in_columns = spec.column_values.items()
    for name, settings in in_columns:
        if name not in spec.filled:
            yield f"column_settings names {name!r}, which is not one of the columns that the file fills"
        yield from (one for one in settings.problems(f"column_settings.{name}.") if one not in spec.values.problems())
    yield from _words_never_met("", spec.values, PLAIN, spec)
    for name, settings in in_columns:
        yield from _words_never_met(f"column_settings.{name}.", settings, spec.values, spec)
        yield from _without_effect(name, settings, spec)


def _without_effect(name: str, settings: ValueSettings, spec: SourceSpec) -> Iterator[str]:
    column = next((one for one in spec.types if one.name == name and name in spec.filled), None)
    if column is None or (column.is_nested and column.type != "JSON"):  # The leaves follow the rules of their types.
        return
    for key, about in value_settings.without_effect(settings, spec.values, column.type):
        yield (
            f"column_settings.{name}.{key} does nothing: {name} is {column.type}, and {key} is about {about}; leave it "
            f"out, or give {name} such a type in contract.sql"
        )


def _words_never_met(where: str, settings: ValueSettings, inherited: ValueSettings, spec: SourceSpec) -> Iterator[str]:
    """Words that no value of a file can be, so that they would do nothing without a word.

    Those that a column has `inherited` from its source are meant for other columns.
    """
    known = formats.FORMATS.get(spec.format)
    empty_is_null = known is not None and known.empty_is_null
    trimmed = "trim: true" if settings.trim else "format: fixed" if spec.format == "fixed" else ""
    for key in ("null_values", "true_values", "false_values"):
        for word in (
            one for one in getattr(settings, key) if isinstance(one, str) and one not in getattr(inherited, key)
        ):
            if not word and empty_is_null and key != "null_values":
                yield (
                    f"{where}{key} holds '', and an empty field of {spec.format} is NULL, no value; a column of its "
                    'own says what it means, like computed: {is_member: "coalesce(member, false)"}'
                )
            elif trimmed and word != word.strip():
                yield f"{where}{key} holds {word!r}, and {trimmed} takes its blanks away first; write {word.strip()!r}"


def _problems_of_days(spec: SourceSpec) -> Iterator[str]:
    """What is wrong with the settings that say which day a row belongs to, and when a day must be there."""
    known = {column.name: column for column in spec.types if column.name in spec.filled}
    known |= {one.name: SourceColumn(one.name, one.type, one.nullable) for one in spec.rows.of_rows}
    if not 0 <= spec.lateness_days <= LONGEST_LATENESS_DAYS:
        yield f"lateness_days is {spec.lateness_days}; it must lie between 0 and {LONGEST_LATENESS_DAYS}"
    if spec.lateness_days and spec.event_column is None:
        yield "lateness_days needs event_column: the column whose UTC day a row belongs to"
    if spec.event_column is not None:
        event = known.get(spec.event_column)
        if event is None:
            yield f"event_column {spec.event_column!r} is filled by no file and computed from no single row"
        elif event.type not in EVENT_TYPES or event.nullable:
            yield f"event_column {event.name} must be NOT NULL and {', '.join(EVENT_TYPES)}; it is {event.type}"
    for name in spec.deduplicate_on:
        if name not in known:
            yield f"deduplicate_on names {name!r}, which no file fills and which is not computed from one row"
    if spec.deadline is not None and spec.empty_days == "allowed":
        yield "deadline and empty_days: allowed contradict each other: where days may be empty, no file can be overdue"
    if spec.deadline is not None and spec.deadline.tzinfo is not None:
        yield f"deadline is {spec.deadline}; write a UTC time of day without a zone, like 06:00"


def _problems_of_day_from(spec: SourceSpec) -> Iterator[str]:
    """What is wrong with the column that says the day of each row, of files that have none in their name."""
    if spec.days_left_out not in (None, "keep", "remove"):
        yield f"days_left_out is {spec.days_left_out!r}; it can be keep, remove"
    if spec.day_from is None:
        if spec.days_left_out is not None:
            yield "days_left_out needs day_from: the column that says the day of each row"
        return
    if spec.files_per_day == "every" and spec.days_left_out is not None:
        yield "days_left_out and files_per_day: every exclude each other: there no file replaces another"
    column = next((one for one in spec.types if one.name == spec.day_from and one.name in spec.filled), None)
    example = next((one.name for one in spec.types if one.name in spec.filled and one.type in EVENT_TYPES), "sold_on")
    if column is None:
        yield f"day_from {spec.day_from!r} is a column of the table that the files fill; like day_from: {example}"
    elif column.type not in EVENT_TYPES:
        yield f"day_from {column.name} must be {', '.join(EVENT_TYPES)}; it is {column.type}; like day_from: {example}"
    for other in ("event_column", "date_column"):
        if getattr(spec, other) is not None:
            yield f"day_from and {other} exclude each other: with day_from every row is of its own day"
    if dict(spec.layout.since):
        yield "since goes by the day of a file, and with day_from it has none; write optional: [...]"


def _problems_of_waiting(spec: SourceSpec) -> Iterator[str]:
    for setting, seconds in (("settle_seconds", spec.settle_seconds), ("quiet_seconds", spec.quiet_seconds)):
        if not 0 <= seconds < float("inf"):
            yield f"{setting} is {seconds}; it must be 0 or more"


def _problems_of_plausibility(spec: SourceSpec) -> Iterator[str]:
    """What is wrong with the settings that say which files cannot be what their sender meant."""
    known = {column.name: column for column in spec.types if column.name in spec.filled}
    known |= {one.name: SourceColumn(one.name, one.type, one.nullable) for one in spec.rows.of_rows}
    for setting in ("unended_last_line", "same_content_on_days"):
        if getattr(spec, setting) not in ("refuse", "accept"):
            yield f"{setting} is {getattr(spec, setting)!r}; it can be refuse, accept"
    if spec.business_zone is not None:
        yield from _problems_of_zone("business_zone", spec.business_zone)
        if spec.event_column is None and spec.date_column is None and spec.day_from is None:
            yield "business_zone needs event_column or date_column (or day_from): whose day in that zone counts"
    if spec.date_column is not None:
        column = known.get(spec.date_column)
        if column is None:
            yield f"date_column {spec.date_column!r} is filled by no file and computed from no single row"
        elif column.type not in EVENT_TYPES:
            yield f"date_column {column.name} must be {', '.join(EVENT_TYPES)}; it is {column.type}"
        if spec.event_column is not None:
            yield "date_column and event_column exclude each other: with event_column, lateness_days says which days"


def _problems_of_zone(setting: str, name: str) -> Iterator[str]:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        yield f"{setting} {name!r} is not known; write an IANA name like Europe/London"
