"""Testing: the storage contract as a suite that anybody can run on a store of their own, or on ours as they wrap it.

Belongs here: what `contract` promises, said as checks that need a factory of stores and an empty folder, and nothing of
a test framework. Each check makes its own asset, writes everything twice where that must make no difference, and reads
back through a store that was opened anew.

    from etl_project.storage.testing import CHECKS

    @pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
    def test_my_store_keeps_the_contract(check, tmp_path):
        check(lambda: MyStore(tmp_path))

`python -m etl_project.storage.testing` runs it on our own stores with the versions that are installed.
"""

from __future__ import annotations

import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import date, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow as pa

from etl_project.storage.contract import (
    Commit,
    Partition,
    PartlyCommitted,
    ReadRefused,
    Request,
    Scope,
    Store,
    Table,
    WriteRefused,
)
from etl_project.utc import UTC

Open = Callable[[], Store]
"""Opens the store under test; each call gives a new one over the same place."""

ONE, TWO = date(2024, 3, 5), date(2024, 3, 6)


class ContractBroken(AssertionError):
    """A promise of the contract is not kept. The message says what was found and what was expected."""


def rows(*of: tuple[date | None, int | None], kind: pa.DataType | None = None) -> pa.Table:
    """Rows of (batch_date, n)."""
    return pa.table(
        {
            "batch_date": pa.array([row[0] for row in of], pa.date32()),
            "n": pa.array([row[1] for row in of], kind or pa.int64()),
        }
    )


def empty_is_data(opened: Open) -> None:
    """No rows make a partition empty; the first write of none makes the table."""
    table = Table("empty_is_data", "empty_is_data")
    _put(opened, table, rows(), ONE)
    _expect(_numbers(opened, table, ONE), [], "after a first write of no rows")
    _put(opened, table, rows((ONE, 1)), ONE)
    _put(opened, table, rows(), ONE)
    _expect(_numbers(opened, table, ONE), [], "after no rows replaced one")


def exactly_the_partitions_are_replaced(opened: Open) -> None:
    """Rows of other partitions stay, and a rerun changes nothing."""
    table = Table("exactly", "exactly")
    _put(opened, table, rows((ONE, 1), (ONE, 1), (TWO, 2)), ONE, TWO)
    _put(opened, table, rows((ONE, 3)), ONE)
    _expect(_numbers(opened, table, ONE, TWO), [2, 3], "after one of two days was replaced")


def rows_of_other_partitions_are_refused(opened: Open) -> None:
    """A stray row, or one that says nothing, refuses the whole write."""
    table = Table("strays", "strays")
    _put(opened, table, rows((ONE, 1)), ONE)
    for stray in ((TWO, 9), (None, 9)):
        _refused(WriteRefused, lambda stray=stray: _put(opened, table, rows((ONE, 2), stray), ONE))  # type: ignore[misc]
    _expect(_numbers(opened, table, ONE, TWO), [1], "after refused writes")


def columns_go_by_name(opened: Open) -> None:
    """Columns in another order land where their names say; a new one is added, a missing one is NULL."""
    table = Table("by_name", "by_name")
    _put(opened, table, rows((ONE, 1)), ONE)
    _put(opened, table, pa.table({"more": ["x"], "n": [2], "batch_date": pa.array([TWO], pa.date32())}), TWO)
    found = _read(opened, table, ONE, TWO).select(["batch_date", "n", "more"]).sort_by("n").to_pylist()
    wanted = [{"batch_date": ONE, "n": 1, "more": None}, {"batch_date": TWO, "n": 2, "more": "x"}]
    _expect(found, wanted, "after a write with more columns in another order")


def nothing_is_lost_by_a_cast(opened: Open) -> None:
    """A value that the column cannot hold, and a change of kind, are refused."""
    table = Table("casts", "casts", drift="freeze")
    _put(opened, table, rows((ONE, 1), kind=pa.int32()), ONE)
    for wrong in (pa.array([1.5]), pa.array([2**40]), pa.array(["1"])):
        data = pa.table({"batch_date": pa.array([ONE], pa.date32()), "n": wrong})
        _refused(WriteRefused, lambda data=data: _put(opened, table, data, ONE))  # type: ignore[misc]
    _expect(_numbers(opened, table, ONE), [1], "after lossy writes")


