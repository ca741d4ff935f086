"""A contract that was edited: what the plan says, what apply makes of the table, and that a drain ends it."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from etl_project.contract_change import Applied, Plan, Refused, Wanted, apply, plan, raw_files, unapplied, words
from etl_project.contract_change.job import contract_job
from etl_project.failures import Permanent
from etl_project.proofs import stored_assets, whole
from etl_project_tests.forks import FORKS
from etl_project_tests.projects import SourceProject, source_project
from etl_project_tests.steady import PATIENCE_SECONDS

DAYS = ("2025-03-20", "2025-03-21", "2025-03-23")
DEFS: dict[str, Any] = {
    "name": "sales",
    "patterns": ["*{date}.csv"],
    "columns": {"id": "id", "amount": "amount", "note": "note"},
    "max_rejected_ratio": 0.5,
}
CONTRACT = """
CREATE TABLE sales (
    batch_date DATE NOT NULL,
    id BIGINT NOT NULL,
    amount {amount},
    note {note},
    {more}
);
CREATE INDEX sales_by_amount ON sales (amount);
COMMENT ON TABLE sales IS '{comment}';
"""
BEFORE = {"amount": "BIGINT", "note": "VARCHAR", "more": "PRIMARY KEY (batch_date, id)", "comment": "What was sold"}
FILES = {
    DAYS[0]: "id,amount,note\n1,10,2025-01-01\n2,20,2025-01-02\n",
    DAYS[1]: "id,amount,note\n1,11,2025-01-03\n2,20.5,2025-01-04\n3,12,\n",
    DAYS[2]: "id,amount,note\n1,13,2025-01-05\n2,14,2025-01-06\n",
}

Opened = Callable[..., AbstractContextManager[SourceProject]]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder whose files were built under the first contract; copied for every test."""
    folder = tmp_path_factory.mktemp("built")
    with pytest.MonkeyPatch.context() as patch, source_project(folder, DEFS, CONTRACT.format(**BEFORE), patch) as first:
        for day, text in FILES.items():
            first.drop(f"{day}.csv", text)
        assert not first.drain().failed
    return folder


