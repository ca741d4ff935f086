"""Dagster's own IO manager: all days in one run, which is a backfill in a single run."""

from __future__ import annotations

from common import asked, tell
from stock import load

load(work := asked(), [(work.first, work.last)])
tell(work.warehouse, "main.orders", "main.daily_sales")
