"""Advice: which setting would make a value of a text that is none, in words for the one who reads the reject.

Belongs here: telling from the look of one text what its sender meant. A pure function of the text, its type and the
settings in force, so that a rebuild gives the same rejects; and a quick one, since a file may have many. Nothing is
decided here: a wrong guess is a wrong hint, never a wrong value.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pyarrow as pa

from etl_project.sources.reading.values.value_settings import ValueSettings

MISSING = frozenset(
    "- -- --- . .. ? n/a na n.a. nan -nan null none nil \\n #n/a #na #value! #ref! #div/0! missing unknown k.a. "  # noqa: SIM905
    "(null) <null> <na> n.d. nd".split()
)
"""Texts, in small letters, with which senders say that there is no value."""
YES = {"y": "n", "yes": "no", "j": "n", "ja": "nein", "on": "off", "oui": "non", "si": "no", "sí": "no"}
NO = {"n": "y", "no": "yes", "nein": "ja", "off": "on", "non": "oui"}
NUMBER = re.compile(
    r"(?P<open>\()?(?P<sign>[+\-\u2212])?\s?(?P<prefix>[^\d\s.,'\u2019()+\-\u2212%]{1,5})?\s?(?P<open2>\()?"
    r"(?P<sign2>[+\-\u2212])?(?P<digits>\d[\d.,'\u2019\u00a0\u202f ]*|[.,]\d+)(?P<exponent>[eE][+-]?\d+)?\s?"
    r"(?P<percent>%)?(?P<suffix>[^\d\s.,'\u2019()+\-\u2212%]{1,5})?(?P<trailing>-)?(?P<close>\))?\s?"
    r"(?P<suffix2>[^\d\s.,'\u2019()+\-\u2212%]{1,5})?"
)
_DATE = re.compile(r"(\d{1,4})([./ -]?)(\d{1,2}|[A-Za-z]{3,9})\2(\d{1,4})(.*)", re.DOTALL)


def for_text(text: str, kind: pa.DataType, settings: ValueSettings) -> str:
    """` (...)` naming the settings, or nothing where the text looks like no value at all."""
    if pa.types.is_nested(kind):
        return ""
    found = list(dict.fromkeys(_wanted(text, kind, settings)))
    return f" (as a value it needs {', '.join(found)})" if found else ""


def _wanted(text: str, kind: pa.DataType, settings: ValueSettings) -> Iterator[str]:
    bare = text.strip()
    if bare != text and not settings.trim:
        yield "trim: true"
    if not bare or bare.lower() in MISSING or (pa.types.is_temporal(kind) and not bare.strip("0./: -T")):
        yield f"null_values: [{bare!r}]"
    elif pa.types.is_boolean(kind):
        if bare.lower() in YES or bare.lower() in NO:
            yield f"{'true' if bare.lower() in YES else 'false'}_values: [{bare!r}]"
    elif pa.types.is_temporal(kind):
        yield from _of_time(bare, kind, settings)
    elif len(bare) <= 80:
        yield from _of_number(bare, kind, settings)


def _of_number(text: str, kind: pa.DataType, settings: ValueSettings) -> Iterator[str]:
    found = NUMBER.fullmatch(text)
    if found is None:
        return
    yield from _of_separators(found["digits"].rstrip(), settings)
    affixes = {"prefixes": (found["prefix"],), "suffixes": (found["suffix"], found["suffix2"])}
    for key, texts in affixes.items():
        yield from (f"{key}: [{affix!r}]" for affix in texts if affix and affix not in getattr(settings, key))
    if found["percent"] and not settings.percent:
        yield "percent: fraction (or number)"
    if (found["open"] or found["open2"]) and "parentheses" not in settings.negatives:
        yield "negatives: [parentheses]"
    if found["trailing"] and "trailing_minus" not in settings.negatives:
        yield "negatives: [trailing_minus]"
    if "\u2212" in ((found["sign"] or "") + (found["sign2"] or "")) and "unicode_minus" not in settings.negatives:
        yield "negatives: [unicode_minus]"
    if found["exponent"] and not settings.exponents and not pa.types.is_floating(kind):
        yield "exponents: true"


def _of_separators(digits: str, settings: ValueSettings) -> Iterator[str]:
    point, thousands = separators(digits)
    if point not in (None, settings.decimal_separator):
        yield f"decimal_separator: {point!r}"
    if thousands not in (None, settings.thousands_separator):
        other = f" (or decimal_separator: {thousands!r})" if point is None and thousands in ".," else ""
        yield f"thousands_separator: {thousands!r}{other}"


def separators(digits: str) -> tuple[str | None, str | None]:
    """The decimal and the thousands separator by the look of one number; (None, `,`) for 1,299, which may be either."""
    marks = [one for one in digits if not one.isdigit()]
    if not marks:
        return None, None
    last = marks[-1]
    after = len(digits) - digits.rindex(last) - 1
    if len(set(marks)) > 1:
        return last, marks[0]
    if len(marks) > 1 or (after == 3 and digits[0] not in "0.,"):
        return None, last
    return last, None


def _of_time(text: str, kind: pa.DataType, settings: ValueSettings) -> Iterator[str]:
    key = "date_format" if pa.types.is_date(kind) else "timestamp_format"
    if re.fullmatch(r"\d{4}-\d{2}-\d{2}[ T]\d{2}:\d{2}.*", text, re.DOTALL) and pa.types.is_date(kind):
        if re.fullmatch(r".{10}[ T]00:00(:00(\.0+)?)?(Z|[+-]\d{2}:?\d{2})?", text):
            yield "date_format: [iso, iso_midnight]"
    elif re.fullmatch(r".{8,10}[ T]24:00(:00(\.0+)?)?(Z|[+-]\d{2}:?\d{2})?", text) and not settings.hour_24:
        yield "hour_24: true"
    elif re.fullmatch(r"-?\d{9,11}(\.\d+)?|-?\d{12,14}|-?\d{15,17}", text) and not pa.types.is_date(kind):
        digits = len(text.lstrip("-").partition(".")[0])
        form = f"epoch_{'seconds' if digits <= 11 else 'milliseconds' if digits <= 14 else 'microseconds'}"
        if form not in settings.timestamp_format:
            yield f"timestamp_format: {form}"
    elif getattr(settings, key) and re.fullmatch(r"\d{4}-\d{2}-\d{2}([ T]\d{2}:\d{2}(:\d{2}.*)?)?", text):
        yield f"{key}: [iso, ...]"
    elif found := _DATE.fullmatch(text):
        forms = [form for form in _forms(found) if form not in getattr(settings, key)]
        if forms:
            yield f"{key}: {' or '.join(map(repr, forms))}"


def forms_of(text: str) -> list[str]:
    """The forms that a date or a time can have by its look: one; two where day and month may change places; none."""
    found = _DATE.fullmatch(text)
    return [] if found is None else _forms(found)


def _forms(found: re.Match[str]) -> list[str]:
    """The forms of a date by its look: by its numbers where they tell, else both."""
    first, mark, second, third, rest = found.groups()
    time = _time_form(rest)
    if time is None:
        return []
    month = "%b" if second.isalpha() and len(second) == 3 else "%B" if second.isalpha() else "%m"
    if not mark:
        return [f"%Y%m%d{time}"] if len(first) == 4 and len(second) == len(third) == 2 else []
    if len(first) == 4:
        return [f"%Y{mark}{month}{mark}%d{time}"] if mark != "-" or month != "%m" else []
    year = "%Y" if len(third) == 4 else "%y"
    day_first, month_first = f"%d{mark}{month}{mark}{year}{time}", f"%m{mark}%d{mark}{year}{time}"
    if month != "%m" or int(first) > 12:
        return [day_first]
    return [month_first] if int(second) > 12 else [day_first, month_first]


def _time_form(rest: str) -> str | None:
    if not rest:
        return ""
    found = re.fullmatch(r"([ T]|, )\d{1,2}:\d{2}(:\d{2}(\.\d{1,9})?)?( ?[AaPp]\.?[Mm]\.?)?(Z|[+-]\d{2}:?\d{2})?", rest)
    if found is None:
        return None
    hour = "%I" if found[4] else "%H"
    seconds = ("" if not found[2] else ":%S") + ("" if not found[3] else ".%f")
    half = "" if not found[4] else " %p" if found[4].startswith(" ") else "%p"
    return f"{found[1]}{hour}:%M{seconds}{half}{'%z' if found[5] else ''}"
