"""The main job, end to end: files in, tables out, drop again, correct one; bad input beside it."""

from __future__ import annotations

import json
import shutil
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path

import duckdb
import pytest

from etl_project_tests import shop, steady
from etl_project_tests.deployments import REAL_FILES, Place, needs_real_files, order_file

DAY = date(2025, 3, 3)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "data")


@pytest.mark.long
@needs_real_files
def test_the_real_files_are_stored_to_the_last_row_and_a_rerun_rewrites_nothing(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ETL_START_DATE", "2010-12-01")
    place.incoming.mkdir(parents=True)
    for file in sorted(REAL_FILES.glob("*.csv")):
        shutil.copy(file, place.incoming / file.name)
    printed = place.drained()
    assert int(printed.strip().splitlines()[-1].split(" runs")[0]) <= 3
    [[stored, revenue]] = place.query("select count(*), sum(quantity * unit_price) from orders")
    [[rejected]] = place.query("select count(*) from orders_rejects")
    assert (int(str(stored)) + int(str(rejected)), revenue) == (209_029, Decimal("3706827.641"))
    assert place.query("select sum(quantity) from orders") == [(1_950_544,)]
    assert place.query("select sum(revenue) from daily_sales") == [(Decimal("3706827.641"),)]
    assert place.query("select sum(revenue) from daily_customers") == [(Decimal("3706827.641"),)]
    assert place.query("select sum(revenue), count(*) from daily_report") == [(Decimal("3706827.641"), 182)]
    before = place.last_commits()
    for file in sorted(REAL_FILES.glob("*.csv")):
        shutil.copy(file, place.incoming / file.name)
    place.drained()
    again = place.last_commits()
    assert {key: fingerprint for key, (_, fingerprint, _) in again.items()} == {
        key: fingerprint for key, (_, fingerprint, _) in before.items()
    }
    rebuilt = [changed for commits, _, changed in again.values() if commits > 1]
    assert len(rebuilt) == 141 * 5 and not any(rebuilt), "every day with a file was built again, none was rewritten"
    text = (REAL_FILES / "2011-01-05.csv").read_text()
    place.drop("2011-01-05.csv", text.replace(",2.55,", ",2.65,"))
    place.drained()
    corrected = place.last_commits()
    differing = {key for key in again if corrected[key][1] != again[key][1]}
    assert differing == {
        (asset, "2011-01-05") for asset in ("orders", "daily_sales", "daily_customers", "daily_report")
    }


def test_several_files_of_a_day_add_up_and_a_correction_replaces_its_own_file(place: Place) -> None:
    place.drop(f"a-{DAY}.csv", order_file(DAY, invoices=2))
    place.drop(f"b-{DAY}.csv", order_file(DAY, invoices=2, price="9.99"))
    place.drained()
    assert place.query("select count(*), max(line_no) from orders") == [(8, 4)]
    place.drop(f"b-{DAY}.csv", order_file(DAY, invoices=1, price="8.88"))
    place.drained()
    assert place.query("select count(*), max(unit_price) from orders") == [(6, Decimal("8.880"))]


def test_a_closed_day_between_two_files_is_committed_as_empty(place: Place) -> None:
    place.drop(f"{DAY}.csv", order_file(DAY))
    place.drop(f"{DAY + timedelta(days=2)}.csv", order_file(DAY + timedelta(days=2)))
    place.drained()
    assert place.query("select revenue, invoices from daily_report order by batch_date") != []
    assert place.query("select batch_date, revenue, invoices from daily_report where invoices = 0") == [
        (DAY + timedelta(days=1), Decimal("0.000"), 0)
    ]


def test_bad_files_go_to_quarantine_with_a_reason_and_the_others_go_on(place: Place) -> None:
    place.drop(f"good-{DAY}.csv", order_file(DAY))
    place.drop(f"header-{DAY}.csv", order_file(DAY).replace("Quantity", "Amount", 1))
    place.drop(f"empty-{DAY}.csv", "")
    place.drop(f"mostly-broken-{DAY}.csv", order_file(DAY).replace(",2,", ",two,"))
    place.drop("no-date.csv", order_file(DAY))
    place.drop("too-early-2001-01-01.csv", order_file(DAY))
    place.drop(f"too-far-ahead-{steady.today() + timedelta(days=3)}.csv", order_file(DAY))
    place.drop("no-such-day-2025-02-30.csv", order_file(DAY))
    (place.incoming / f"unreadable-{DAY}.csv.gz").write_bytes(b"\x1f\x8b not gzip")
    place.drained(expected_exit=1)
    assert place.query("select count(*) from orders") == [(6,)]
    listed = {entry["name"]: entry for entry in json.loads(place.etl("quarantine", "list", "--json").stdout)}
    assert len(listed) == 8
    header = listed[f"header-{DAY}.csv"]
    assert "Amount" in header["found"] + header["reason"] and "Quantity" in header["expected"] + header["found"]
    assert not [path for path in place.incoming.iterdir() if path.is_file()]
    status = json.loads(place.etl("status", "--json").stdout)
    [orders] = [source for source in status["sources"] if source["source"] == "orders"]
    assert (orders["waiting"], orders["quarantined"], orders["overdue"]) == (0, 8, [])


def test_a_day_whose_correction_is_refused_keeps_its_last_good_rows(place: Place) -> None:
    place.drop(f"{DAY}.csv", order_file(DAY))
    place.drained()
    before = place.tables()
    place.drop(f"{DAY}.csv", order_file(DAY).replace(",2,", ",two,"))
    place.drained(expected_exit=1)
    assert place.tables() == before
    place.drained()


def test_a_first_file_that_is_refused_leaves_its_day_missing_and_the_neighbours_built(place: Place) -> None:
    days = [DAY + timedelta(days=n) for n in range(3)]
    for day in days:
        place.drop(f"{day}.csv", order_file(day) if day != days[1] else "not,the,header\n")
    place.drained(expected_exit=1)
    assert [day for (day,) in place.query("select batch_date from daily_report order by 1")] == [days[0], days[2]]
    place.drop(f"{days[1]}.csv", order_file(days[1]))
    place.drained()
    assert [day for (day,) in place.query("select batch_date from daily_report order by 1")] == days


def test_broken_rows_are_kept_among_the_rejects_with_line_column_reason_and_text(place: Place) -> None:
    text = order_file(DAY, invoices=300)
    lines = text.splitlines()
    lines[7] = lines[7].replace(f"{DAY} 09:30:00", "2025-02-30 09:30:00")
    place.drop(f"{DAY}.csv", "\n".join(lines) + "\n")
    place.drained()
    [[file, line, column, reason, raw]] = place.query(
        "select source_file, source_line, column_name, reason, raw_text from orders_rejects"
    )
    assert (file, line, column, raw) == (f"{DAY}.csv", 8, "invoiced_at", lines[7])
    assert "2025-02-30" in str(reason)
    assert place.query("select count(*) from orders") == [(599,)]


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("ETL_START_DATE", "yesterday", "ETL_START_DATE='yesterday' is not a date"),
        ("ETL_DATA_DIR", "/proc/nowhere", "ETL_DATA_DIR=/proc/nowhere"),
        ("ETL_SETTLE_SECONDS", "soon", "ETL_SETTLE_SECONDS='soon' is not a number of seconds"),
    ],
)
def test_a_wrong_setting_is_one_clear_line(place: Place, variable: str, value: str, says: str) -> None:
    done = place.etl("status", **{variable: value})
    assert done.returncode == 2
    assert says in done.stderr and len(done.stderr.strip().splitlines()) == 1, done.stderr


