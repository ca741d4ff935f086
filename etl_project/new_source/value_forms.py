"""Value forms: how a sender writes the values of a column, found in a sample, for a column that is not plainly written.

Belongs here: missing values, blanks, words for true and false, forms of dates and times, separators, affixes, percent
and negatives, each as the setting that reads it. Does not belong here: the plain types (`column_types`), the settings
themselves (`sources.reading.values`).

Nothing is proposed that does not read every value looked at, and nothing is decided without evidence: where all dates
fit day first and month first alike, or 1,299 may be a thousand or a bit more than one, it is asked, and left as text
where nobody answers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa

from etl_project.sources import PLAIN, Converter, NumberForms, SourceColumn, ValueSettings, advice

Ask = Callable[[str, Sequence[str]], str | None]
"""Asks a person: a question and the answers it can have. None: nobody answers."""
PlainType = Callable[[Sequence[str]], str]
"""The type of plainly written values; VARCHAR where they share none."""

DATE, INSTANT, TEXT = "DATE", "TIMESTAMP WITH TIME ZONE", "VARCHAR"
_CURRENCIES = "$ € £ ¥ ₹ US$ EUR USD GBP CHF SEK NOK DKK PLN JPY kr kr. Fr. zł Kč".split()  # noqa: SIM905
_UNITS = "kg g mg t km m cm mm l ml h min s ms kWh kW W MW MWh V A °C °F C F pcs Stk".split()  # noqa: SIM905
_ISO_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
_ISO_TIME = re.compile(r"\d{4}-\d{2}-\d{2}[ T]\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-]\d{2}(:?\d{2})?)?")
_MIDNIGHT = re.compile(r"\d{4}-\d{2}-\d{2}[ T]00:00(:00(\.0+)?)?(Z|[+-]\d{2}(:?\d{2})?)?")
_TIME_NAME = re.compile(r"(.*_)?(at|on|ts|time|timestamp|date|datetime|epoch|day|datum)(_.*)?")
_DAY_NAME = re.compile(r"(.*_)?(on|date|day|datum|epoch_days?)")
_EPOCH_DAYS = range(10_957, 25_568)
"""The days of 2000 to 2039, counted from 1970."""
_MOST_FORMS = 4


@dataclass(frozen=True)
class Found:
    """A type, the settings that read the values as such, and what a person should look at."""

    type: str
    settings: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def form_of(column: str, values: Sequence[str], plain_type: PlainType, ask: Ask) -> Found | None:
    """How these different values of a column are written; None where they are text, as far as can be told."""
    settings: dict[str, Any] = {}
    if any(value != value.strip() for value in values):
        settings["trim"] = True
    bare = list(dict.fromkeys(value.strip() for value in values if value.strip()))
    missing = [value for value in bare if value.lower() in advice.MISSING]
    if missing:
        settings["null_values"] = missing
    rest = [value for value in bare if value.lower() not in advice.MISSING]
    if not rest:
        return None
    for look in (_boolean, _plain, _times, _numbers):
        found = look(column, rest, plain_type, ask)
        if found is not None and _reads(found, rest):
            return Found(found.type, {**settings, **found.settings}, found.notes)
    return None


def counted_time(column: str, values: Sequence[str]) -> Found | None:
    """Whole numbers that are times by their size and by the name of their column: epochs, days as 20250320."""
    if not _TIME_NAME.fullmatch(column) or not values:
        return None
    candidates = [
        (r"(19|20)\d{2}(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])", DATE, {"date_format": "%Y%m%d"}),
        (r"1\d{9}", INSTANT, {"timestamp_format": "epoch_seconds"}),
        (r"1\d{12}", INSTANT, {"timestamp_format": "epoch_milliseconds"}),
        (r"1\d{15}", INSTANT, {"timestamp_format": "epoch_microseconds"}),
    ]
    if _DAY_NAME.fullmatch(column) and all(
        re.fullmatch(r"\d{5}", value) and int(value) in _EPOCH_DAYS for value in values
    ):
        candidates = [(r"\d{5}", DATE, {"date_format": "epoch_days"})]
    for pattern, kind, settings in candidates:
        if all(re.fullmatch(pattern, value) for value in values):
            [form] = settings.values()
            found = Found(kind, dict(settings), (f"read as {form}; BIGINT if they are plain numbers",))
            return found if _reads(found, values) else None
    return None


def as_settings(found: Mapping[str, Any]) -> ValueSettings:
    """The settings as the reader takes them; a list, or one text for a list of one, may stand for a tuple."""
    lists = {key for key in found if isinstance(getattr(PLAIN, key), tuple)}
    given: dict[str, Any] = {
        key: (value,) if key in lists and isinstance(value, str) else tuple(value) if key in lists else value
        for key, value in found.items()
    }
    return replace(PLAIN, **given)


def _reads(found: Found, values: Sequence[str]) -> bool:
    column = SourceColumn("column", found.type)
    converter = Converter(ZoneInfo("UTC"), {column.name: as_settings(found.settings)})
    return bool(converter.column(pa.array(values, pa.string()), column).null_count == 0)


def _boolean(column: str, values: Sequence[str], plain_type: PlainType, ask: Ask) -> Found | None:
    """Both words have to be there: a column of nothing but N may be a code."""
    words = {value.lower(): value for value in values}
    true, false = [w for w in words if w in advice.YES], [w for w in words if w in advice.NO]
    if not true or not false or set(words) - {"true", "false", "t", "f", "1", "0", *true, *false}:
        return None
    return Found("BOOLEAN", {"true_values": [words[w] for w in true], "false_values": [words[w] for w in false]})


def _plain(column: str, values: Sequence[str], plain_type: PlainType, ask: Ask) -> Found | None:
    kind = plain_type(values)
    return None if kind == TEXT else Found(kind)


def _times(column: str, values: Sequence[str], plain_type: PlainType, ask: Ask) -> Found | None:
    """Dates and times by their look; which number is the day is told by one that is larger than 12."""
    forms: dict[str, None] = {}
    open_ones: list[tuple[str, str]] = []
    late = any(re.search(r"[ T]24:00", value) for value in values)
    for value in values:
        if _ISO_DAY.fullmatch(value):
            forms["iso"] = None
        elif _MIDNIGHT.fullmatch(value):
            forms["iso_midnight"] = None
        elif _ISO_TIME.fullmatch(value):
            forms["iso time"] = None
        else:
            of_value = advice.forms_of(value)
            if not of_value or any(form.startswith(("%d.%m.%y", "%m.%d.%y")) for form in of_value):
                return None  # 1.10.22 is more often a version than a day.
            if len(of_value) == 2:
                open_ones.append((of_value[0], of_value[1]))
            else:
                forms[of_value[0]] = None
    decided = _decided(column, forms, open_ones, ask)
    if decided is None or len(decided) > _MOST_FORMS:
        return None
    return _as_time(decided, late)


def _decided(column: str, forms: dict[str, None], open_ones: Sequence[tuple[str, str]], ask: Ask) -> list[str] | None:
    """The forms, with those that may be day first or month first settled by the others; None where nothing tells."""
    found = list(forms)
    if open_ones:
        orders = {form for pair in open_ones for form in pair}
        day_first, month_first = ({pair[at] for pair in open_ones} for at in (0, 1))
        known = orders & forms.keys()
        if all("%d." in pair[0] for pair in open_ones):
            known = known or day_first  # Nobody puts the month before a dot.
        if not known:
            answers = [" and ".join(sorted(day_first)), " and ".join(sorted(month_first))]
            answer = ask(f"{column}: is 03/04/2025 the third of April or the fourth of March?", answers)
            known = day_first if answer == answers[0] else month_first if answer == answers[1] else set()
        if not known or (known & day_first and known & month_first):
            return None
        chosen = 0 if known & day_first else 1
        found = list(dict.fromkeys([*forms, *(pair[chosen] for pair in open_ones)]))
    if any(_swapped(form) != form and _swapped(form) in found for form in found):
        return None  # Some dates can only be one, some only the other: every one that fits both is a riddle.
    return found


def _swapped(form: str) -> str:
    """The form with day and month in each other's place."""
    return form.translate(str.maketrans("dm", "md"))


