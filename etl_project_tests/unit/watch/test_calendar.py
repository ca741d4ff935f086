"""The strip of days: every state has its own sign, months stand where they begin."""

from __future__ import annotations

from datetime import date, timedelta

from etl_project.watch import calendar
from etl_project.watch.status import State


def test_every_state_is_a_sign_of_its_own_that_needs_no_colour() -> None:
    states: dict[date, State] = {
        date(2025, 3, 1): "committed",
        date(2025, 3, 2): "failed",
        date(2025, 3, 3): "stale",
        date(2025, 3, 4): "missing",
    }
    days = [date(2025, 3, 1) + timedelta(days=n) for n in range(5)]
    plain = calendar.strip(days, states).plain
    assert plain == "■✗≈· " and len(set(plain)) == 5
    assert all(
        f"{sign} {state}" in calendar.legend().plain for sign, state in zip(plain, states.values(), strict=False)
    )


def test_months_stand_above_their_first_day_and_the_year_at_the_start_and_in_january() -> None:
    days = [date(2024, 11, 20) + timedelta(days=n) for n in range(60)]
    line = calendar.months(days)
    assert line.startswith("Nov 2024")
    assert line.index("Dec") == 11 and line.index("Jan 2025") == 42
    assert calendar.months([]) == ""


def test_a_month_that_begins_at_once_leaves_no_room_for_the_next_to_overlap() -> None:
    days = [date(2025, 3, 30) + timedelta(days=n) for n in range(40)]
    assert calendar.months(days) == "Mar 2025".ljust(days.index(date(2025, 5, 1))) + "May"