@pytest.mark.long
def test_the_checks_notice_rows_that_vanish_or_change_behind_their_backs(place: Place) -> None:
    place.drop(f"{DAY}.csv", order_file(DAY))
    place.drained()
    sound = {
        "rows_in_equal_rows_stored_and_rejected": True,
        "revenue_is_that_of_the_orders": True,
        "no_refused_files": True,
        "reproducible": True,
    }
    assert place.checks().items() >= sound.items()
    with duckdb.connect(str(place.data / "warehouse.duckdb")) as connection:
        connection.execute("delete from orders where line_no = 1 and invoice_no = (select max(invoice_no) from orders)")
    found = {"rows_in_equal_rows_stored_and_rejected": False, "revenue_is_that_of_the_orders": False}
    assert place.checks().items() >= {**sound, **found}.items()
    place.drop(f"bad-{DAY}.csv", "")
    place.drained(expected_exit=1)
    assert place.checks()["no_refused_files"] is False


def test_a_table_asked_for_a_day_that_never_came_is_refused_not_written_as_empty(place: Place) -> None:
    place.drop(f"{DAY}.csv", order_file(DAY))
    place.drained()
    before = place.tables()
    for asset in ("orders", "daily_report"):
        [complaint] = place.materialized(asset, DAY, DAY + timedelta(days=2))
        assert "never committed for 2025-03-04, 2025-03-05" in complaint and "Missing is not empty" in complaint
        assert place.tables() == before
        assert place.materialized(asset, DAY, DAY) == []
        assert place.tables() == before