def _as_time(forms: list[str], late: bool) -> Found:
    has_time = any(form == "iso time" or "%H" in form or "%I" in form for form in forms)
    if not has_time:
        return Found(DATE, {} if forms == ["iso"] else {"date_format": forms})
    plain = {"iso": "%Y-%m-%d", "iso_midnight": "iso", "iso time": "iso"}
    written = list(dict.fromkeys(plain.get(form, form) for form in forms))
    notes = (
        ()
        if all("%z" in form for form in written)
        else ("local times are read as UTC: put their zone under time_zone",)
    )
    settings: dict[str, Any] = {} if written == ["iso"] else {"timestamp_format": written}
    return Found(INSTANT, {**settings, **({"hour_24": True} if late else {})}, notes)


def _numbers(column: str, values: Sequence[str], plain_type: PlainType, ask: Ask) -> Found | None:
    parts = [advice.NUMBER.fullmatch(value) for value in values]
    if any(part is None for part in parts):
        return None
    found = [part for part in parts if part is not None]
    settings: dict[str, Any] = {}
    for key, names, known in (
        ("prefixes", ("prefix",), _CURRENCIES),
        ("suffixes", ("suffix", "suffix2"), [*_CURRENCIES, *_UNITS]),
    ):
        affixes = list(dict.fromkeys(part[name] for part in found for name in names if part[name]))
        if set(affixes) - set(known):
            return None  # A letter before a number is more often a code.
        settings |= {key: affixes} if affixes else {}
    separators = _separators(column, [part["digits"].rstrip() for part in found], ask)
    if separators is None:
        return None
    settings |= separators
    negatives = list(_negatives(found))
    settings |= {"negatives": negatives} if negatives else {}
    notes = []
    if any(part["percent"] for part in found):
        settings["percent"] = "fraction"
        notes.append("50% is read as 0.5; `percent: number` reads it as 50")
    if any(part["exponent"] for part in found):
        settings["exponents"] = True
    written = NumberForms(as_settings(settings), expanded=True).plain(pa.array(values, pa.string()))
    kind = TEXT if written.null_count else plain_type(written.to_pylist())
    return None if kind in (TEXT, "BOOLEAN") else Found(kind, settings, tuple(notes))


