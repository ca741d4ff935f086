"""Plain: the one way in which a value of each type is written that every other way is brought into.

Belongs here: the expressions that `convert` and the forms before it have to agree on. Nothing is read or rewritten.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

YEAR = "(?:[1-9][0-9]{3}|0[1-9][0-9]{2}|00[1-9][0-9]|000[1-9])"
DATE = rf"{YEAR}-[0-9]{{2}}-[0-9]{{2}}"
TIME = rf"{DATE}[ T][0-9]{{2}}:[0-9]{{2}}(?::[0-9]{{2}}(?:\.[0-9]{{1,6}}0*)?)?"
OFFSET = r"(?P<offset>Z|[+-][0-9]{2}(?::?[0-9]{2})?)"
FIRST_MICROS, LAST_MICROS = (
    (end.replace(tzinfo=UTC) - datetime.fromtimestamp(0, UTC)) // timedelta(microseconds=1)
    for end in (datetime.min, datetime.max)  # noqa: DTZ901 - they get their zone above
)
"""The first and the last moment of the calendar, counted from 1970."""