@pytest.fixture
def project(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Opened:
    """The project under a contract: what is not said is as it was at first."""
    shutil.copytree(built / "data", tmp_path / "data")

    @contextmanager
    def under(
        defs: Mapping[str, Any] | None = None, script: str = CONTRACT, **contract: str
    ) -> Iterator[SourceProject]:
        script = script.format(**{**BEFORE, **contract})
        with source_project(tmp_path, {**DEFS, **(defs or {})}, script, monkeypatch) as opened:
            yield opened

    return under


def asked(**wishes: Any) -> Wanted:
    return Wanted.of((), **wishes)


def planned(opened: SourceProject, **wishes: Any) -> Plan:
    return plan(opened.deployment.project, stored_assets(opened.definitions), asked(**wishes))


def applied(opened: SourceProject, *accept: str, **wishes: Any) -> Applied:
    targets = stored_assets(opened.definitions)
    instance = opened.deployment.instance
    return apply(opened.deployment.project, targets, asked(**wishes), accept, instance)


def sound(opened: SourceProject) -> None:
    """Rows, files and records agree, nothing differs from the contract, and nothing is pending."""
    found = whole.verify(opened.deployment.instance, stored_assets(opened.definitions)).findings
    assert [one for one in found if one.kind != "unknown to Dagster"] == []
    assert planned(opened).empty
    assert opened.drain().runs == 0


def rows(opened: SourceProject) -> list[tuple[Any, ...]]:
    return opened.query("select batch_date::text, id, amount::text, note::text from sales order by all")


def days(keys: Any) -> list[str]:
    return sorted(map(str, keys))


def test_a_guess_of_whole_numbers_is_corrected_and_the_days_with_decimals_are_read_again(project: Opened) -> None:
    with project(amount="DECIMAL(12,3)") as opened:
        [change] = planned(opened).changes
        assert [one.said for one in change.differences] == [
            "column amount is BIGINT in the table, DECIMAL(12,3) by the contract"
        ]
        assert days(change.again) == [DAYS[1]] and days(change.kept) == [DAYS[0], DAYS[2]]
        applied(opened)
        assert (DAYS[0], 1, "10.000", "2025-01-01") in rows(opened), "readable before the drain"
        assert len(rows(opened)) == 6
        assert not opened.drain().failed
        assert (DAYS[1], 2, "20.500", "2025-01-04") in rows(opened)
        assert len(rows(opened)) == 7
        opened.drop("2025-03-24.csv", "id,amount,note\n1,0.125,2025-01-01\n")
        assert not opened.drain().failed
        assert opened.query("select count(*) from sales_rejects") == [(0,)]
        sound(opened)


def test_a_day_that_was_built_between_edit_and_apply_is_not_said_to_be_irreproducible(project: Opened) -> None:
    with project(amount="DOUBLE") as opened:
        opened.drop("2025-03-24.csv", "id,amount,note\n1,10,2025-01-01\n")
        assert not opened.drain().failed
        before = opened.query(
            "select fingerprint from etl_commits where partition_key = '2025-03-24' and asset = 'sales'"
        )
        applied(opened)
        done = opened.drain()
        assert not done.failed and not done.red
        found = opened.query(
            "select fingerprint, deviation from etl_commits where asset = 'sales' and partition_key = '2025-03-24' "
            "order by sequence"
        )
        # Whole numbers and floating point are other values, so the rows read differently: that is the contract's doing.
        assert [before[0][0], None] == [*found[0]] and found[-1][0] != before[0][0] and found[-1][1] is None


def test_applying_twice_changes_nothing_more(project: Opened) -> None:
    with project(amount="DECIMAL(12,3)") as opened:
        applied(opened)
        before = opened.query("select * from etl_commits order by all")
        assert applied(opened).plan.changes == ()
        assert opened.query("select * from etl_commits order by all") == before


def test_the_records_say_what_was_carried_over_and_what_is_to_be_read_again(project: Opened) -> None:
    with project(amount="DECIMAL(12,3)") as opened:
        applied(opened)
        found = opened.query(
            "select partition_key, run_id, input_hash[:6] = 'again:', schema_changes from etl_commits "
            "where asset = 'sales' and sequence = 2 order by 1"
        )
        said = ["column amount is BIGINT in the table, DECIMAL(12,3) by the contract"]
        assert found == [(day, "contract-apply", day == DAYS[1], said) for day in DAYS]


def test_text_becomes_days_and_every_file_is_read_again(project: Opened) -> None:
    with project(note="DATE") as opened:
        [change] = planned(opened).changes
        assert days(change.again) == sorted(DAYS)
        applied(opened)
        before = rows(opened)
        assert not opened.drain().failed
        assert rows(opened) == before
        sound(opened)


def test_rows_that_a_narrower_type_does_not_hold_are_named_and_nothing_is_changed(project: Opened) -> None:
    with project(amount="TINYINT", note="DATE") as opened:
        opened.query("update sales set amount = 300 where id = 1 and batch_date = '2025-03-20'")
        opened.query("update sales set note = 'soon' where id = 2 and batch_date = '2025-03-23'")
        before = (
            opened.query("select * from sales order by all"),
            opened.query("select * from etl_commits order by all"),
        )
        with pytest.raises(
            Refused, match=r"(?s)TINYINT, which does not hold BIGINT 300: 2025-03-20 \(1\).*soon.*03-23"
        ):
            applied(opened)
        assert before == (
            opened.query("select * from sales order by all"),
            opened.query("select * from etl_commits order by all"),
        )


def test_rows_without_a_place_are_set_aside_where_that_is_accepted_and_come_back_from_the_archive(
    project: Opened,
) -> None:
    with project(amount="TINYINT") as opened:
        opened.query("update sales set amount = 300 where id = 1 and batch_date = '2025-03-20'")
        assert applied(opened, "rows").aside == ("sales: sales_set_aside",)
        assert opened.query("select id, amount from sales_set_aside") == [(1, 300)]
        assert not opened.drain().failed
        assert (DAYS[0], 1, "10", "2025-01-01") in rows(opened)
        assert planned(opened).done_with == ('"main"."sales_set_aside"',)
        applied(opened)
        assert opened.query("select table_name from duckdb_tables() where table_name like '%aside%'") == []
        sound(opened)


@pytest.mark.parametrize("more", ["extra INTEGER, PRIMARY KEY (batch_date, id)", "extra INTEGER DEFAULT 7 NOT NULL"])
def test_a_computed_column_is_added(project: Opened, more: str) -> None:
    with project({"computed": {"extra": "7"}}, more=more) as opened:
        applied(opened)
        assert not opened.drain().failed
        assert opened.query("select distinct extra from sales") == [(7,)]
        sound(opened)


def test_a_column_that_may_not_be_null_and_has_no_default_needs_the_archive(project: Opened) -> None:
    with project({"computed": {"extra": "7"}}, more="extra INTEGER NOT NULL") as opened:
        with pytest.raises(Refused, match=r"6 rows: column extra may not be NULL.*2025-03-20 \(2\), 2025-03-21 \(2\)"):
            applied(opened)
        applied(opened, "rows")
        assert opened.query("select count(*) from sales_set_aside") == [(6,)]
        assert not opened.drain().failed
        assert opened.query("select distinct extra, count(*) from sales group by all") == [(7, 6)]


def test_a_column_is_renamed_as_the_user_says(project: Opened) -> None:
    defs = {"columns": {"id": "id", "amount": "price", "note": "note"}}
    with project(defs, CONTRACT.replace("amount {amount}", "price {amount}").replace("(amount)", "(price)")) as opened:
        assert [one.kind for one in planned(opened).changes[0].differences] == ["added", "kept"]
        applied(opened, renames=["sales.amount=price"])
        assert opened.query("select count(*), sum(price) from sales") == [(6, 80)]
        assert not opened.drain().failed
        assert opened.query("select count(*), sum(price) from sales") == [(6, 80)]
        sound(opened)


def test_differences_are_said_by_policy(project: Opened) -> None:
    with project(amount="DECIMAL(12,3)") as opened:
        found = unapplied(opened.deployment.project, stored_assets(opened.definitions), asked())
        assert [(one.refused, "does not hold is refused" in str(one)) for one in found] == [(True, True)]
        assert words.as_json(planned(opened))["changes"]


def test_a_check_that_rows_break_is_refused_and_one_that_they_keep_is_made(project: Opened) -> None:
    broken = r"1 rows: they break CHECK \(amount < 20\): 2025-03-20 \(1\)"
    key = "PRIMARY KEY (batch_date, id)"
    with project(more=f"{key}, CHECK (amount < 20)") as opened, pytest.raises(Refused, match=broken):
        applied(opened)
    with project(more="PRIMARY KEY (batch_date, id), CHECK (amount < 50)") as opened:
        applied(opened)
        with pytest.raises(duckdb.ConstraintException):
            opened.query("insert into sales values ('2025-03-20', 9, 60, null)")
        assert not opened.drain().failed
        sound(opened)


def test_a_key_is_changed_where_no_rows_share_it(project: Opened) -> None:
    with project(more="PRIMARY KEY (id)") as opened, pytest.raises(Refused, match=r"5 rows: they share their PRIMARY"):
        applied(opened)
    with project(more="UNIQUE (batch_date, amount)") as opened:
        assert [one.kind for one in planned(opened).changes[0].differences] == ["key added", "key removed"]
        applied(opened)
        opened.query("insert into sales values ('2025-03-20', 1, 60, null)")
        with pytest.raises(duckdb.ConstraintException):
            opened.query("insert into sales values ('2025-03-20', 9, 10, null)")


def test_comments_indexes_and_views_live_on_and_what_breaks_is_named_first(project: Opened) -> None:
    with project(amount="DECIMAL(12,3)", comment="Sold") as opened:
        opened.query("create view big as select id, amount from sales where amount > 10")
        opened.query("create index mine on sales (note)")
        opened.query("comment on column sales.note is 'said by hand'")
        applied(opened)
        assert opened.query("select count(*) from big") == [(5,)]
        assert opened.query("select index_name from duckdb_indexes() order by 1") == [("mine",), ("sales_by_amount",)]
        assert opened.query("select comment from duckdb_tables() where table_name = 'sales'") == [("Sold",)]
        told = "select comment from duckdb_columns() where table_name = 'sales' and column_name = 'note'"
        assert opened.query(told) == [("said by hand",)]


def test_a_column_goes_only_when_it_is_said_with_the_index_and_view_that_use_it_named(project: Opened) -> None:
    without = CONTRACT.replace("    note {note},\n", "")
    with project({"columns": {"id": "id", "amount": "amount"}, "ignored_columns": ["note"]}, without) as opened:
        opened.query("create view notes as select note from sales")
        opened.query("create index mine on sales (note)")
        assert planned(opened).empty, "it stays, and that is no work"
        with pytest.raises(Refused, match=r"(?s)mine would not work.*notes would not work.*--accept views"):
            applied(opened, drops=["sales.note"])
        applied(opened, "views", drops=["sales.note"])
        assert [row[0] for row in opened.query("describe sales")] == ["batch_date", "id", "amount"]
        assert not opened.drain().failed
        sound(opened)


def test_a_comment_alone_rewrites_nothing_and_asks_for_nothing(project: Opened) -> None:
    with project(comment="Sold") as opened:
        before = opened.query("select * from etl_commits order by all")
        applied(opened)
        assert opened.query("select comment from duckdb_tables() where table_name = 'sales'") == [("Sold",)]
        assert opened.query("select * from etl_commits order by all") == before
        sound(opened)


@pytest.mark.parametrize("wish", [{"renames": ["sales.gone=note"]}, {"drops": ["sales.id"]}, {"drops": ["other.id"]}])
def test_a_wish_about_no_column_is_refused(project: Opened, wish: dict[str, Any]) -> None:
    with project(amount="DECIMAL(12,3)") as opened, pytest.raises(Permanent, match=r"gone|id|other"):
        applied(opened, **wish)


def test_archived_files_that_no_longer_fit_are_named_before_anything_is_changed(project: Opened) -> None:
    with project(note="DATE", amount="BOOLEAN") as opened:
        with pytest.raises(Refused, match=r"sales 2025-03-20 2025-03-20\.csv: .*--accept files"):
            applied(opened)
        assert opened.query("select typeof(amount) from sales limit 1") == [("BIGINT",)]


KILLED = {"amount": "DECIMAL(12,3)", "note": "DATE"}


def _apply_and_die(folder: Path, step: str) -> None:
    """Apply in a process of its own that is killed at the step."""
    with pytest.MonkeyPatch.context() as patch:
        script = CONTRACT.format(**{**BEFORE, **KILLED})
        with source_project(folder, DEFS, script, patch, ETL_FAULT=f"contract.{step}=kill") as opened:
            applied(opened, "rows")


LONG = pytest.mark.long
STEPS = (
    *(pytest.param("begun", marks=LONG), pytest.param("renamed", marks=LONG), "filled"),
    *(pytest.param("reshaped", marks=LONG), pytest.param("before_commit", marks=LONG), "after_commit"),
)


@pytest.mark.parametrize("step", STEPS)
def test_a_kill_at_any_step_leaves_old_or_new_and_applying_again_ends_the_same(
    project: Opened, tmp_path: Path, step: str
) -> None:
    with project(**KILLED) as opened:
        opened.query("update sales set note = 'soon' where id = 2 and batch_date = '2025-03-23'")
        old = rows(opened)
        process = FORKS.Process(target=_apply_and_die, args=(tmp_path, step))
        process.start()
        process.join(PATIENCE_SECONDS)
        assert process.exitcode == -signal.SIGKILL
        assert (rows(opened) == old) == (step != "after_commit")
        applied(opened, "rows")
        assert opened.query("select batch_date::text, note from sales_set_aside") == [(DAYS[2], "soon")]
        assert [table for (table,) in opened.query("select table_name from duckdb_tables() order by 1")] == [
            *("etl_commits", "etl_tables", "sales", "sales_rejects", "sales_set_aside")
        ]
        assert opened.query(
            "select partition_key from etl_commits where asset = 'sales' and sequence > 1 order by 1"
        ) == [(day,) for day in DAYS]
        assert not opened.drain().failed
        assert (DAYS[1], 2, "20.500", "2025-01-04") in rows(opened) and len(rows(opened)) == 7
        applied(opened)
        sound(opened)


def test_a_write_that_an_edited_contract_blocks_names_the_way(project: Opened) -> None:
    with project(note="DATE", amount="DECIMAL(12,3)") as opened:
        opened.drop("2025-03-24.csv", "id,amount,note\n1,0.125,2025-01-01\n")
        assert opened.drain().failed
        instance = opened.deployment.instance
        failures = [str(event) for run in instance.get_runs() for event in instance.all_logs(run.run_id)]
        assert any("amount DECIMAL(12,3), note DATE now: `etl contract plan`" in one for one in failures)


@pytest.mark.parametrize(
    ("old", "new", "alike"),
    [
        (pa.struct({"a": pa.int32()}), pa.struct({"a": pa.int64()}), True),
        (pa.struct({"a": pa.int64()}), pa.struct({"a": pa.string()}), False),
        (pa.struct({"a": pa.int64()}), pa.struct({"a": pa.int64(), "b": pa.string()}), False),
        (pa.struct({"a": pa.int64(), "b": pa.int64()}), pa.struct({"b": pa.int64(), "a": pa.int64()}), False),
        (pa.list_(pa.field("item", pa.int64())), pa.list_(pa.field("element", pa.int64())), True),
        (pa.list_(pa.int64()), pa.list_(pa.date32()), False),
        (pa.list_(pa.struct({"a": pa.int64()})), pa.list_(pa.struct({"z": pa.int64()})), False),
        (pa.list_(pa.int64()), pa.string(), False),
    ],
)
def test_a_raw_file_whose_nested_values_are_others_by_the_contract_is_read_again(
    old: pa.DataType, new: pa.DataType, alike: bool
) -> None:
    assert raw_files.reads_alike(old, new) is alike


def test_the_job_only_plans_until_it_is_told_to_carry_out_and_then_does_what_the_command_does(project: Opened) -> None:
    with project(amount="DECIMAL(12, 3)") as opened:
        job = contract_job(opened.deployment.project, stored_assets(opened.definitions))

        def run(**config: Any) -> Any:
            settings = {"ops": {"apply_contracts": {"config": config}}}
            return job.execute_in_process(settings, instance=opened.deployment.instance, raise_on_error=False)

        assert run().success
        assert not planned(opened).empty, "nothing was changed"
        assert not run(carry_out=True, accept=["everything"]).success
        assert not planned(opened).empty
        for _ in range(2):  # The run-twice twin.
            assert run(carry_out=True).success
            [column] = opened.query(
                "select data_type from duckdb_columns() where column_name = 'amount' and table_name = 'sales'"
            )
            assert column == ("DECIMAL(12,3)",)
        assert not opened.drain().failed
        sound(opened)
