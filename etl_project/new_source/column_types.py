"""Column types: what the texts of a column are, by the very rules that will convert them later.

Belongs here: the guess for one column, and what a person should look at in it. A type is guessed only when every text
of the sample is a value of it (`incoming.convert` says so), so that a sample is never rejected by its own source.
Does not belong here: reading the file (`make`), or names (`column_names`).

Careful by intention: digits with a leading zero or a plus sign are codes and stay text; exact decimals are DECIMAL
with room for more digits than the sample has; whole numbers are BIGINT.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.compute as pc

from etl_project.new_source.value_forms import Ask, counted_time, form_of
from etl_project.sources import Converter, SourceColumn

DATE, INSTANT, BIGINT, DOUBLE, TEXT = "DATE", "TIMESTAMP WITH TIME ZONE", "BIGINT", "DOUBLE", "VARCHAR"
DECIMAL = "DECIMAL"
LONGEST_DECIMAL = 38
FEW = 3
KEPT = 5_000
"""So many different values of a column are looked at for the way in which they are written."""
"""So many values that are not of a type are worth naming, where all others are."""

_MARKERS = {"n/a", "na", "null", "\\n", "nan", "#n/a", "(null)", "<null>"}
_PLAIN = r"^[+-]?([0-9]+(\.[0-9]+)?|\.[0-9]+)$"
_OFFSET = r"(Z|[+-][0-9]{2}(:?[0-9]{2})?)$"
_CODE = r"^([+-]?0[0-9]|\+)"
_MONEY_SCALE, _USUAL_PRECISION, _MEASURED_SCALE = 4, 18, 9

_Fits = Callable[[pa.Array, Converter], pa.Array]


@dataclass(frozen=True)
class Guess:
    """What a column of the sample is, how its values are written (`settings`), and what a person should look at."""

    type: str
    nullable: bool
    notes: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)


def nobody(question: str, answers: Sequence[str]) -> str | None:
    """Answers nothing: there is no person to ask."""
    return None


@dataclass
class Evidence:
    """What has been seen of one column so far; `strangers` are the first values that are not of a type."""

    rows: int = 0
    empty: int = 0
    distinct: int = 0
    whole_digits: int = 0
    scale: int = 0
    exact: bool = False
    local_times: bool = False
    point_zero: bool = False
    padded: str | None = None
    kept: dict[str, None] = field(default_factory=dict)
    strangers: dict[str, list[str]] = field(default_factory=lambda: {kind: [] for kind in _FITS})

    def see(self, texts: pa.Array) -> None:
        """Take in the texts of some rows, NULL for none."""
        self.rows += len(texts)
        self.empty += texts.null_count
        values = texts.unique().drop_null()
        self.distinct += len(values)
        if not len(values):
            return
        self.kept.update(dict.fromkeys(values[: max(0, KEPT - len(self.kept))].to_pylist()))
        converter = Converter(ZoneInfo("UTC"))
        for kind, strangers in self.strangers.items():
            if len(strangers) <= FEW:
                strangers.extend(_first(values, pc.invert(_FITS[kind](values, converter)), FEW + 1 - len(strangers)))
        padded = _first(values, pc.not_equal(values, pc.utf8_trim_whitespace(values)), 1)
        self.padded = self.padded or (padded[0] if padded else None)
        if len(self.strangers[INSTANT]) <= FEW:
            self.local_times = self.local_times or _any(pc.invert(pc.match_substring_regex(values, _OFFSET)))
        if len(self.strangers[DECIMAL]) <= FEW:
            self._see_numbers(values.filter(_decimal(values, converter)))

    def _see_numbers(self, values: pa.Array) -> None:
        """How many digits the numbers have on either side of the point."""
        if not len(values):
            return
        digits = pc.replace_substring_regex(values, r"^[+-]", "")
        point = pc.find_substring(digits, ".")
        length = pc.utf8_length(digits)
        whole = pc.if_else(pc.less(point, 0), length, point)
        scale = pc.if_else(pc.less(point, 0), 0, pc.subtract(pc.subtract(length, point), 1))
        self.whole_digits = max(self.whole_digits, pc.max(whole).as_py())
        self.scale = max(self.scale, pc.max(scale).as_py())
        self.point_zero = self.point_zero or _any(pc.greater_equal(point, 0))
        long = values.filter(pc.greater(scale, _MEASURED_SCALE)).to_pylist()
        self.exact = self.exact or any(Decimal(repr(float(text))) != Decimal(text) for text in long)

    def guess(self) -> Guess:
        """The type that every value has, plainly written; text where they share none."""
        nullable = self.empty > 0
        if self.empty == self.rows:
            return Guess(TEXT, True, ("always empty in the sample: say what it is",))
        kind = next((kind for kind, strange in self.strangers.items() if not strange), TEXT)
        if kind != DECIMAL:
            return Guess(kind, nullable, tuple(self._notes(kind)))
        sized = self._sized()
        return Guess(sized, nullable, tuple(self._notes(kind if sized.startswith(DECIMAL) else sized)))

    def guess_written(self, column: str, ask: Ask = nobody) -> Guess:
        """The type that every value has, in whatever way they are written, and the settings that say so."""
        plain = self.guess()
        if plain.type == BIGINT:
            found = counted_time(column, list(self.kept))
        else:
            found = form_of(column, list(self.kept), _plain_type, ask) if plain.type == TEXT and self.kept else None
        if found is None:
            markers = [text for text in self.kept if text.strip().lower() in _MARKERS] if plain.type == TEXT else []
            kept = f"{', '.join(map(repr, markers))} stays text; null_values would take it as missing"
            return replace(plain, notes=(*plain.notes, kept)) if markers and len(self.kept) > len(markers) else plain
        missing = bool(found.settings.get("null_values")) or any(not value.strip() for value in self.kept)
        return Guess(found.type, plain.nullable or missing, found.notes, found.settings)

    def strangers_to(self, kind: str) -> list[str]:
        """Values among those kept that are none of a type."""
        values = pa.array(list(self.kept), pa.string())
        column = SourceColumn("column", kind)
        return _first(values, Converter(ZoneInfo("UTC")).column(values, column).is_null(), KEPT)

    def _sized(self) -> str:
        """DECIMAL with headroom; DOUBLE for what looks measured, not counted out; text for what no DECIMAL holds."""
        if self.scale > _MEASURED_SCALE and not self.exact:
            return DOUBLE
        if self.whole_digits + self.scale > LONGEST_DECIMAL:
            return TEXT
        scale = 0 if not self.scale else max(self.scale + 1, _MONEY_SCALE)
        if self.whole_digits + scale > LONGEST_DECIMAL:
            scale = LONGEST_DECIMAL - self.whole_digits
        precision = _USUAL_PRECISION if self.whole_digits + scale + 3 <= _USUAL_PRECISION else LONGEST_DECIMAL
        return f"DECIMAL({precision}, {scale})"

    def _notes(self, kind: str) -> list[str]:
        notes = []
        if kind == INSTANT and self.local_times:
            notes.append("local times are read as UTC: put their zone under time_zone")
        if kind == BIGINT and self.point_zero:
            notes.append("whole numbers written with .0; DECIMAL if fractions can come")
        if kind == DOUBLE and not self.strangers[DECIMAL]:
            notes.append("long fractions are taken for measurements; DECIMAL if every digit counts")
        if kind == TEXT and not self.strangers[DECIMAL]:
            notes.append(
                f"text, because its numbers have up to {self.whole_digits} digits before and {self.scale} after the "
                f"point, and a DECIMAL holds {LONGEST_DECIMAL} in all; DOUBLE if the last digits do not count"
            )
        elif kind == TEXT:
            notes += self._nearly()
        return notes

    def _nearly(self) -> list[str]:
        """Say so where only a few values keep the column from another type."""
        for kind, strange in self.strangers.items():
            if len(strange) <= FEW and self.distinct >= 10 * len(strange):
                few = ", ".join(repr(text[:40]) for text in strange)
                return [f"text, because of {few}; all other values are {kind}"]
        if self.padded is not None and _is_any(self.padded.strip()):
            return [f"text, because of the spaces in {self.padded!r}: nothing is trimmed"]
        return []


def _plain_type(values: Sequence[str]) -> str:
    evidence = Evidence()
    evidence.see(pa.array(values, pa.string()))
    return evidence.guess().type


def declared(kind: pa.DataType) -> str:
    """The type of a column as its file declares it (Parquet); text for what is neither number nor time."""
    if pa.types.is_decimal(kind):
        if kind.precision > LONGEST_DECIMAL:
            return TEXT
        return f"DECIMAL({max(kind.precision, _USUAL_PRECISION)}, {kind.scale})"
    by_test = (
        (pa.types.is_boolean, "BOOLEAN"),
        (pa.types.is_uint64, "UBIGINT"),
        (pa.types.is_integer, BIGINT),
        (pa.types.is_floating, DOUBLE),
        (pa.types.is_date, DATE),
        (pa.types.is_timestamp, INSTANT),
    )
    return next((name for test, name in by_test if test(kind)), TEXT)


def _converted(kind: str) -> _Fits:
    """The texts that the reader converts to this type."""
    return lambda values, converter: converter.column(values, SourceColumn("column", kind)).is_valid()


def _boolean(values: pa.Array, _: Converter) -> pa.Array:
    """Only the words: 0 and 1 are more often counts, t and f more often codes."""
    return pc.match_substring_regex(values, r"^(?i:true|false)$")


def _integer(values: pa.Array, converter: Converter) -> pa.Array:
    """No codes, and no fractions; 17850.0 is how some tools write 17850, 5.00 is money."""
    plain = pc.invert(pc.match_substring_regex(values, rf"{_CODE}|\.[0-9]{{2,}}$"))
    return pc.and_(plain, _converted(BIGINT)(values, converter))


def _decimal(values: pa.Array, _: Converter) -> pa.Array:
    number = pc.match_substring_regex(values, _PLAIN)
    short = pc.less_equal(pc.utf8_length(pc.replace_substring_regex(values, r"[+.-]", "")), LONGEST_DECIMAL)
    return pc.and_(pc.and_(number, short), pc.invert(pc.match_substring_regex(values, _CODE)))


def _double(values: pa.Array, converter: Converter) -> pa.Array:
    return pc.and_(pc.invert(pc.match_substring_regex(values, _CODE)), _converted(DOUBLE)(values, converter))


_FITS: dict[str, _Fits] = {
    "BOOLEAN": _boolean,
    DATE: _converted(DATE),
    INSTANT: _converted(INSTANT),
    BIGINT: _integer,
    DECIMAL: _decimal,
    DOUBLE: _double,
}
"""The types that are tried, in this order: the first that all values have is the guess."""


def _is_any(text: str) -> bool:
    """Whether the text is a value of some type that is not text."""
    return any(_any(fits(pa.array([text]), Converter(ZoneInfo("UTC")))) for fits in _FITS.values())


def _first(values: pa.Array, mask: pa.Array, count: int) -> list[str]:
    return list(values.filter(mask)[:count].to_pylist())


def _any(mask: pa.Array) -> bool:
    return bool(pc.any(mask).as_py())
