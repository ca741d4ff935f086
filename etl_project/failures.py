"""Failures: what went wrong, and whether trying again can help.

Belongs here: the two families of failure. Does not belong here: any particular failure; those live beside the code
that raises them; nor what each does to Dagster's retries (`storage.dagster.reporting`).
"""

from __future__ import annotations

FAILURE_TAG = "etl/failure"
"""Run tag that says `permanent` or `transient`; the sensor reads it to decide when to ask again."""
WHOLE_TAG = "etl/not_of_the_data"
"""Run tag with the kind of a failure that no smaller run would be spared, like `LockBusy`."""


class EtlError(Exception):
    """A failure with a message a person can act on. Every message says whether retrying helps."""

    retryable: bool = False
    splits: bool = True
    """Whether a smaller piece of the work could go better: not where it is nobody's data that is at fault."""


class Permanent(EtlError):
    """Retrying does not help: the data, the contract or the configuration has to change first."""

    retryable = False


class Transient(EtlError):
    """Retrying helps: something was busy, locked or unreachable, and nothing was changed."""

    retryable = True


class Busy(Transient):
    """Retrying helps once somebody else lets go. It says nothing about the data."""

    splits = False


class Outage(Transient):
    """Somebody outside answers nobody. Retrying helps once they do; until then the same fails for everything."""

    splits = False


OUTAGES = frozenset({"ReceiverSilent"})
"""The names of these failures, as WHOLE_TAG has them: nobody here holds anything, and what needs them not goes on."""