def test_what_lies_downstream_of_a_table_rebuilt_by_hand_becomes_pending_by_itself(place: Place) -> None:
    place.drop(f"{DAY}.csv", order_file(DAY))
    place.drained()
    with duckdb.connect(str(place.data / "warehouse.duckdb")) as connection:
        connection.execute("update orders set quantity = quantity + 1")
    assert place.materialized("orders", DAY, DAY) == [], "an edited table is put right by building it again"
    before = place.last_commits()
    place.drained()
    assert place.last_commits() == before, "the fingerprint is the one it had, so nothing downstream is due"
    with duckdb.connect(str(place.data / "warehouse.duckdb")) as connection:
        connection.execute("delete from etl_commits where asset = 'daily_sales'")
    printed = place.drained()
    assert "2 assets" in printed, "the sales, and the report that reads them"
    assert {key: value[1] for key, value in place.last_commits().items()} == {k: v[1] for k, v in before.items()}


@pytest.mark.long
def test_one_day_at_fault_among_forty_costs_that_day_only(place: Place) -> None:
    days = [DAY + timedelta(days=n) for n in range(40)]
    bad = days[17]
    contract = (Path(shop.__file__).parent / "orders" / "contract.sql").read_text()
    place.data.mkdir()
    with duckdb.connect(str(place.data / "warehouse.duckdb")) as connection:
        connection.execute(
            contract.replace("quantity    INTEGER        NOT NULL", "quantity INTEGER NOT NULL CHECK (quantity < 1000)")
        )
    for day in days:
        place.drop(f"{day}.csv", order_file(day) if day != bad else order_file(day).replace(",2,", ",5000,"))
    printed = place.drained(expected_exit=1)
    assert printed.strip().splitlines()[-1].startswith("4 runs, 2 failed"), printed
    assert str(bad) in printed and "CHECK" in printed
    for table in ("orders", "daily_sales", "daily_customers", "daily_report"):
        assert [day for (day,) in place.query(f"select distinct batch_date from {table} order by 1")] == [
            day for day in days if day != bad
        ]
    assert place.failed_partitions("orders") == {str(bad)}
    assert place.drained(expected_exit=1).strip().splitlines()[-1].startswith("0 runs"), "nothing has changed"
    [orders] = [a for a in json.loads(place.etl("status", "--json").stdout)["assets"] if a["asset"] == "orders"]
    assert (orders["committed"], orders["failed"]) == (39, 1)
    place.drop(f"{bad}.csv", order_file(bad))
    place.drained()
    assert place.query("select count(*) from daily_report") == [(40,)]
    assert place.failed_partitions("orders") == set()


@pytest.mark.long
def test_a_correction_that_takes_most_of_a_day_away_has_to_be_meant(place: Place) -> None:
    place.drop(f"{DAY}.csv", order_file(DAY, invoices=5))
    place.drained()
    place.drop(f"{DAY}.csv", order_file(DAY, invoices=2))
    place.drained(expected_exit=1)
    listed = place.etl("quarantine", "list").stdout
    assert f"rows gone: 4 rows, where {DAY}.csv gave {DAY} 10 rows" in listed, listed
    assert place.query("select count(*) from orders") == [(10,)]
    assert place.etl("rebuild", "raw_orders", "--from", str(DAY), "--to", str(DAY)).returncode == 0
    assert place.query("select count(*) from orders") == [(10,)], "the archive does not have the short file"
    released = place.etl("quarantine", "release", "--all")
    assert released.returncode == 0 and "Next: `etl drain --allow-shrink`" in released.stdout, released.stdout
    assert place.etl("drain", "--allow-shrink").returncode == 0
    assert place.query("select count(*) from orders") == [(4,)]


def test_an_archived_file_that_went_bad_is_named_and_the_old_rows_stay(place: Place) -> None:
    place.drop(f"{DAY}.csv", order_file(DAY))
    place.drained()
    before = place.tables()
    [version] = (place.data / "archive" / "orders" / str(DAY) / f"{DAY}.csv").iterdir()
    version.write_text("not,the,header\n")
    [complaint] = place.materialized("raw_orders", DAY, DAY)
    assert f"{DAY}.csv of {DAY} was accepted once" in complaint and str(version) in complaint
    assert place.tables() == before