def every_commit_is_recorded(opened: Open) -> None:
    """One record a partition and commit: whose it is, how many rows there were and are, whether anything changed."""
    table = Table("recorded", "recorded")
    first = _put(opened, table, rows((ONE, 1)), ONE, times=1)
    again = _put(opened, table, rows((ONE, 1)), ONE, times=1)
    other = _put(opened, table, rows((ONE, 2), (ONE, 3)), ONE, times=1)
    _expect([first.changed, again.changed, other.changed], [True, False, True], "as `changed` of three writes")
    _expect(again.fingerprint, first.fingerprint, "as the fingerprint of the same rows")
    last = opened().last_commits(["recorded"])["recorded", ONE.isoformat()]
    _expect((last.rows_before, last.rows, last.run_id), (1, 2, "a run"), "as the last record")
    _expect(last, opened().history("recorded", ONE.isoformat())[-1], "as the end of the history")


def fingerprints_are_of_content(opened: Open) -> None:
    """The order of rows and of columns makes no difference."""
    table, other = Table("content", "content"), Table("content_too", "content_too")
    one = _put(opened, table, rows((ONE, 1), (ONE, 2)), ONE)
    two = _put(opened, other, rows((ONE, 2), (ONE, 1)).select(["n", "batch_date"]), ONE)
    _expect(two.fingerprint, one.fingerprint, "as the fingerprint of the same rows in another order")


def an_error_in_a_stream_changes_nothing(opened: Open) -> None:
    """What the maker of a stream raises is raised as it is."""
    table = Table("streams", "streams")
    _put(opened, table, rows((ONE, 1)), ONE)
    schema = rows().schema

    def batches() -> Iterator[pa.RecordBatch]:
        yield rows((ONE, 2)).to_batches()[0]
        raise LookupError("the stream ends here")

    _refused(
        LookupError, lambda: _put(opened, table, pa.RecordBatchReader.from_batches(schema, batches()), ONE, times=1)
    )
    _expect(_numbers(opened, table, ONE), [1], "after a stream that failed")


def a_lock_that_is_lost_commits_nothing(opened: Open) -> None:
    """`still_owner` is asked right before the commit."""
    table = Table("lost", "lost")
    _put(opened, table, rows((ONE, 1)), ONE)

    def lost() -> None:
        raise LookupError("somebody else has the lock")

    request = Request("a run", still_owner=lost)
    _refused(LookupError, lambda: opened().replace(table, Scope.days(ONE, ONE), rows((ONE, 2)), request))
    _expect(_numbers(opened, table, ONE), [1], "after a writer without its lock")


def spans_of_time_are_exact(opened: Open) -> None:
    """Hours are instants: from their start on, and not at their end."""
    table = Table("hours", "hours", partition_column="at")
    start = datetime(2024, 3, 5, 7, tzinfo=UTC)
    hour = timedelta(hours=1)
    hours = [Partition(str(n), start + n * hour, start + (n + 1) * hour) for n in range(2)]
    scope = Scope(tuple(hours))
    moments = [start, start + hour - timedelta(microseconds=1), start + hour]
    for n in (1, 2):
        data = pa.table({"at": pa.array(moments, pa.timestamp("us", "UTC")), "n": [n] * 3})
        opened().replace(table, scope, data, Request("a run"))
    first = Scope(scope.partitions[:1])
    opened().replace(table, first, pa.table({"at": pa.array([], pa.timestamp("us", "UTC"))}), Request("a run"))
    found = opened().arrow(opened().read(table, scope))["at"].cast(pa.timestamp("us", "UTC")).to_pylist()
    _expect(found, [start + hour], "after the first of two hours was emptied")


def names_and_keys_are_only_names(opened: Open) -> None:
    """Whatever a key says, it neither meets another one nor leaves its place."""
    keys = ["a'b", '"; DROP TABLE x --', "../../up", "%2E%2E", "a/b", "ü 🙂", "A", "a"]
    table = Table("names", "na'mes", partition_column='co"l')
    for key in keys:
        for n in (1, 2):
            opened().replace(table, Scope.keys([key]), pa.table({'co"l': [key], "n": [n]}), Request("a run"))
    found = opened().arrow(opened().read(table, Scope.keys(sorted(keys))))
    _expect(sorted(found['co"l'].to_pylist()), sorted(keys), "as the keys of all rows")


def what_is_not_there_is_refused(opened: Open) -> None:
    """Reading an asset that was never written says so, instead of giving no rows."""
    table = Table("nowhere", "nowhere")
    _refused(ReadRefused, lambda: opened().read(table, Scope.days(ONE, ONE)))


