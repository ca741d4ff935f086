"""Time formats: texts in a declared form (dd.mm.yyyy, ...) as the plain texts that `convert` reads.

Belongs here: the letters of a form, and rewriting what fits it. Does not belong here: whether the day or time exists
(`convert`, `local_time`).

The letters are those of strptime as DuckDB documents them: %Y %y %m %b %B %d %H %I %p %M %S %f %z and %% (with or
without the dash of %-d). A number may lack its leading zero, except where two of them touch. Years of two digits are
1969 to 2068, as POSIX has it. Names of months are English, short or long, in any case of letters.
"""

from __future__ import annotations

import calendar
import re
from dataclasses import dataclass
from typing import Self

import pyarrow as pa
import pyarrow.compute as pc

_DIRECTIVE = re.compile(r"%-?(.)|[^%]+|%", re.DOTALL)
_NAMES = "|".join(
    sorted({name for names in (calendar.month_name, calendar.month_abbr) for name in names if name}, key=len)[::-1]
)
_PARTS = {
    "Y": ("year", "[0-9]{4}"),
    "y": ("short_year", "[0-9]{2}"),
    "m": ("month", "[0-9]{1,2}"),
    "b": ("month_name", f"(?i:{_NAMES})"),
    "B": ("month_name", f"(?i:{_NAMES})"),
    "d": ("day", "[0-9]{1,2}"),
    "H": ("hour", "[0-9]{1,2}"),
    "I": ("hour_12", "0?[1-9]|1[0-2]"),
    "p": ("half", "(?i:[ap]\\.?m\\.?)"),
    "M": ("minute", "[0-9]{1,2}"),
    "S": ("second", "[0-9]{1,2}"),
    "f": ("fraction", "[0-9]{1,9}"),
    "z": ("offset", "Z|[+-][0-9]{2}(?::?[0-9]{2})?"),
}
_TIME_OF_DAY = {"hour", "hour_12", "half", "minute", "second", "fraction", "offset"}
_MONTHS = {name[:3].lower(): f"{number:02}" for number, name in enumerate(calendar.month_name) if name}


class FormatError(ValueError):
    """The form cannot be used; the message says why."""


@dataclass(frozen=True)
class TimeFormat:
    """One form, ready to be used. `parts` are the named pieces that it has."""

    pattern: str
    parts: frozenset[str]

    @classmethod
    def of(cls, form: str) -> Self:
        """Raises FormatError for letters that are not known, and for a form that leaves the date open."""
        pieces: list[str] = []
        found: list[str] = []
        before_was_number = False
        for match in _DIRECTIVE.finditer(form):
            letter = match[1]
            if letter is None or letter == "%":
                if match[0] == "%":
                    raise FormatError("it ends with a lone %")
                literal = "%" if letter == "%" else match[0]
                pieces.append(re.escape(literal))
                before_was_number = literal[-1:].isdigit()
                continue
            if letter not in _PARTS:
                raise FormatError(f"{match[0]} is not known; the letters are {' '.join('%' + one for one in _PARTS)}")
            name, shape = _PARTS[letter]
            is_number = shape == "[0-9]{1,2}"
            if is_number and before_was_number:
                shape = "[0-9]{2}"
                pieces[-1] = pieces[-1].replace("[0-9]{1,2}", "[0-9]{2}")
            pieces.append(f"(?P<{name}>{shape})")
            found.append(name)
            before_was_number = letter in "YymdHIMSf"
        return cls("".join(pieces), frozenset(_checked(found)))

    @property
    def has_time_of_day(self) -> bool:
        """Whether the form says more than a day."""
        return bool(self.parts & _TIME_OF_DAY)

    def plain(self, texts: pa.Array) -> pa.Array:
        """YYYY-MM-DD, with the time of day and the offset that the form has; NULL for a text of another form."""
        found = pc.extract_regex(texts, rf"\A(?:{self.pattern})\z")
        known = found.is_valid()
        get = {name: found.field(name) for name in self.parts}
        pieces = [_year(get), "-", _month(get), "-", _padded(get["day"])]
        if self.has_time_of_day:
            pieces += [" ", _hour(get), ":", *_two(get, "minute"), ":", *_two(get, "second")]
            if "fraction" in get:
                pieces += [".", get["fraction"]]
            if "offset" in get:
                pieces.append(get["offset"])
        joined = pc.binary_join_element_wise(*pieces, "")
        return pc.if_else(known, joined, pa.scalar(None, pa.string()))


def _checked(found: list[str]) -> list[str]:
    for name in found:
        if found.count(name) > 1:
            raise FormatError(f"it has its {name.replace('_', ' ')} twice")
    for these in (("year", "short_year"), ("month", "month_name"), ("day",)):
        if sum(name in found for name in these) != 1:
            raise FormatError(f"it needs its {these[0]} once")
    if "hour" in found and "hour_12" in found:
        raise FormatError("it has two hours, %H and %I")
    if ("hour_12" in found) != ("half" in found):
        raise FormatError("%I and %p go together; write %H for hours from 0 to 23")
    for smaller, larger in (("minute", ("hour", "hour_12")), ("second", ("minute",)), ("fraction", ("second",))):
        if smaller in found and not any(name in found for name in larger):
            raise FormatError(f"it has a {smaller} without its {larger[0]}")
    if "offset" in found and not ("hour" in found or "hour_12" in found):
        raise FormatError("it has an offset without its hour")
    return found


def _padded(numbers: pa.Array) -> pa.Array:
    return pc.utf8_lpad(numbers, 2, "0")


def _two(get: dict[str, pa.Array], name: str) -> list[pa.Array | str]:
    return [_padded(get[name])] if name in get else ["00"]


def _year(get: dict[str, pa.Array]) -> pa.Array:
    if "year" in get:
        return get["year"]
    short = get["short_year"]
    return pc.binary_join_element_wise(pc.if_else(pc.greater_equal(short, "69"), "19", "20"), short, "")


def _month(get: dict[str, pa.Array]) -> pa.Array:
    if "month" in get:
        return _padded(get["month"])
    short = pc.utf8_slice_codeunits(pc.utf8_lower(get["month_name"]), 0, 3)
    at = pc.index_in(short, pa.array(list(_MONTHS)))
    return pa.array(list(_MONTHS.values())).take(at)


def _hour(get: dict[str, pa.Array]) -> pa.Array | str:
    if "hour" in get:
        return _padded(get["hour"])
    if "hour_12" not in get:
        return "00"
    hour = pc.cast(pc.if_else(pc.equal(get["hour_12"], ""), None, get["hour_12"]), pa.int32())
    from_midnight = pc.if_else(pc.equal(hour, 12), 0, hour)
    after_noon = pc.starts_with(get["half"], "p", ignore_case=True)
    return _padded(pc.cast(pc.if_else(after_noon, pc.add(from_midnight, 12), from_midnight), pa.string()))
