"""The payments pipeline: orders against payments, through the real definitions, in the test's own process."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from etl_project.definitions import load_project, wire
from etl_project.demo.sample import SampleFile, drop
from etl_project.due.attempts import DAYS_JOB, REFUSE_JOB
from etl_project.due.drain import Deployment
from etl_project.kafka import format as landed
from etl_project_tests.deployments import HEADER
from etl_project_tests.projects import SourceProject

pytestmark = pytest.mark.long  # Each test starts the command several times.

DAY = date(2025, 3, 3)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SourceProject]:
    monkeypatch.setenv("ETL_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("ETL_SETTLE_SECONDS", "0")
    loaded, assets = load_project()
    definitions = wire(loaded, assets)
    jobs = {name: definitions.resolve_job_def(name) for name in (DAYS_JOB, REFUSE_JOB)}
    with dg.DagsterInstance.ephemeral() as instance:
        yield SourceProject(tmp_path / "data", Deployment(loaded, jobs, instance), definitions)


def orders(day: date, *lines: tuple[str, int, str]) -> SampleFile:
    """A file of orders: (invoice, quantity, price) each."""
    rows = [f"{invoice},A1,MUG,{quantity},{day} 09:00:00,{price},,France" for invoice, quantity, price in lines]
    return SampleFile(f"orders-{day}.csv", "\n".join([HEADER, *rows, ""]).encode())


def payments(day: date, first: int, *paid: tuple[str, str], currency: str = "GBP") -> SampleFile:
    """A landed file of partition 0: (invoice, amount) each, offsets from `first` on, noon of the day."""
    rows = landed.RowFormat("payments", 0)
    noon = datetime(day.year, day.month, day.day, 12, tzinfo=UTC)

    def row(offset: int, invoice: str, amount: str) -> bytes:
        fields = {"payment_id": f"P{offset}", "invoice_no": invoice, "amount": amount, "currency": currency}
        payload = json.dumps({**fields, "paid_at": noon.isoformat(), "method": "card"}).encode()
        return rows.row(offset, int(noon.timestamp() * 1000), None, (), payload)

    lines = b"".join(row(first + at, *one) for at, one in enumerate(paid))
    return SampleFile(landed.name(day, landed.Span("payments", 0, first, first + len(paid) - 1)), lines)


def arrive(project: SourceProject, source: str, *files: SampleFile) -> None:
    drop(list(files), project.data / "incoming" / source)
    assert not project.drain().failed


def states(project: SourceProject) -> dict[str, str]:
    return dict(project.query("select invoice_no, state from invoice_payments"))


def days(project: SourceProject, columns: str = "*") -> list[tuple[Any, ...]]:
    return project.query(f"select {columns} from daily_reconciliation order by batch_date")


def commits(project: SourceProject) -> dict[str, int]:
    return dict(project.query("select asset, count(*) from etl_commits group by all"))


def test_orders_and_payments_of_a_day_are_set_against_each_other(project: SourceProject) -> None:
    arrive(
        project,
        "orders",
        orders(DAY, ("1", 2, "2.505"), ("2", 1, "10"), ("3", 1, "7"), ("4", 1, "3"), ("C5", -1, "4"), ("6", 1, "0.0")),
    )
    arrive(
        project,
        "payments",
        payments(DAY, 0, ("1", "5.01"), ("2", "4.00"), ("2", "6.00"), ("3", "8.00"), ("C5", "-4.00"), ("99", "1.50")),
        payments(DAY, 6, ("4", "3.00"), currency="EUR"),
    )
    assert states(project) == {
        "1": "settled",
        "2": "settled",
        "3": "other amount",
        "4": "other currency",
        "C5": "settled",
        "6": "settled",
        "99": "no invoice",
    }
    columns = "revenue, paid, difference, invoices, payments, invoices_without_payment, payments_without_invoice"
    [(*sums, invoices, count, unpaid, unknown)] = days(project, columns)
    assert [str(one) for one in sums] == ["21.010", "20.51", "-0.500"]
    assert (invoices, count, unpaid, unknown) == (6, 7, 0, 1)
    arrive(project, "orders", orders(DAY, ("7", 1, "5"), ("2", 1, "10"), ("3", 1, "8"), ("4", 1, "3")))
    assert states(project) == {
        "1": "no invoice",
        "2": "settled",
        "3": "settled",
        "4": "other currency",
        "7": "no payment",
        "C5": "no invoice",
        "99": "no invoice",
    }


def test_a_day_waits_until_it_has_both_and_an_empty_day_counts_as_there(project: SourceProject) -> None:
    after = DAY + timedelta(days=2)
    arrive(project, "orders", *(orders(day, ("1", 1, "5")) for day in (DAY, after)))
    assert "daily_reconciliation" not in commits(project)
    arrive(project, "payments", payments(DAY, 0, ("1", "5.00")))
    assert days(project, "batch_date, difference") == [(DAY, 0)]
    arrive(project, "payments", payments(after, 1, ("1", "5.00")))
    assert days(project, "batch_date, invoices, payments") == [
        (DAY, 1, 1),
        (DAY + timedelta(days=1), 0, 0),
        (after, 1, 1),
    ]
    assert project.drain().runs == 0


def test_a_message_that_was_landed_twice_is_there_once_and_a_late_one_reopens_its_day(project: SourceProject) -> None:
    arrive(project, "orders", orders(DAY, ("1", 1, "5"), ("2", 1, "6"), ("3", 1, "7")))
    arrive(project, "payments", payments(DAY, 0, ("1", "5.00"), ("2", "6.00")))
    arrive(project, "payments", payments(DAY, 0, ("1", "5.00")))
    assert project.query("select count(*) from payments") == [(2,)]
    last = "select asset from etl_commits where sequence > 1 and changed order by all"
    assert project.query(last) == [], "the table is as it was, and so is all that reads it"
    assert days(project, "invoices_without_payment") == [(1,)]
    arrive(project, "payments", payments(DAY, 2, ("3", "7.00")))
    assert days(project, "invoices_without_payment, difference") == [(0, 0)]


def test_the_check_notices_sums_that_are_not_those_of_orders_and_payments(project: SourceProject) -> None:
    def passes() -> bool:
        key = dg.AssetCheckKey(dg.AssetKey("daily_reconciliation"), "sums_are_those_of_orders_and_payments")
        job = dg.define_asset_job("check", selection=dg.AssetSelection.checks(key))
        resolved = dg.Definitions.merge(project.definitions, dg.Definitions(jobs=[job])).resolve_job_def("check")
        *_, found = resolved.execute_in_process().get_asset_check_evaluations()
        return found.passed

    arrive(project, "orders", orders(DAY, ("1", 1, "5")))
    assert passes(), "before anything is reconciled there is nothing to find"
    arrive(project, "payments", payments(DAY, 0, ("1", "5.00")))
    assert passes()
    for change in ("paid = 4, difference = -1", "revenue = 4, difference = 1", "payments = 2", "difference = 1"):
        project.query(f"update daily_reconciliation set {change}")
        assert not passes(), change
        project.query("update daily_reconciliation set paid = 5, revenue = 5, payments = 1, difference = 0")
    assert passes()
