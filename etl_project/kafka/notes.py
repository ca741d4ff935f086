"""Notes: what was landed, as observations of the files asset in Dagster, where it can be plotted.

Belongs here: which landings are news, and how they are noted, by the job and by `etl consume` alike. Does not belong
here: landing.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from dataclasses import replace

import dagster as dg
from dagster import AssetObservation
from sqlalchemy.exc import SQLAlchemyError

from etl_project.failures import EtlError
from etl_project.kafka.assets import NO_HOLES
from etl_project.kafka.landing import LandingTally

_SECONDS_BETWEEN_NOTES = 60.0


def note(
    instance: dg.DagsterInstance,
    files: str,
    tally: LandingTally,
    tell: Callable[[AssetObservation], None],
    where: str,
) -> None:
    """Note a landing on the files asset: its numbers where they are news, and lost offsets at once.

    A quiet topic would else fill the event log with the same zeros, one entry a minute. `where` says where to look a
    loss up.
    """
    metadata = tally.metadata()
    if tally.landed or tally.dead or tally.lost or tally.dropped or metadata["lag"] != _last_lag(instance, files):
        tell(AssetObservation(files, metadata=metadata))
    if tally.lost:
        lost = f"{tally.lost} offsets were gone before they could be landed; {where}."
        instance.report_runless_asset_event(
            dg.AssetCheckEvaluation(asset_key=dg.AssetKey(files), check_name=NO_HOLES, passed=False, description=lost)
        )


class Notes:
    """The notes of a landing that goes on for long: once a minute what has come since the last one, a loss at once.

    Where Dagster's history cannot be written, `warn` hears of it once for each time, and the landing goes on.
    """

    def __init__(self, instance: dg.DagsterInstance, files: str, warn: Callable[[str], None]) -> None:
        self._instance, self._files, self._warn = instance, files, warn
        self._last = time.monotonic()
        self._seen: LandingTally | None = None
        self._noted = LandingTally()

    def tell(self, tally: LandingTally) -> None:
        """Hear of a landed batch."""
        self._seen = tally
        if time.monotonic() - self._last >= _SECONDS_BETWEEN_NOTES or tally.lost > self._noted.lost:
            self.write()

    def write(self) -> None:
        """Note what has not been noted yet; nothing where no batch was heard of."""
        if self._seen is None:
            return
        self._last = time.monotonic()
        news = self._seen.since(self._noted)
        try:
            where = "what etl consume said, and the records in its folder of dead letters, say which"
            note(self._instance, self._files, news, self._instance.report_runless_asset_event, where)
        except (SQLAlchemyError, sqlite3.Error, OSError, EtlError) as error:
            self._warn(f"the landing goes on, but could not be noted in Dagster: {error}")
            return
        self._noted = replace(self._seen)


def _last_lag(instance: dg.DagsterInstance, files: str) -> object:
    """The lag as last noted; None where none ever was."""
    newest = instance.fetch_observations(dg.AssetKey(files), limit=1).records
    observed = newest[0].event_log_entry.asset_observation if newest else None
    return observed.metadata["lag"].value if observed is not None and "lag" in observed.metadata else None
