"""A newcomer's story: whole numbers were guessed, the real files have decimals, and no table is dropped by hand."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import duckdb
import pytest

from etl_project_tests.installations import copied

GUESSED = "RefundNo,Amount\nR1,12\nR2,3\n"
REAL = {
    "refunds_2025-03-03.csv": GUESSED,
    "refunds_2025-03-04.csv": "RefundNo,Amount\n" + "".join(f"R{n},{n}\n" for n in range(200)) + "R999,7.25\n",
    "refunds_2025-03-05.csv": "RefundNo,Amount\nR1,0.5\nR2,1.5\n",
}


@pytest.mark.long
def test_a_wrong_guess_is_corrected_by_plan_apply_and_drain(tmp_path: Path) -> None:
    checkout = copied(tmp_path / "checkout")
    sample = tmp_path / "refunds_2025-03-03.csv"
    sample.write_text(GUESSED)
    made = checkout.etl("new-source", "refunds", "--from", str(sample))
    assert made.returncode == 0, made.stderr
    drop = checkout.folder / "data" / "incoming" / "refunds"
    assert drop.is_dir(), "etl new-source makes the drop folder"
    for name, text in REAL.items():
        (drop / name).write_text(text)
    assert checkout.etl("drain", ETL_SETTLE_SECONDS="0").returncode == 1, "a file of decimals is refused"

    contract = checkout.packages / "etl_project" / "pipelines" / "refunds" / "contract.sql"
    guessed = contract.read_text()
    assert "amount" in guessed
    lines = [
        line.replace("BIGINT", "DECIMAL(12, 3)") if line.split()[:1] == ["amount"] else line
        for line in guessed.splitlines()
    ]
    contract.write_text("\n".join(lines) + "\n")
    checked = checkout.etl("contract", "check", "refunds")
    assert checked.returncode == 1 and "a value that the old type does not hold is refused" in checked.stdout
    planned = checkout.etl("contract", "plan", "refunds")
    assert planned.returncode == 1, planned.stderr
    assert "refunds: column amount is BIGINT in the table, DECIMAL(12,3) by the contract" in planned.stdout
    assert "built again by the next `etl drain`: 2025-03-04 (1)" in planned.stdout
    applied = checkout.etl("contract", "apply", "refunds")
    assert applied.returncode == 0, applied.stderr
    assert "`etl quarantine release --source refunds`" in applied.stdout
    assert checkout.etl("quarantine", "release", "--source", "refunds").returncode == 0
    drained = checkout.etl("drain", ETL_SETTLE_SECONDS="0")
    assert drained.returncode == 0, drained.stdout + drained.stderr
    with duckdb.connect(str(checkout.folder / "data" / "warehouse.duckdb"), read_only=True) as connection:
        query = "select batch_date::text, count(*), sum(amount) from refunds group by 1 order by 1"
        assert connection.execute(query).fetchall() == [
            ("2025-03-03", 2, Decimal("15.000")),
            ("2025-03-04", 201, Decimal("19907.250")),
            ("2025-03-05", 2, Decimal("2.000")),
        ]
    assert checkout.etl("contract", "plan").returncode == 0
    verified = checkout.etl("verify")
    assert verified.returncode == 0, verified.stdout