def _separators(column: str, digits: Sequence[str], ask: Ask) -> dict[str, Any] | None:
    """The separators that all numbers share; None where they contradict each other, or one may be either."""
    points: set[str] = set()
    groups: set[str] = set()
    for number in digits:
        point, group = advice.separators(number)
        points |= {point} if point else set()
        groups |= {group} if group else set()
    blanks = {" ", "\u00a0", "\u202f"}
    groups = {" " if group in blanks else "'" if group == "\u2019" else group for group in groups}
    if not points and len(groups) == 1 and groups <= {",", "."}:
        [mark] = groups
        if not any(number.count(mark) > 1 for number in digits):
            answers = [f"thousands_separator {mark}", f"decimal_separator {mark}"]
            answer = ask(f"{column}: is 1{mark}299 more than a thousand, or more than one?", answers)
            if answer not in answers:
                return None
            points, groups = (points, groups) if answer == answers[0] else ({mark}, set())
    elif points & groups and len(points) == 1:
        groups -= points  # 1,299 beside 12,5: with that evidence it is a decimal number too.
    if len(points) > 1 or len(groups) > 1:
        return None
    point, thousands = next(iter(points), "."), next(iter(groups), None)
    if point == thousands or point not in ".,":
        return None
    written = {"decimal_separator": point} if point != "." else {}
    return {**written, **({"thousands_separator": thousands} if thousands else {})}


def _negatives(found: Sequence[re.Match[str]]) -> Iterator[str]:
    if any(part["open"] or part["open2"] for part in found):
        yield "parentheses"
    if any(part["trailing"] for part in found):
        yield "trailing_minus"
    if any("\u2212" in f"{part['sign']}{part['sign2']}" for part in found):
        yield "unicode_minus"
