"""Verify, store by store: what is wrong is named, what is right never is, however the table came to be what it is."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from etl_project.declare.daily_table import daily
from etl_project.proofs.verify import archived, job, whole
from etl_project.proofs.verify.findings import Asked, DaySpan
from etl_project.proofs.verify.targets import Stored, Unverifiable, chosen, stored_assets
from etl_project.storage.contract import Partition, Request, Scope, StoreBusy, Table
from etl_project.storage.dagster.file_io_managers import DuckDBPartitionIOManager
from etl_project.storage.engines.duckdb_file import DuckDBStore
from etl_project.storage.judging.findings import Finding, Looked
from etl_project.storage.lake import examine as lake_examine
from etl_project.storage.lake.store import ParquetStore
from etl_project.storage.tables import examine
from etl_project_tests.contracts import world

DAYS = world.days(5)
KEYS = [partition.key for partition in DAYS.partitions]
DAILY = daily(world.FIRST)
EVERYTHING = DaySpan()
Edit = Callable[..., None]


def examined(target: Stored, window: DaySpan = EVERYTHING) -> Looked:
    """What the asset's own store says of it."""
    return target.store.examine(target.table, Asked(target, window))


class Place:
    """A table in a DuckDB file and the same rows in Parquet files, both of five days."""

    def __init__(self, folder: Path) -> None:
        self.warehouse = DuckDBStore(folder / "w.duckdb", wait_seconds=0.2)
        self.lake = ParquetStore(folder / "lake")
        self.replace(world.TABLE, DAYS, world.rows(DAYS, 1))
        self.lake.replace(world.TABLE, DAYS, world.rows(DAYS, 1), Request("a-run-of-files"))

    def replace(self, table: Table, scope: Scope, data: Any) -> None:
        self.warehouse.replace(table, scope, data, Request("a-run"))

    def edit(self, sql: str, *values: object) -> None:
        with duckdb.connect(str(self.warehouse.path)) as connection:
            connection.execute("set timezone = 'UTC'")
            connection.execute(sql, list(values))

    def file(self, key: str | None) -> Path:
        with self.lake._lake.copies("orders", [key]) as files:
            return files[key].path

    def in_tables(self, table: Table = world.TABLE, definition: Any = DAILY, window: DaySpan = EVERYTHING) -> Looked:
        return examined(Stored(table.asset, table, definition, self.warehouse), window)

    def in_files(self, window: DaySpan = EVERYTHING) -> Looked:
        return examined(Stored("orders", world.TABLE, DAILY, self.lake), window)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def kinds(looked: Looked) -> list[tuple[str, str | None]]:
    return sorted(((finding.kind, finding.partition) for finding in looked.findings), key=repr)


def test_what_was_written_is_in_order_in_tables_and_files(place: Place) -> None:
    for looked in (place.in_tables(), place.in_files()):
        assert looked.findings == []
        assert (sorted(looked.commits, key=str), looked.rows) == (KEYS, 5 * world.ROWS)


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("update orders set version = 7 where n = 3 and batch_date = ?", "edited"),
        ("delete from orders where n = 3 and batch_date = ?", "edited"),
        ("insert into orders select batch_date, 999, 1 from orders where n = 0 and batch_date = ?", "edited"),
        ("delete from orders where batch_date = ?", "missing"),
        ("delete from etl_commits where partition_key = ?", "uncommitted"),
    ],
)
def test_a_change_behind_the_back_of_the_commits_is_named_with_its_day(place: Place, sql: str, expected: str) -> None:
    place.edit(sql, KEYS[2])
    assert kinds(place.in_tables()) == [(expected, KEYS[2])]


def test_two_rows_that_swap_a_value_are_noticed(place: Place) -> None:
    place.edit("update orders set version = 2 where n = 1")
    place.edit("update orders set n = 1000 - n where batch_date = ?", KEYS[0])
    assert kinds(place.in_tables()) == [("edited", key) for key in KEYS]


def test_rows_of_days_that_nobody_committed_are_named_by_day_and_null_is_one_of_them(place: Place) -> None:
    place.edit("create table free as select * from orders")
    place.edit("insert into etl_commits select * replace ('free' as asset) from etl_commits")
    place.edit("insert into free values ('1999-12-31', 1, 1), ('2024-01-09', 1, 1), ('2024-01-09', 2, 1), (null, 1, 1)")
    free = Table("free", "free")
    found = place.in_tables(free)
    assert kinds(found) == [
        ("uncommitted", "1999-12-31"),
        ("uncommitted", "2024-01-09"),
        ("uncommitted", None),
    ]
    assert "2 rows" in {finding.partition: finding.found for finding in found.findings}["2024-01-09"]
    assert kinds(place.in_tables(free, window=DaySpan(date(2024, 1, 9), date(2024, 1, 9)))) == [
        ("uncommitted", "2024-01-09")
    ]


