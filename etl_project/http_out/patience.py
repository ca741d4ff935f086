"""Patience: when a delivery that failed is tried again, whichever run asks for it.

Belongs here: the one policy, as pure functions over what is recorded. Does not belong here: the pauses between the
attempts of one call, which last seconds (`client`), and when a run is asked for at all.

A range that fails is run again in halves, and the halves of these, within seconds; a sensor asks every few seconds.
Each such run meets the same delivery. Whatever brought no confirmation is therefore left alone for a growing time, and
so is a receiver that answers nobody. Runs that a person starts do not wait.
"""

from __future__ import annotations

from datetime import datetime, timedelta

FIRST_PAUSE = timedelta(minutes=1)
LONGEST_PAUSE = timedelta(hours=1)
SILENT_AFTER = 2
"""So many deliveries in a row without any confirmation, and it is the receiver that is at fault, not one of them."""


def wait_until(failures: int, failed_at: datetime) -> datetime:
    """When to try again after that many failures in a row, the last one then: the pause doubles up to an hour."""
    return failed_at + min(FIRST_PAUSE * (1 << min(failures - 1, 12)), LONGEST_PAUSE)
