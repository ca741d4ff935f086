"""Sample files: a made-up shop's orders, the same content on every machine and at every call.

Belongs here: making the files. They hold what real drop folders hold: returns, unknown customers, days without a file,
a file in two parts, a compressed one, a copy under another name, a correction, a file with the wrong header and rows
that make no sense. The days can be moved: the same rows, then, with the clock on another day.
"""

from __future__ import annotations

import csv
import gzip
import io
import random
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from pathlib import Path

from etl_project import atomic
from etl_project.utc import days_between

FIRST, LAST = date(2025, 3, 10), date(2025, 4, 8)  # The clocks of London change on 30 March.
TWO_FILES, COMPRESSED, COPIED = date(2025, 3, 12), date(2025, 3, 14), date(2025, 3, 18)
CORRECTED, WRONG_HEADER, BROKEN_ROWS = date(2025, 3, 20), date(2025, 3, 27), date(2025, 4, 2)
SATURDAY = 5
NOT_MOVED = timedelta(0)
HEADER = ("InvoiceNo", "StockCode", "Description", "Quantity", "InvoiceDate", "UnitPrice", "CustomerID", "Country")
PRODUCTS = (
    ("10001", "ENAMEL MUG, BLUE", "4.95"),
    ("10002", "ENAMEL MUG, GREEN", "4.95"),
    ("10014", "TIN LANTERN SMALL", "7.50"),
    ("10015", "TIN LANTERN LARGE", "12.75"),
    ("10120", "WOOL BLANKET, HERRINGBONE", "38.00"),
    ("10121", 'CUSHION "HARBOUR"', "14.25"),
    ("10200", "BEESWAX CANDLES, SET OF 6", "6.85"),
    ("10201", "MATCHES IN A JAR", "3.20"),
    ("10333", "WICKER BASKET", "16.40"),
    ("10334", "BREAD TIN", "18.90"),
    ("10410A", "LINEN APRON, GREY", "21.00"),
    ("10410B", "LINEN APRON, RUST", "21.00"),
    ("10522", "SEED PACKET, POPPY", "0.85"),
    ("10523", "SEED PACKET, CORNFLOWER", "0.85"),
    ("10600", "WATERING CAN", "24.50"),
    ("10711", "TWINE, 100 M", "2.15"),
    ("10800", "NOTEBOOK, RULED", "5.60"),
    ("10801", "NOTEBOOK, PLAIN", "5.60"),
    ("10950", "GIFT WRAP", "0.425"),
    ("POST", "POSTAGE", "3.95"),
)
COUNTRIES = ("United Kingdom", "United Kingdom", "United Kingdom", "Ireland", "France", "Germany", "Netherlands")

Row = tuple[str, ...]


@dataclass(frozen=True)
class SampleFile:
    """One file as a sender would drop it: its name and bytes."""

    name: str
    content: bytes


def first_delivery(moved: timedelta = NOT_MOVED) -> list[SampleFile]:
    """Everything the shop sends at first: 30 days, closed on one day of the week. `moved`: so much later."""
    files: list[SampleFile] = []
    for day in days_between(FIRST, LAST):
        if day.weekday() == SATURDAY:
            continue
        rows = rows_of(day, moved)
        name = f"orders-{(day + moved).isoformat()}"
        if day == TWO_FILES:
            half = len(rows) // 2
            files += [_file(f"{name}-am.csv", rows[:half]), _file(f"{name}-pm.csv", rows[half:])]
        elif day == COMPRESSED:
            files.append(SampleFile(f"{name}.csv.gz", gzip.compress(as_csv(HEADER, rows), mtime=0)))
        elif day == WRONG_HEADER:
            files.append(SampleFile(f"{name}.csv", as_csv(("InvoiceNo", "Item", *HEADER[2:]), rows)))
        elif day == BROKEN_ROWS:
            files.append(_file(f"{name}.csv", _with_broken_rows(rows)))
        else:
            files.append(_file(f"{name}.csv", rows))
        if day == COPIED:
            files.append(_file(f"{name}-copy.csv", rows))
    return files


def correction(moved: timedelta = NOT_MOVED) -> list[SampleFile]:
    """One day again, under the same name: the postage was wrong."""
    return [_file(f"orders-{(CORRECTED + moved).isoformat()}.csv", corrected_rows_of(CORRECTED, moved))]


def drop(files: list[SampleFile], folder: Path) -> None:
    """Put the files into a drop folder the way a careful sender does: written aside, then renamed."""
    for file in files:
        with atomic.replacing(folder / file.name, "demo") as temporary:
            temporary.write_bytes(file.content)


def rows_of(day: date, moved: timedelta = NOT_MOVED) -> list[Row]:
    """The order lines of a day. Only `Random.random` is used: its sequence is the same in every Python."""
    dice = random.Random(f"shop {day.isoformat()}")
    rows: list[Row] = []
    clock = datetime.combine(day + moved, time(8))
    number = 560000 + (day - FIRST).days * 200
    for _ in range(45 + int(dice.random() * 50)):
        number += 1
        clock += timedelta(seconds=int(dice.random() * 720))
        rows += _invoice(dice, number, min(clock, datetime.combine(day + moved, time(20))))
    return rows


def corrected_rows_of(day: date, moved: timedelta = NOT_MOVED) -> list[Row]:
    """The order lines of a day as they are right, and were paid; for one day the shop sends wrong postage first."""
    if day != CORRECTED:
        return rows_of(day, moved)
    return [(*row[:5], "4.20", *row[6:]) if row[1] == "POST" else row for row in rows_of(day, moved)]


def _invoice(dice: random.Random, number: int, clock: datetime) -> list[Row]:
    """One invoice of one to nine lines; some are returns, some have no customer, some bring a line twice."""
    returned = dice.random() < 0.06
    customer = "" if dice.random() < 0.2 else f"{14000 + int(dice.random() * 400)}.0"
    country = COUNTRIES[int(dice.random() * len(COUNTRIES))]
    lines: list[Row] = []
    for _ in range(1 + int(dice.random() * 9)):
        code, description, price = PRODUCTS[int(dice.random() ** 1.7 * len(PRODUCTS))]
        quantity = -1 - int(dice.random() * 3) if returned else 1 + int(dice.random() ** 3 * 24)
        given = "" if dice.random() < 0.01 else description
        price = "0.0" if dice.random() < 0.004 else price
        invoice = f"C{number}" if returned else str(number)
        lines.append((invoice, code, given, str(quantity), f"{clock:%Y-%m-%d %H:%M:%S}", price, customer, country))
    return [*lines, lines[-1]] if dice.random() < 0.03 else lines


def _with_broken_rows(rows: list[Row]) -> list[Row]:
    """Three rows that cannot be typed, among many that can: fewer than the source lets pass."""
    broken = list(rows)
    broken[17] = (*rows[17][:3], "a dozen", *rows[17][4:])
    broken[101] = (*rows[101][:4], "2025-02-30 11:00:00", *rows[101][5:])
    broken[202] = (*rows[202][:5], "1,234.50", *rows[202][6:])
    return broken


def _file(name: str, rows: list[Row]) -> SampleFile:
    return SampleFile(name, as_csv(HEADER, rows))


def as_csv(header: Row, rows: list[Row]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue().encode()