def two_writers_leave_one_of_them(opened: Open) -> None:
    """Two writers of one partition never both win, an empty one included."""
    table, failures = Table("writers", "writers"), []
    _put(opened, table, rows(), ONE)

    def write(n: int) -> None:
        try:
            opened().replace(table, Scope.days(ONE, ONE), rows((ONE, n), (ONE, n)), Request("a run"))
        except Exception as error:  # noqa: BLE001  # Told below; a writer may be refused, but not half win.
            failures.append(error)

    threads = [threading.Thread(target=write, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = _numbers(opened, table, ONE)
    if len(failures) == len(threads) or len(found) != 2 or len(set(found)) != 1:
        raise ContractBroken(
            f"Four writers left {found}, failures: {failures}; expected two equal rows of one of them."
        )


def good_partitions_of_a_range_are_committed(opened: Open) -> None:
    """Where one partition's data is at fault, the others are committed, and the error names it."""
    table = Table("ranges", "ranges", max_removed_ratio=0.5)
    _put(opened, table, rows(*((ONE, n) for n in range(4)), (TWO, 1)), ONE, TWO)
    scope, data = Scope.days(ONE, TWO), rows((ONE, 1), (TWO, 2))
    error = _refused(PartlyCommitted, lambda: opened().replace(table, scope, data, Request("a run")))
    _expect(list(error.failures), [ONE.isoformat()], "as the partitions at fault")  # type: ignore[attr-defined]
    _expect(_numbers(opened, table, ONE, TWO), [0, 1, 2, 2, 3], "after a range with one bad day")


CHECKS: Sequence[Callable[[Open], None]] = (
    empty_is_data,
    exactly_the_partitions_are_replaced,
    rows_of_other_partitions_are_refused,
    columns_go_by_name,
    nothing_is_lost_by_a_cast,
    every_commit_is_recorded,
    fingerprints_are_of_content,
    an_error_in_a_stream_changes_nothing,
    a_lock_that_is_lost_commits_nothing,
    spans_of_time_are_exact,
    names_and_keys_are_only_names,
    what_is_not_there_is_refused,
    two_writers_leave_one_of_them,
    good_partitions_of_a_range_are_committed,
)
"""The promises, one function each; they raise ContractBroken, or what the store raises."""


def _put(opened: Open, table: Table, data: Any, *days: date, times: int = 2) -> Commit:
    """Write it as often as it should make no difference; the last record."""
    for _ in range(times):
        commits = opened().replace(table, Scope.days(days[0], days[-1]), data, Request("a run"))
    return commits[-1]


def _read(opened: Open, table: Table, *days: date) -> pa.Table:
    store = opened()
    return store.arrow(store.read(table, Scope.days(days[0], days[-1])))


def _numbers(opened: Open, table: Table, *days: date) -> list[int]:
    return sorted(_read(opened, table, *days)["n"].to_pylist())


def _expect(found: object, wanted: object, when: str) -> None:
    if found != wanted:
        raise ContractBroken(f"Found {found!r} {when}; expected {wanted!r}.")


def _refused(kind: type[Exception], act: Callable[[], object]) -> Exception:
    try:
        act()
    except kind as error:
        return error
    raise ContractBroken(f"Nothing was raised; expected {kind.__name__}.")


def main() -> None:
    """Run all checks on our own stores; ends with 1 where a promise is not kept."""
    from etl_project.storage import DuckDBStore, ParquetStore  # noqa: PLC0415  # The suite itself needs neither.

    versions = ", ".join(f"{name} {version(name)}" for name in ("dagster", "duckdb", "pandas", "pyarrow"))
    broken = 0
    for name, make in (("duckdb", DuckDBStore), ("parquet", ParquetStore)):
        for check in CHECKS:
            with tempfile.TemporaryDirectory() as folder:
                place = Path(folder) / "place"
                try:
                    check(lambda make=make, place=place: make(place))  # type: ignore[misc]
                except Exception as error:  # noqa: BLE001  # All of them are told, whatever they are.
                    broken += 1
                    sys.stdout.write(f"{name}: {check.__name__}: {type(error).__name__}: {error}\n")
    sys.stdout.write(f"{2 * len(CHECKS) - broken} of {2 * len(CHECKS)} kept, with {versions}\n")
    sys.exit(1 if broken else 0)


if __name__ == "__main__":
    main()