def test_a_table_whose_commits_are_all_gone_has_only_uncommitted_days(place: Place) -> None:
    place.edit("delete from etl_commits")
    assert kinds(place.in_tables()) == [("uncommitted", key) for key in KEYS]
    place.edit("drop table etl_commits")
    assert kinds(place.in_tables()) == [("uncommitted", key) for key in KEYS]


def test_a_table_or_partition_column_that_is_gone_leaves_every_day_missing(place: Place) -> None:
    place.edit("alter table orders rename to kept")
    assert kinds(place.in_tables()) == [("missing", key) for key in KEYS]
    place.edit("create table orders as select n, version from kept")
    assert kinds(place.in_tables()) == [("missing", key) for key in KEYS]


def test_nothing_there_yet_is_nothing_wrong(tmp_path: Path) -> None:
    nothing = DuckDBStore(tmp_path / "none.duckdb")
    assert examined(Stored("orders", world.TABLE, DAILY, nothing)) == Looked()
    empty = ParquetStore(tmp_path / "none")
    assert examined(Stored("orders", world.TABLE, DAILY, empty)) == Looked()


def test_columns_added_later_and_widened_later_raise_no_alarm(place: Place) -> None:
    evolved = Table("loose", "loose")
    place.replace(evolved, DAYS, world.rows(DAYS, 1))
    last = Scope(DAYS.partitions[-1:])
    wide = world.rows(last, 2).set_column(1, "n", pa.array([2**40 + n for n in range(world.ROWS)], pa.int64()))
    wider = wide.append_column("note", pa.array(["new"] * world.ROWS))
    place.replace(evolved, last, wider)
    assert place.in_tables(evolved).findings == []
    place.edit("alter table loose add column by_hand integer default 5")
    assert place.in_tables(evolved).findings == [], "a column that fills itself was no content then"
    place.edit("update loose set note = 'old' where batch_date = ?", KEYS[0])
    assert kinds(place.in_tables(evolved)) == [("edited", KEYS[0])]


def test_a_column_with_a_default_is_content_only_where_the_data_brought_it(place: Place) -> None:
    table = Table("d", "d", contract_sql="create table d (batch_date date, n integer, m integer default 7, b integer)")
    day, other = Scope(DAYS.partitions[:1]), Scope(DAYS.partitions[1:2])
    plain = world.rows(day, 1).select(["batch_date", "n"])
    place.replace(table, day, plain)
    place.replace(table, other, world.rows(other, 1).select(["batch_date", "n"]).append_column("m", [[3] * world.ROWS]))
    assert place.in_tables(table).findings == []
    place.edit("update d set m = 8 where batch_date = ? and n = 1", KEYS[1])
    assert kinds(place.in_tables(table)) == [("edited", KEYS[1])]


def test_commits_with_an_earlier_kind_of_fingerprint_are_counted_and_said_to_be(told: Told) -> None:
    told.place.edit("update etl_commits set fingerprint = '0:50:abc'")
    told.verify(repair=True)
    done = whole.verify(told.instance, [told.target])
    assert (done.findings, done.counted, done.partitions) == ([], 5, 5)
    told.place.edit("delete from orders where n = 3 and batch_date = ?", KEYS[2])
    assert [(f.kind, f.partition) for f in told.verify()] == [("edited", KEYS[2])]


@pytest.mark.parametrize("kind", ["static", "hourly", "whole"])
def test_partitions_of_other_kinds_are_verified_alike(place: Place, kind: str) -> None:
    table = Table("t", "t", partition_column="p")
    if kind == "static":
        definition: Any = dg.StaticPartitionsDefinition(["it's", "de"])
        scope, data = Scope.keys(["de", "it's"]), pa.table({"p": ["de", "it's", "it's"], "n": [1, 2, 2]})
        stray = "insert into t values ('fr', 1)"
    elif kind == "hourly":
        definition = dg.HourlyPartitionsDefinition("2024-01-01-00:00", timezone="UTC")
        hours = [datetime(2024, 1, 1, h, tzinfo=UTC) for h in (3, 4, 5)]
        scope = Scope((Partition("2024-01-01-03:00", hours[0], hours[1]), Partition("2024-01-01-04:00", *hours[1:])))
        data = pa.table({"p": pa.array([h.replace(minute=59) for h in hours[:2]], pa.timestamp("us", "UTC"))})
        stray = "insert into t values ('2024-01-01 05:00:00+00')"
    else:
        definition, scope, data, stray = None, Scope.whole(), pa.table({"n": [1, 2]}), "insert into t values (3)"
    place.replace(table, scope, data)
    looked = place.in_tables(table, definition)
    assert (looked.findings, len(looked.commits)) == ([], len(scope.partitions))
    place.edit(stray)
    assert len(place.in_tables(table, definition).findings) == 1


