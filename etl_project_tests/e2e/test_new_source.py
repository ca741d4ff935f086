"""`etl new-source` in a checkout: from a sample file to a table, without a line of Python."""

from __future__ import annotations

import signal
from decimal import Decimal
from pathlib import Path

import duckdb
import pytest

from etl_project_tests.installations import emptied

SAMPLE = """\
RefundNo;InvoiceNo;Amount;Booked
R1;560001;12.50;2025-03-03 10:00:00
R2;560002;3.00;2025-03-03 11:30:00
"""


@pytest.mark.long
def test_from_a_sample_file_to_a_table_without_python_even_if_the_first_try_was_killed(tmp_path: Path) -> None:
    checkout = emptied(tmp_path / "checkout")
    path = tmp_path / "refunds_2025-03-03.csv"
    path.write_text(SAMPLE)
    ask = ("new-source", "refunds", "--from", str(path))
    killed = checkout.etl(*ask, ETL_FAULT="new_source.before_rename=kill")
    assert killed.returncode == -signal.SIGKILL
    pipelines = checkout.packages / "etl_project" / "pipelines"
    [left] = pipelines.glob(".etl-*.tmp")
    assert (left / "defs.yaml").is_file() and not (pipelines / "refunds").exists()

    made = checkout.etl(*ask)
    assert made.returncode == 0, made.stderr
    assert "2 rows accepted, 0 rejected" in made.stdout and "primary key: refund_no" in made.stdout
    checked = checkout.run("dagster_dg_cli.cli", "check", "yaml")
    assert checked.returncode == 0 and "validated successfully" in checked.stdout, checked.stdout + checked.stderr
    assert checkout.run("dagster_dg_cli.cli", "check", "defs").returncode == 0

    drop = checkout.folder / "data" / "incoming" / "refunds"
    path.rename(drop / path.name)
    drained = checkout.etl("drain")
    assert drained.returncode == 0, drained.stdout + drained.stderr
    with duckdb.connect(str(checkout.folder / "data" / "warehouse.duckdb"), read_only=True) as connection:
        rows = connection.execute("select refund_no, invoice_no, amount from refunds order by 1").fetchall()
    assert rows == [("R1", 560001, Decimal("12.5")), ("R2", 560002, Decimal("3"))]

    defs = pipelines / "refunds" / "defs.yaml"
    defs.write_text(f"{defs.read_text().rstrip()}\n  computed:\n    refund_key: refund_no || no_such_column\n")
    checked = checkout.run("dagster_dg_cli.cli", "check", "defs")
    line = defs.read_text().splitlines().index("    refund_key: refund_no || no_such_column") + 1
    assert checked.returncode == 1
    assert f"refunds/defs.yaml:{line}: Source refunds" in checked.stdout, checked.stdout
    assert "column refund_key is not in CREATE TABLE refunds" in checked.stdout
    contract = pipelines / "refunds" / "contract.sql"
    contract.write_text(contract.read_text().replace("(\n", "(\n    refund_key VARCHAR,\n", 1))
    checked = checkout.run("dagster_dg_cli.cli", "check", "defs")
    assert checked.returncode == 1
    assert f"refunds/defs.yaml:{line}: computed.refund_key: Binder Error" in checked.stdout, checked.stdout
