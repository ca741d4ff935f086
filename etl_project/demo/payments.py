"""Sample payments: what customers of the made-up shop paid, as the messages of a Kafka topic.

Belongs here: making the messages, the same on every machine, each with the partition and the offset that it has in a
topic nobody else writes to. They hold what real topics hold: invoices nobody paid, payments for no invoice, a wrong
amount, another currency, refunds, a message that is late. Does not belong here: landing them (`demo.landed`).
"""

from __future__ import annotations

import json
import random
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from zoneinfo import ZoneInfo

from etl_project.demo import sample
from etl_project.utc import days_between

TOPIC, PARTITIONS = "payments", 3
LATE = date(2025, 3, 13)
"""The day whose last payment comes only after all others."""
METHODS = ("card", "card", "card", "transfer", "voucher")
_SHOP_TIME = ZoneInfo("Europe/London")
_PENNY = Decimal("0.01")


@dataclass(frozen=True)
class Message:
    """One message: where it is in the topic, when it was sent (UTC, to the millisecond), key and payload."""

    partition: int
    offset: int
    sent_at: datetime
    key: bytes
    payload: bytes

    @property
    def timestamp_ms(self) -> int:
        """The timestamp as Kafka has it: milliseconds since 1970."""
        return round(self.sent_at.timestamp() * 1000)


def messages(moved: timedelta = sample.NOT_MOVED) -> list[Message]:
    """All payments in the order in which they are sent; the last one is the late one. `moved` as in `sample`."""
    sent = [payment for day in days_between(sample.FIRST, sample.LAST) for payment in _of_day(day, moved)]
    sent.sort(key=lambda payment: payment[0])
    late = max(at for at, payment in enumerate(sent) if payment[0].date() == LATE + moved)
    sent.append(sent.pop(late))
    offsets = [0] * PARTITIONS
    made = []
    for sent_at, fields in sent:
        partition = zlib.crc32(fields["invoice_no"].encode()) % PARTITIONS
        payload = json.dumps(fields, ensure_ascii=False).encode()
        made.append(Message(partition, offsets[partition], sent_at, fields["invoice_no"].encode(), payload))
        offsets[partition] += 1
    return made


def _of_day(day: date, moved: timedelta) -> Iterator[tuple[datetime, dict[str, str]]]:
    """The payments of a day with the instants at which they are sent."""
    if day.weekday() == sample.SATURDAY:
        return
    dice = random.Random(f"payments {day.isoformat()}")
    for number, (invoice, (total, invoiced_at)) in enumerate(_invoices(day, moved).items(), 1):
        paid_at = invoiced_at + timedelta(seconds=20 + int(dice.random() * 600))
        luck = dice.random()
        if luck < 0.03:
            continue
        fields = {
            "payment_id": f"P{day + moved:%Y%m%d}-{number:03}",
            "invoice_no": invoice if luck > 0.04 else f"{invoice}0",
            "amount": str(total + _PENNY * 100 if luck > 0.98 else total),
            "currency": "EUR" if 0.97 < luck <= 0.98 else "GBP",
            "paid_at": f"{paid_at:%Y-%m-%dT%H:%M:%SZ}",
            "method": METHODS[int(dice.random() * len(METHODS))],
        }
        yield paid_at + timedelta(milliseconds=int(dice.random() * 5000)), fields


def _invoices(day: date, moved: timedelta) -> dict[str, tuple[Decimal, datetime]]:
    """Every invoice of the day: what it comes to in whole pence, and when (UTC) it was made."""
    totals: dict[str, Decimal] = {}
    made_at: dict[str, datetime] = {}
    for invoice, _, _, quantity, clock, price, *_ in sample.corrected_rows_of(day, moved):
        totals[invoice] = totals.get(invoice, Decimal(0)) + int(quantity) * Decimal(price)
        made_at[invoice] = datetime.fromisoformat(clock).replace(tzinfo=_SHOP_TIME).astimezone(UTC)
    return {
        invoice: (total.quantize(_PENNY, ROUND_HALF_UP), made_at[invoice]) for invoice, total in totals.items() if total
    }