def test_a_long_table_is_looked_at_in_portions_between_which_writers_get_in(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, last = examine.Examination._portion, Scope(DAYS.partitions[-1:])
    written = []

    def then_write(*arguments: Any) -> Any:
        found = real(*arguments)
        place.replace(world.TABLE, last, world.rows(last, 1))  # StoreBusy, if the file were still open for the look.
        written.append(arguments[-1])
        return found

    monkeypatch.setattr(examine.Examination, "_portion", then_write)
    monkeypatch.setattr(examine, "ROWS_A_LOOK", world.ROWS * 2)
    place.edit("update orders set version = 7 where n = 3 and batch_date = ?", KEYS[3])
    looked = place.in_tables()
    assert (kinds(looked), sorted(looked.commits, key=str)) == ([("edited", KEYS[3])], KEYS)
    assert written == [KEYS[:2], KEYS[2:4], KEYS[4:]]


def test_a_table_of_one_portion_is_opened_once(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    real, opened = examine.Examination._look, []

    def counted(self: Any) -> Any:
        opened.append(self)
        return real(self)

    monkeypatch.setattr(examine.Examination, "_look", counted)
    assert (place.in_tables().findings, len(opened)) == ([], 1)


def test_a_window_leaves_the_other_days_alone(place: Place) -> None:
    place.edit("update orders set version = 7")
    place.file(KEYS[0]).write_bytes(b"")
    window = DaySpan(date(2024, 1, 2), date(2024, 1, 3))
    assert kinds(place.in_tables(window=window)) == [("edited", "2024-01-02"), ("edited", "2024-01-03")]
    assert place.in_files(window).findings == []
    with pytest.raises(Unverifiable, match="--from 2024-01-03 is after --to 2024-01-02"):
        DaySpan(date(2024, 1, 3), date(2024, 1, 2))


@pytest.mark.long
def test_a_warehouse_that_a_run_holds_is_waited_for_and_then_said_to_be_busy(place: Place) -> None:
    process = world.start(_hold, str(place.warehouse.path))
    try:
        while not place.warehouse.path.with_suffix(".held").exists():
            assert process.is_alive()
        with pytest.raises(StoreBusy, match=r"waited 0\.2 s"):
            place.in_tables()
    finally:
        process.kill()
        process.join()
    assert place.in_tables().findings == []


def _hold(path: str) -> None:
    with duckdb.connect(path, config={"custom_user_agent": "dagster"}):
        Path(path).with_suffix(".held").touch()
        time.sleep(600)


def test_a_damaged_database_is_one_finding_that_names_the_file(place: Place) -> None:
    headers = 3 * 4096  # All behind them: blocks that nothing uses may lie anywhere.
    with place.warehouse.path.open("r+b") as file:
        file.seek(headers)
        file.write(b"\xff" * (place.warehouse.path.stat().st_size - headers))
    looked = place.in_tables()
    assert {finding.kind for finding in looked.findings} == {"corrupt"}
    assert looked.findings[0].where == str(place.warehouse.path)
    place.warehouse.path.write_bytes(b"no database")
    assert kinds(place.in_tables()) == [("corrupt", None)]


def test_wherever_a_byte_of_a_file_flips_the_file_is_named_or_reads_the_same(place: Place) -> None:
    path = place.file(KEYS[1])
    content = path.read_bytes()
    clean = pq.read_table(path)
    named = 0
    for place_of_flip in range(0, len(content), max(1, len(content) // 60)):
        broken = bytearray(content)
        broken[place_of_flip] ^= 0x55
        path.write_bytes(broken)
        findings = place.in_files().findings
        named += bool(findings)
        if findings:
            assert {(finding.partition, finding.where) for finding in findings} == {(KEYS[1], str(path))}
            assert {finding.kind for finding in findings} <= {"corrupt", "uncommitted"}
        else:
            assert _read(path, clean.schema).equals(clean), (
                f"byte {place_of_flip} changes what is read, and nothing is said"
            )
    assert named > 10
    path.write_bytes(content)
    assert place.in_files().findings == []


def _read(path: Path, schema: pa.Schema) -> pa.Table:
    """What the project reads: it reads through DuckDB."""
    with duckdb.connect() as connection:
        return connection.read_parquet(str(path)).select(*schema.names).to_arrow_table().cast(schema)


def test_a_file_whose_time_and_size_stay_the_same_is_read_all_the_same(place: Place) -> None:
    path = place.file(KEYS[1])
    status = path.stat()
    place.lake.last_commits()
    content = bytearray(path.read_bytes())
    content[20:60] = b"\0" * 40
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert kinds(place.in_files()) == [("corrupt", KEYS[1])]


def test_a_file_put_there_by_hand_has_no_commit(place: Place) -> None:
    path = place.file(KEYS[1])
    pq.write_table(pq.read_table(path).replace_schema_metadata(None), path)
    assert kinds(place.in_files()) == [("uncommitted", KEYS[1])]


def test_files_of_several_shapes_raise_no_alarm(place: Place) -> None:
    last = Scope(DAYS.partitions[-1:])
    wider = world.rows(last, 2).append_column("note", pa.array(["new"] * world.ROWS))
    place.lake.replace(world.TABLE, last, wider, Request("later"))
    place.lake.replace(world.TABLE, Scope(DAYS.partitions[:1]), world.rows(last, 2).slice(0, 0), Request("empty"))
    assert place.in_files().findings == []


def test_a_file_with_other_rows_than_its_record_says_is_named(place: Place) -> None:
    path = place.file(KEYS[1])
    table, footer = pq.read_table(path), pq.read_metadata(path).metadata
    with pq.ParquetWriter(path, table.schema) as writer:
        writer.write_table(table.set_column(2, "version", pa.array([7] * len(table), pa.int32())))
        writer.add_key_value_metadata({key: value for key, value in footer.items() if key.startswith(b"etl_")})
    [finding] = place.in_files().findings
    assert (finding.kind, finding.partition) == ("corrupt", KEYS[1])
    assert "the record in its footer says 50 rows" in finding.found


def test_a_file_that_is_replaced_while_it_is_looked_at_is_no_finding(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twice: between its record and the look at all files, and between its record and the look at it alone."""
    real, versions = lake_examine._tallies, iter([8, 9])

    def overtaken(paths: Any, *more: Any) -> Any:
        version = next(versions, None)
        if version is not None:
            place.lake.replace(world.TABLE, first, world.rows(first, version), Request("overtaking"))
        return real(paths, *more)

    first = Scope(DAYS.partitions[:1])
    monkeypatch.setattr(lake_examine, "_tallies", overtaken)
    assert place.in_files().findings == []
    assert next(versions, None) is None


class Told:
    """The table of `Place` with Dagster's history of it."""

    def __init__(self, place: Place, instance: dg.DagsterInstance) -> None:
        self.place, self.instance = place, instance
        self.target = Stored("orders", world.TABLE, DAILY, place.warehouse)

    def verify(self, repair: bool = False, window: DaySpan = EVERYTHING) -> list[Finding]:
        return whole.verify(self.instance, [self.target], window, repair=repair).findings

    def events(self) -> int:
        return len(self.instance.fetch_materializations(dg.AssetKey("orders"), limit=100).records)


@pytest.fixture
def told(place: Place, tmp_path: Path) -> Any:
    (tmp_path / "dagster").mkdir()
    with dg.DagsterInstance.local_temp(str(tmp_path / "dagster")) as instance:
        yield Told(place, instance)


def test_commits_that_dagster_does_not_know_are_repaired_once(told: Told) -> None:
    assert [(f.kind, f.repaired) for f in told.verify()] == [("unknown to Dagster", False)] * 5
    assert told.events() == 0, "looking writes nothing"
    assert [(f.kind, f.repaired) for f in told.verify(repair=True)] == [("unknown to Dagster", True)] * 5
    assert told.verify(repair=True) == [] and told.events() == 5
    newest = told.instance.get_latest_materialization_event(dg.AssetKey("orders"))
    assert newest is not None and newest.asset_materialization is not None
    assert newest.asset_materialization.metadata["dagster/partition_row_count"].value == world.ROWS
    status = told.instance.get_materialized_partitions(dg.AssetKey("orders"))
    assert status == set(KEYS)


def test_an_event_of_an_older_commit_is_not_the_event_of_the_newest(told: Told) -> None:
    told.verify(repair=True)
    scope = Scope(DAYS.partitions[1:2])
    told.place.replace(world.TABLE, scope, world.rows(scope, 2))
    assert [(f.kind, f.partition) for f in told.verify()] == [("unknown to Dagster", KEYS[1])]
    told.place.replace(world.TABLE, Scope(DAYS.partitions[2:3]), world.rows(Scope(DAYS.partitions[2:3]), 1))
    assert [f.partition for f in told.verify(repair=True)] == [KEYS[1]], "a rerun that changed nothing needs no event"
    assert told.verify() == []


def test_a_store_of_another_kind_speaks_for_itself(told: Told) -> None:
    class Elsewhere(ParquetStore):
        """Nobody here knows what it holds but itself."""

        def examine(self, table: Table, partitions: Any) -> Looked:
            return Looked(findings=[Finding("missing", table.asset, KEYS[0], "elsewhere", "nothing")])

    elsewhere = Stored("elsewhere", world.TABLE, DAILY, Elsewhere(told.place.lake.root))
    done = whole.verify(told.instance, [elsewhere])
    assert (done.assets, [finding.where for finding in done.findings]) == (["elsewhere"], ["elsewhere"])
    assert len(job.checks([elsewhere])) == 1


def test_what_dagster_has_and_nobody_committed_is_named(told: Told) -> None:
    told.verify(repair=True)
    told.place.edit("delete from etl_commits where partition_key = ?", KEYS[0])
    told.place.edit("delete from orders where batch_date = ?", KEYS[0])
    assert [(f.kind, f.partition) for f in told.verify()] == [("not committed", KEYS[0])]
    assert [f.kind for f in told.verify(repair=True)] == ["not committed"], "there is nothing to write"
    assert told.verify(window=DaySpan(first=date(2024, 1, 2))) == []


def test_a_file_that_is_gone_is_missing_and_named(told: Told) -> None:
    told.target = Stored("orders", world.TABLE, DAILY, told.place.lake)
    told.verify(repair=True)
    path = told.place.file(KEYS[3])
    path.unlink()
    [finding] = told.verify()
    assert (finding.kind, finding.partition, finding.where) == ("missing", KEYS[3], str(path))


def test_a_run_at_work_may_have_committed_what_it_has_not_reported_yet(told: Told) -> None:
    told.verify(repair=True)
    scope = Scope(DAYS.partitions[1:2])
    run = told.instance.create_run_for_job(_job, status=dg.DagsterRunStatus.STARTED)
    told.place.warehouse.replace(world.TABLE, scope, world.rows(scope, 2), Request(run.run_id))
    assert told.verify(repair=True) == []
    told.instance.report_run_failed(run)
    assert [f.kind for f in told.verify()] == ["unknown to Dagster"]


@dg.job
def _job() -> None:
    pass


def test_archived_files_are_hashed_against_their_names(tmp_path: Path) -> None:
    for day, text in (("2024-01-01", "a"), ("2024-01-02", "b")):
        folder = tmp_path / "orders" / day / "nested" / f"{day}.csv"
        folder.mkdir(parents=True)
        (folder / f"000001-{hashlib.sha256(text.encode()).hexdigest()}").write_text(text)
    assert list(archived.look(tmp_path, ["orders", "unused"], EVERYTHING)) == []
    [broken] = (tmp_path / "orders" / "2024-01-02").rglob("000001-*")
    broken.write_text("c")
    [finding] = archived.look(tmp_path, ["orders"], EVERYTHING)
    assert (finding.kind, finding.asset, finding.partition) == ("corrupt archive", "orders", "2024-01-02")
    assert finding.where == str(broken)
    assert list(archived.look(tmp_path, ["orders"], DaySpan(last=date(2024, 1, 1)))) == []


def test_assets_are_targets_when_one_of_our_io_managers_writes_them(tmp_path: Path) -> None:
    @dg.asset(partitions_def=DAILY, metadata={"partition_column": "day", "schema": "s"})
    def ours() -> int:
        return 1

    @dg.asset
    def nothing_returned() -> dg.MaterializeResult[None]:
        return dg.MaterializeResult()

    @dg.asset(io_manager_key="other")
    def another() -> int:
        return 1

    definitions = dg.Definitions(
        assets=[ours, nothing_returned, another, dg.AssetSpec("outside")],
        resources={
            "io_manager": DuckDBPartitionIOManager(url=str(tmp_path / "w.duckdb")),
            "other": dg.FilesystemIOManager(base_dir=str(tmp_path)),
        },
    )
    [target] = stored_assets(definitions)
    assert (target.asset, target.table.schema, target.table.partition_column) == ("ours", "s", "day")
    assert chosen([target], []) == (target,)
    with pytest.raises(Unverifiable, match="no stored asset 'others'; there are ours"):
        chosen([target], ["others"])
