"""Rows that are looked at before they are published: what fails reaches no reader, and stays to be looked at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import duckdb
import pandas as pd
import pytest

from etl_project import faults
from etl_project.failures import Transient
from etl_project.storage.contract import Candidate, PartlyCommitted, ReadRefused, Scope, Store, Table, WriteRefused
from etl_project.storage.judging.messages import ChecksFailed
from etl_project.storage.judging.publishing import refusal
from etl_project.storage.tables.write import TableWrite
from etl_project_tests.contracts.conftest import DAY, NEXT, ORDERS, Bench, day, frame

AUDITED = replace(ORDERS, publish_after_checks=True)
KEY = DAY.isoformat()
Audit = Callable[[Scope, Store], None]


def not_negative(table: Table = AUDITED, seen: list[Any] | None = None) -> Audit:
    """Lets no negative n pass; notes what it is shown."""

    def audit(scope: Scope, store: Store) -> None:
        rows = store.arrow(store.read(table, scope)).to_pylist()
        if seen is not None:
            seen.append(sorted((row["batch_date"], row["n"]) for row in rows))
        if any(row["n"] is not None and row["n"] < 0 for row in rows):
            raise refusal(table, scope, "n is negative")

    return audit


def candidates(bench: Bench, table: Table = AUDITED) -> dict[str | None, tuple[Candidate, list[tuple[Any, ...]]]]:
    store = bench.store()
    return {
        one.record.partition: (
            one,
            sorted(
                tuple(row.values())
                for row in store.arrow(store.read_candidate(table, one.record.partition)).to_pylist()
            ),
        )
        for one in store.candidates(["orders"])
    }


def test_what_passes_is_published_and_leaves_no_candidate(bench: Bench) -> None:
    seen: list[Any] = []
    bench.replace(frame((DAY, 1), (DAY, 2)), day(DAY), AUDITED, audit=not_negative(seen=seen))
    assert seen == [[(DAY, 1), (DAY, 2)]], "shown once, although nobody else has seen it; the same rows are not again"
    assert bench.rows(day(DAY), AUDITED) == [(DAY, 1), (DAY, 2)]
    assert candidates(bench) == {}


def test_what_does_not_pass_leaves_the_old_day_with_readers_and_is_kept(bench: Bench) -> None:
    bench.replace(frame((DAY, 1)), day(DAY), AUDITED, audit=not_negative())
    with pytest.raises(ChecksFailed, match=r"not published.*\n.*n is negative\n.*does not help.*etl/allow_unchecked"):
        bench.replace(frame((DAY, -1), (DAY, 5)), day(DAY), AUDITED, audit=not_negative())
    assert bench.rows(day(DAY), AUDITED) == [(DAY, 1)]
    [(one, rows)] = candidates(bench).values()
    assert rows == [(DAY, -1), (DAY, 5)]
    assert (one.reason, one.record.rows, one.record.partition) == ("n is negative", 2, KEY)
    [last] = bench.last().values()
    assert (last.rows, one.record.sequence) == (1, last.sequence + 1)


def test_the_next_commit_takes_the_candidate_away(once: Bench) -> None:
    once.replace(frame((DAY, 1)), day(DAY), AUDITED)
    for n in (-1, -2):
        with pytest.raises(ChecksFailed):
            once.replace(frame((DAY, n)), day(DAY), AUDITED, audit=not_negative())
    [(_, rows)] = candidates(once).values()
    assert rows == [(DAY, -2)], "a newer one takes the place of the older one"
    once.replace(frame((DAY, 3)), day(DAY), AUDITED, audit=not_negative())
    assert candidates(once) == {}
    assert once.rows(day(DAY), AUDITED) == [(DAY, 3)]


def test_a_build_of_the_rows_that_are_published_takes_the_candidate_away_too(once: Bench) -> None:
    once.replace(frame((DAY, 1)), day(DAY), AUDITED)
    with pytest.raises(ChecksFailed):
        once.replace(frame((DAY, -1)), day(DAY), AUDITED, audit=not_negative())
    once.replace(frame((DAY, 1)), day(DAY), AUDITED, audit=not_negative())
    assert candidates(once) == {}


def held(bench: Bench, n: int = -1) -> None:
    with pytest.raises(ChecksFailed):
        bench.replace(frame((DAY, n)), day(DAY), AUDITED, audit=not_negative())


def test_a_candidate_that_a_commit_came_past_waits_no_more(once: Bench) -> None:
    """The table was published as it comes for a while: its commits ask for no candidate."""
    once.replace(frame((DAY, 1)), day(DAY), AUDITED)
    held(once)
    once.replace(frame((DAY, 2)), day(DAY), ORDERS)
    assert candidates(once) == {}
    with pytest.raises(ReadRefused, match="there is no candidate"):
        once.store().read_candidate(AUDITED, KEY)


def test_a_candidate_that_waits_for_nothing_can_be_removed_and_no_other_one(once: Bench) -> None:
    drop = once.store().drop_left_candidates
    assert drop({"orders": True}) == []
    once.replace(frame((DAY, 1)), day(DAY), AUDITED)
    held(once)
    assert drop({"orders": True}) == [] and list(candidates(once)) == [KEY]
    once.replace(frame((DAY, 2)), day(DAY), ORDERS)
    for dry_run in (True, False):
        [gone] = drop({"orders": True}, dry_run=dry_run)
        assert (gone.partition, gone.rows) == (KEY, 1)
    assert drop({"orders": True}) == []
    held(once)
    assert drop({"another": False}) == [] and list(candidates(once)) == [KEY]
    assert len(drop({"orders": False})) == 1 and candidates(once) == {}
    assert once.rows(day(DAY), AUDITED) == [(DAY, 2)]


def test_the_first_rows_of_all_may_be_a_candidate(bench: Bench) -> None:
    with pytest.raises(ChecksFailed):
        bench.replace(frame((DAY, -1)), day(DAY), AUDITED, audit=not_negative())
    assert bench.last() == {}
    [(one, rows)] = candidates(bench).values()
    assert (one.record.sequence, rows) == (1, [(DAY, -1)])


def test_an_empty_candidate_is_one(once: Bench) -> None:
    def never(scope: Scope, store: Store) -> None:
        assert store.arrow(store.read(AUDITED, scope)).num_rows == 0
        raise refusal(AUDITED, scope, "empty")

    once.replace(frame((DAY, 1)), day(DAY), AUDITED)
    with pytest.raises(ChecksFailed):
        once.replace(frame(), day(DAY), AUDITED, audit=never)
    [(one, rows)] = candidates(once).values()
    assert (one.record.rows, rows) == (0, [])


def test_of_a_range_the_days_that_pass_are_published_and_the_others_kept(bench: Bench) -> None:
    bench.replace(frame((DAY, 1), (NEXT, 1)), day(DAY, NEXT), AUDITED)
    with pytest.raises(PartlyCommitted) as caught:
        bench.replace(frame((DAY, -2), (NEXT, 2)), day(DAY, NEXT), AUDITED, audit=not_negative())
    assert list(caught.value.failures) == [KEY]
    assert bench.rows(day(DAY, NEXT), AUDITED) == [(DAY, 1), (NEXT, 2)]
    assert {key: rows for key, (_, rows) in candidates(bench).items()} == {KEY: [(DAY, -2)]}


def test_columns_that_only_the_candidate_has_do_not_reach_the_table(once: Bench) -> None:
    once.replace(frame((DAY, 1)), day(DAY), AUDITED)
    with pytest.raises(ChecksFailed):
        once.replace(frame((DAY, -1), extra=[7]), day(DAY), AUDITED, audit=not_negative())
    assert once.arrow(day(DAY), AUDITED).column_names == ["batch_date", "n"]
    [(_, rows)] = candidates(once).values()
    assert rows == [(DAY, -1, 7)]


def test_an_audit_that_breaks_off_publishes_and_keeps_nothing(once: Bench) -> None:
    def breaks(scope: Scope, store: Store) -> None:
        raise Transient("the machine went away")

    once.replace(frame((DAY, 1)), day(DAY), AUDITED)
    with pytest.raises(Transient):
        once.replace(frame((DAY, 2)), day(DAY), AUDITED, audit=breaks)
    assert once.rows(day(DAY), AUDITED) == [(DAY, 1)]
    assert candidates(once) == {}


def test_other_refusals_come_first_and_keep_no_candidate(once: Bench) -> None:
    once.replace(frame((DAY, 1)), day(DAY), AUDITED)
    with pytest.raises(WriteRefused):
        once.replace(frame((NEXT, -1)), day(DAY), AUDITED, audit=not_negative())
    assert candidates(once) == {}


def test_while_it_is_looked_at_another_process_reads_the_old_day(once: Bench) -> None:
    if once.backend.startswith("duckdb"):
        pytest.skip("a DuckDB file is shut for other processes while one writes")
    once.replace(frame((DAY, 1)), day(DAY), AUDITED)
    elsewhere: list[Any] = []
    once.replace(
        frame((DAY, 2)), day(DAY), AUDITED, audit=lambda scope, store: elsewhere.extend(once.rows(scope, AUDITED))
    )
    assert elsewhere == [(DAY, 1)]
    assert once.rows(day(DAY), AUDITED) == [(DAY, 2)]


def test_who_looks_can_neither_end_the_write_nor_change_anything(once: Bench) -> None:
    if not once.keeps_constraints:
        pytest.skip("files have no transaction")

    def meddles(statement: str) -> Audit:
        def audit(scope: Scope, store: Store) -> None:
            with store.connect() as connection:  # type: ignore[attr-defined]
                assert connection.execute("SELECT count(*) FROM orders").fetchall() == [(1,)]
                connection.execute(statement)

        return audit

    once.replace(frame((DAY, 1)), day(DAY), AUDITED)
    for statement in (
        "COMMIT",
        "ROLLBACK",
        "SELECT 1; COMMIT",
        "DELETE FROM orders",
        "CREATE TABLE x (n INTEGER)",
        "EXPLAIN ANALYZE DELETE FROM orders",
        "EXPLAIN (ANALYZE) DELETE FROM orders",
    ):
        with pytest.raises(WriteRefused, match="may only read"):
            once.replace(frame((DAY, 2)), day(DAY), AUDITED, audit=meddles(statement))
    assert once.rows(day(DAY), AUDITED) == [(DAY, 1)]
    harmless = "/* a */ CREATE TEMP TABLE y AS FROM orders; EXPLAIN FROM orders; SET VARIABLE z = 1"
    once.replace(frame((DAY, 2)), day(DAY), AUDITED, audit=meddles(harmless))
    assert once.rows(day(DAY), AUDITED) == [(DAY, 2)]


@pytest.mark.parametrize("how", ["insert_into", "update", "query"])
def test_rows_that_a_check_has_altered_through_a_relation_are_not_published(once: Bench, how: str) -> None:
    if not once.keeps_constraints:
        pytest.skip("files have no connection")

    def alters(scope: Scope, store: Store) -> None:
        with store.connect() as connection:  # type: ignore[attr-defined]
            if how == "insert_into":
                connection.sql(f"SELECT DATE '{KEY}' AS batch_date, 3 AS n").insert_into("orders")
            elif how == "update":
                connection.table("orders").update({"n": duckdb.ConstantExpression(3)})
            else:
                connection.table("orders").query("orders_of_it", "DELETE FROM orders")

    once.replace(frame((DAY, 1)), day(DAY), AUDITED)
    with pytest.raises(WriteRefused, match=r"altered by one of the checks|only be used on base tables"):
        once.replace(frame((DAY, 2)), day(DAY), AUDITED, audit=alters)
    assert once.rows(day(DAY), AUDITED) == [(DAY, 1)]


def test_what_a_check_writes_elsewhere_through_a_relation_is_not_committed(once: Bench) -> None:
    """Other tables, other days of its own table, commit records, and what it creates."""
    if not once.keeps_constraints:
        pytest.skip("files have no connection")
    others = Table("others", "others")
    once.replace(frame((DAY, 7)), day(DAY), others)
    once.replace(frame((NEXT, 1)), day(NEXT), AUDITED)
    seen: list[int] = []

    def writes(scope: Scope, store: Store) -> None:
        with store.connect() as connection:  # type: ignore[attr-defined]
            seen.append(connection.sql("FROM others").count("*").fetchall()[0][0])
            connection.sql(f"SELECT DATE '{KEY}' AS batch_date, 8 AS n").insert_into("others")
            connection.table("others").query("those", "DELETE FROM others WHERE n = 7")
            connection.table("orders").query("those", f"DELETE FROM orders WHERE batch_date = DATE '{NEXT}'")
            connection.table("etl_commits").query("those", "DELETE FROM etl_commits")
            connection.sql("SELECT 1 AS n").create("made_by_a_check")

    once.replace(frame((DAY, 2)), day(DAY), AUDITED, audit=writes)
    assert seen == [1]
    assert once.rows(day(DAY), others) == [(DAY, 7)]
    assert once.rows(day(DAY, NEXT), AUDITED) == [(DAY, 2), (NEXT, 1)]
    assert once.last().keys() == {("others", KEY), ("orders", KEY), ("orders", NEXT.isoformat())}
    assert [found.rows for found in once.history(KEY)] == [1]
    with once.store().connect() as connection, pytest.raises(duckdb.CatalogException):  # type: ignore[attr-defined]
        connection.execute("FROM made_by_a_check")


def test_a_write_that_no_relation_was_handed_out_in_is_made_once(once: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    if not once.keeps_constraints:
        pytest.skip("files have no connection")
    begun: list[str] = []
    made = TableWrite.__init__

    def noted(*args: Any, **named: Any) -> None:
        begun.append("write")
        made(*args, **named)

    monkeypatch.setattr(TableWrite, "__init__", noted)

    def asks(scope: Scope, store: Store) -> None:
        with store.connect() as connection:  # type: ignore[attr-defined]
            connection.execute("SELECT count(*) FROM orders").df()
        store.arrow(store.read(AUDITED, scope))

    once.replace(frame((DAY, 2)), day(DAY), AUDITED, audit=asks)
    assert begun == ["write"]


def test_a_commit_that_comes_while_checks_look_has_them_look_again(
    once: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    if once.backend != "duckdb":
        pytest.skip("another connection of the same process")
    looks: list[Any] = []
    came: list[str] = []
    reached = faults.reach

    def looks_at_all(scope: Scope, store: Store) -> None:
        with store.connect() as connection:  # type: ignore[attr-defined]
            looks.append(sorted(connection.sql("SELECT n FROM orders").fetchall()))

    def comes_between(step: str) -> None:
        reached(step)
        if step == "duckdb.to_repeat" and not came:
            came.append(step)
            once.replace(frame((DAY, 5)), day(DAY), ORDERS)

    once.replace(frame((DAY, 1)), day(DAY), AUDITED)
    monkeypatch.setattr(faults, "reach", comes_between)
    once.replace(frame((DAY, 2)), day(DAY), AUDITED, audit=looks_at_all)
    assert came and looks == [[(2,)], [(2,)]]
    assert once.rows(day(DAY), AUDITED) == [(DAY, 2)]
    assert [commit.rows_removed for commit in once.history(KEY)] == [0, 1, 1]


def test_what_a_check_has_set_is_not_what_the_write_goes_on_with(once: Bench) -> None:
    if not once.keeps_constraints:
        pytest.skip("files have no connection")
    seen: list[Any] = []

    def sets(scope: Scope, store: Store) -> None:
        with store.connect() as connection:  # type: ignore[attr-defined]
            settings = "current_setting('TimeZone'), current_setting('integer_division')"
            seen.append(connection.execute(f"SELECT {settings}").fetchone())
            connection.execute("SET TimeZone = 'Asia/Tokyo'; SET integer_division = true")
        not_negative()(scope, store)

    with pytest.raises(PartlyCommitted):  # Looked at together first, then one by one.
        once.replace(frame((DAY, -1), (NEXT, 2)), day(DAY, NEXT), AUDITED, audit=sets)
    assert seen == [("UTC", False)] * 3


def test_a_check_may_name_a_frame_of_its_own_in_a_query(once: Bench) -> None:
    if not once.keeps_constraints:
        pytest.skip("files have no connection")
    seen: list[Any] = []

    def looks(scope: Scope, store: Store) -> None:
        known = pd.DataFrame({"n": [2]})
        with store.connect() as connection:  # type: ignore[attr-defined]
            seen.append(connection.execute("SELECT count(*) FROM orders JOIN known USING (n)").fetchall())
            seen.append(connection.sql("SELECT count(*) FROM known").fetchall())
        assert len(known) == 1

    once.replace(frame((DAY, 2)), day(DAY), AUDITED, audit=looks)
    assert seen == [[(1,)], [(1,)]]


def test_where_there_is_no_candidate_it_is_said_so(once: Bench) -> None:
    with pytest.raises(ReadRefused, match="there is no candidate"):
        once.store().read_candidate(AUDITED, KEY)
    once.replace(frame((DAY, 1)), day(DAY), AUDITED)
    with pytest.raises(ReadRefused, match="there is no candidate"):
        once.store().read_candidate(AUDITED, KEY)
    with pytest.raises(ReadRefused, match="publish is not after_checks"):
        once.store().read_candidate(ORDERS, KEY)


def test_a_table_that_is_published_as_it_comes_has_nothing_of_this(once: Bench) -> None:
    once.replace(frame((DAY, 1)), day(DAY))
    if once.keeps_constraints:
        with once.store().connect() as connection:  # type: ignore[attr-defined]
            assert not connection.execute(
                "SELECT 1 FROM duckdb_schemas() WHERE schema_name LIKE '%candidates'"
            ).fetchall()
    else:
        assert not (once.folder / "lake" / ".candidates").exists()


def test_who_reads_all_of_the_lake_meets_no_candidate(once: Bench) -> None:
    if once.keeps_constraints:
        pytest.skip("a lake of files")
    with pytest.raises(ChecksFailed):
        once.replace(frame((DAY, -1)), day(DAY), AUDITED, audit=not_negative())
    assert list((once.folder / "lake").rglob("*.parquet")) == []
    assert once.last() == {} and list(once.store().heads(["orders"])) == []
