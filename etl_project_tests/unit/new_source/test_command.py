"""`etl new-source` and then `etl drain`: samples of several kinds become tables without a line of Python."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest
from typer.testing import CliRunner

from etl_project.cli.main import app
from etl_project.storage import DuckDBStore

SAMPLES = {
    "refunds": (
        "refunds_2025-03-03.csv",
        "Export of 03.03.2025\nRefund;Amount;Booked\nR1;1.012,50;03.03.2025 10:00\nR2;3,00;03.03.2025 11:30\n",
        [("R1", Decimal("1012.5")), ("R2", Decimal("3"))],
        "refund, amount",
    ),
    "clicks": (
        "clicks-20250303.jsonl",
        '{"id": 1, "on": {"page": "/a", "tags": ["x"]}}\n{"id": 2, "on": {"page": "/b", "tags": []}}\n',
        [(1, "/a"), (2, "/b")],
        "id, on_page",
    ),
    "rates": (
        "rates.csv",
        "day,currency,rate\n2025-03-03,USD,1.04\n2025-03-04,USD,1.05\n",
        [("2025-03-03", 1.04), ("2025-03-04", 1.05)],
        "batch_date::varchar, rate::double",
    ),
}


def test_samples_become_tables_that_hold_their_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = f"new_source_{tmp_path.name.replace('-', '_')}"
    pipelines, data = tmp_path / package, tmp_path / "data"
    pipelines.mkdir()
    (pipelines / "__init__.py").touch()
    own = {"ETL_DATA_DIR": data, "ETL_PIPELINES": package, "ETL_SETTLE_SECONDS": 0, "ETL_START_DATE": "2025-03-01"}
    for name, value in {**own, "COLUMNS": 200}.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.syspath_prepend(tmp_path)

    def etl(*arguments: str) -> str:
        done = CliRunner().invoke(app, arguments)
        assert done.exit_code == 0, (done.output, done.exception)
        return done.output

    for source, (name, text, _, _) in SAMPLES.items():
        sample = tmp_path / name
        sample.write_text(text)
        assert "2 rows accepted, 0 rejected" in etl("new-source", source, "--from", str(sample))
        sample.rename(data / "incoming" / source / name)
    etl("drain")
    with DuckDBStore(data / "warehouse.duckdb").connect() as connection:
        for source, (_, _, rows, columns) in SAMPLES.items():
            assert connection.execute(f"select {columns} from {source} order by 1").fetchall() == rows, source
    assert not [path for path in (data / "incoming").rglob("*") if path.is_file()]
    assert etl("drain").startswith("0 runs, 0 failed")
