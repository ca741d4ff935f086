"""Number forms: numbers as a sender writes them, as the plain texts that `convert` reads.

Belongs here: separators, affixes, percent, other negatives and exponents. Does not belong here: whether the number fits
its type (`convert`). A text that is not written in the declared form gives NULL: with a decimal comma, 1.50 is no
number, since it might be 150.

Separators alone are dealt with in whole columns; only what needs another setting is looked at one by one.
"""

from __future__ import annotations

import re
from decimal import Decimal

import pyarrow as pa
import pyarrow.compute as pc

from etl_project.sources.reading.values.value_settings import ValueSettings

_BLANKS = " \u00a0\u202f"
_FAMILIES = {" ": _BLANKS, "'": "'\u2019"}
"""Senders write one separator with several characters: blanks that do not break, curly apostrophes."""
_LONGEST_EXPONENT = 60


class NumberForms:
    """Rewrites numbers written by these settings. `expanded`: exponents are written out (not for DOUBLE)."""

    def __init__(self, settings: ValueSettings, expanded: bool) -> None:
        self._settings = settings
        self._expanded = expanded
        self._marks = _FAMILIES.get(settings.thousands_separator or "", settings.thousands_separator or "")
        digits = rf"(?:[0-9]{{1,3}}(?:[{re.escape(self._marks)}][0-9]{{3}})+|[0-9]+)" if self._marks else "[0-9]+"
        point = re.escape(settings.decimal_separator)
        self._number = rf"(?:{digits}(?:{point}[0-9]*)?|{point}[0-9]+)"
        exponent = "" if expanded else "([eE][+-]?[0-9]+)?"
        self._simple = rf"\A[+-]?{self._number}{exponent}\z"
        self._special = bool(settings.prefixes or settings.suffixes or settings.percent or settings.negatives)
        self._special = self._special or settings.exponents
        self._whole = re.compile(self._pattern())

    def plain(self, texts: pa.Array) -> pa.Array:
        """Sign, digits, point and digits (and an exponent, if they are not expanded); NULL for another form."""
        fits = pc.match_substring_regex(texts, self._simple)
        simple = self._without_marks(pc.if_else(fits, texts, pa.scalar(None, pa.string())))
        if not self._special or pc.all(fits).as_py() is not False:
            return simple
        others = texts.filter(pc.invert(fits)).to_pylist()
        mended = pa.array([self._one(text) for text in others], pa.string())
        return pc.replace_with_mask(simple, pc.fill_null(pc.invert(fits), False), mended)

    def _without_marks(self, texts: pa.Array) -> pa.Array:
        for mark in self._marks:
            texts = pc.replace_substring(texts, mark, "")
        point = self._settings.decimal_separator
        return texts if point == "." else pc.replace_substring(texts, point, ".")

    def _pattern(self) -> str:
        """Everything that the settings allow, in one expression; signs are counted afterwards."""
        settings = self._settings
        blanks = f"[{_BLANKS}]?"
        minus = "[+-\u2212]" if "unicode_minus" in settings.negatives else "[+-]"
        minus = minus.replace("+-", "+\\-")
        before, after = ("|".join(map(re.escape, affixes)) for affixes in (settings.prefixes, settings.suffixes))
        prefix, suffix = f"(?:{before}){blanks}" if before else "", f"{blanks}(?:{after})" if after else ""
        opened, closed = (r"\(", r"\)") if "parentheses" in settings.negatives else ("", "")
        exponent = "[eE][+-]?[0-9]+" if settings.exponents or not self._expanded else ""
        percent = f"{blanks}%" if settings.percent else ""
        last = "-" if "trailing_minus" in settings.negatives else ""

        def maybe(name: str, pattern: str) -> str:
            return f"(?P<{name}>{pattern})?" if pattern else f"(?P<{name}>)"

        return (
            f"{maybe('first', minus)}{maybe('prefix', prefix)}{maybe('opened', opened)}"
            f"{maybe('second', minus)}{maybe('prefix_within', prefix)}(?P<digits>{self._number})"
            f"{maybe('exponent', exponent)}{maybe('percent', percent)}{maybe('suffix_within', suffix)}"
            f"{maybe('closed', closed)}{maybe('suffix', suffix)}{maybe('last', last)}"
        )

    def _one(self, text: str) -> str | None:
        found = self._whole.fullmatch(text)
        if found is None:
            return None
        parts = {name: part or "" for name, part in found.groupdict().items()}
        signs = [parts[name] for name in ("first", "second", "last", "opened") if parts[name]]
        twice = any(parts[name] and parts[f"{name}_within"] for name in ("prefix", "suffix"))
        if bool(parts["opened"]) != bool(parts["closed"]) or len(signs) > 1 or twice:
            return None
        negative = signs not in ([], ["+"])
        digits = parts["digits"]
        for mark in self._marks:
            digits = digits.replace(mark, "")
        number = digits.replace(self._settings.decimal_separator, ".") + parts["exponent"]
        shift = -2 if parts["percent"] and self._settings.percent == "fraction" else 0
        written = self._written_out(number, shift) if shift or (parts["exponent"] and self._expanded) else number
        return None if written is None else f"-{written}" if negative else written

    @staticmethod
    def _written_out(number: str, shift: int) -> str | None:
        """Without an exponent, and without a single digit lost: Decimal's own arithmetic would round to 28 of them."""
        value = Decimal(number)
        if abs(value.adjusted()) > _LONGEST_EXPONENT:
            return None
        sign, digits, exponent = value.as_tuple()
        return format(Decimal((sign, digits, int(exponent) + shift)), "f")
