"""The Dagster resource for outgoing requests.

Belongs here: opening a client on its records. A plain object on purpose: what a ConfigurableResource holds is shown in
the UI, and an address or a token may be a secret.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from etl_project.http_in import Database
from etl_project.http_out.client import DeliveryClient
from etl_project.http_out.records import Deliveries
from etl_project.http_out.settings import Outgoing
from etl_project.settings import SettingsError

_TICK_SECONDS = 20.0


@dataclass(frozen=True)
class Delivery:
    """Posts with at most one effect a content: take it as `delivery: dg.ResourceParam[Delivery]`.

    `sending` is None while ETL_DELIVERY_URL is not set; `records` is the file that remembers what was posted.
    """

    sending: Outgoing | None
    records: Path

    @contextmanager
    def open(self, log: logging.Logger) -> Iterator[tuple[DeliveryClient, Deliveries]]:
        """A client and its records, closed at the end. Raises SettingsError (permanent) while there is no address."""
        if self.sending is None:
            raise SettingsError("ETL_DELIVERY_URL is not set; set it to the address to post to.")
        database = Database(self.records)
        try:
            deliveries = Deliveries(database)
            yield DeliveryClient(self.sending, deliveries, log), deliveries
        finally:
            database.close()

    def impatient(self) -> Delivery:
        """The same for a sensor, whose tick has 60 s: what does not get through is tried again by the next one."""
        if self.sending is None:
            return self
        seconds = min(_TICK_SECONDS, self.sending.total_seconds)
        return replace(self, sending=replace(self.sending, attempts=2, total_seconds=seconds))
