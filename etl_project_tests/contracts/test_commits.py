"""Promises 7 and 8: every commit is on record, with the content it left; unchanged content is not written again."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, timedelta

import pyarrow as pa
import pytest

from etl_project import utc
from etl_project.storage.contract import InputChanged, Receipt, Request, WriteRefused, input_hash
from etl_project.storage.judging import judgement
from etl_project_tests.contracts.conftest import DAY, NEXT, ORDERS, Bench, day, frame

KEY, NEXT_KEY = "2024-03-05", "2024-03-06"


def test_a_commit_says_who_wrote_what_from_what(once: Bench) -> None:
    started = utc.now()
    once.store().replace(ORDERS, day(DAY), frame((DAY, 1), (DAY, 2)), Request("run 1", "v7", {KEY: "the inputs"}))
    (commit,) = once.history(KEY)
    assert (commit.asset, commit.partition, commit.sequence) == ("orders", KEY, 1)
    assert (commit.run_id, commit.code_version, commit.input_hash) == ("run 1", "v7", "the inputs")
    assert (commit.rows_before, commit.rows, commit.changed) == (0, 2, True)
    assert commit.committed_at.tzinfo == UTC
    assert started - timedelta(seconds=1) < commit.committed_at < utc.now() + timedelta(seconds=1)


def test_what_replace_returns_is_what_is_on_record(once: Bench) -> None:
    commits = once.replace(frame((DAY, 1), (NEXT, 2)), day(DAY, NEXT))
    assert {commit.partition: commit for commit in commits} == {key: commit for (_, key), commit in once.last().items()}


def test_rows_added_removed_and_kept_are_told_by_content(once: Bench) -> None:
    once.replace(frame((DAY, 1), (DAY, 2), (DAY, 2), (DAY, 3)), day(DAY))
    (commit,) = once.replace(frame((DAY, 2), (DAY, 3), (DAY, 4), (DAY, 5)), day(DAY))
    assert (commit.rows_before, commit.rows) == (4, 4)
    assert (commit.rows_added, commit.rows_removed, commit.rows_kept) == (2, 2, 2)


def test_large_partitions_are_counted_but_not_compared(once: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judgement, "COMPARED_ROWS", 1)
    once.replace(frame((DAY, 1), (DAY, 2)), day(DAY))
    (commit,) = once.replace(frame((DAY, 2), (DAY, 3)), day(DAY))
    assert (commit.rows_before, commit.rows) == (2, 2)
    assert (commit.rows_added, commit.rows_removed, commit.rows_kept) == (None, None, None)


def test_the_history_of_a_day_is_kept_in_order(once: Bench) -> None:
    for n in range(3):
        once.replace(frame((DAY, n)), day(DAY))
    history = once.history(KEY)
    assert [commit.sequence for commit in history] == [1, 2, 3]
    assert len({commit.fingerprint for commit in history}) == 3


def test_the_order_of_rows_and_columns_leaves_no_trace_in_the_fingerprint(once: Bench) -> None:
    rows = frame((DAY, 1), (DAY, 2), city=["Rome", None])
    (first,) = once.replace(rows, day(DAY))
    (second,) = once.replace(rows.iloc[::-1][["city", "n", "batch_date"]], day(DAY))
    assert second.fingerprint == first.fingerprint and not second.changed


def test_a_column_added_later_leaves_no_trace_in_old_fingerprints(once: Bench) -> None:
    (first,) = once.replace(frame((DAY, 1)), day(DAY))
    once.replace(frame((NEXT, 1), city=["Rome"]), day(NEXT))
    (again,) = once.replace(frame((DAY, 1)), day(DAY))
    assert again.fingerprint == first.fingerprint and not again.changed


def test_a_lossless_widening_leaves_no_trace_in_old_fingerprints(once: Bench) -> None:
    columns = {"x": pa.array([1.5], pa.float32()), "d": pa.array([1], pa.decimal128(5, 2))}
    wider = {"x": pa.array([0.1], pa.float64()), "d": pa.array([10**9], pa.decimal128(20, 4))}
    (first,) = once.replace(frame((DAY, -1), **columns), day(DAY))
    big = pa.table({"batch_date": [NEXT], "n": pa.array([-(2**40)], pa.int64()), **wider})
    (commit,) = once.replace(big, day(NEXT))
    assert len(commit.schema_changes) == 3
    (again,) = once.replace(frame((DAY, -1), **columns), day(DAY))
    assert again.fingerprint == first.fingerprint and not again.changed


def test_null_and_nan_are_not_the_same_content(once: Bench) -> None:
    def data(value: float | None) -> pa.Table:
        return pa.table({"batch_date": [DAY], "x": pa.array([value], pa.float64())})

    (first,) = once.replace(data(None), day(DAY))
    (second,) = once.replace(data(float("nan")), day(DAY))
    assert second.fingerprint != first.fingerprint


def test_every_backend_gives_the_same_fingerprint(once: Bench) -> None:
    (commit,) = once.replace(frame((DAY, 1), (DAY, None), city=["Rome", "Pisa"]), day(DAY))
    assert commit.fingerprint == "2:2:52f08eabda96ce69"


def test_unchanged_content_is_on_record_as_unchanged(once: Bench) -> None:
    once.replace(frame((DAY, 1)), day(DAY))
    (commit,) = once.replace(frame((DAY, 1)), day(DAY), input_hashes={KEY: "others"})
    assert not commit.changed and (commit.rows_added, commit.rows_removed, commit.rows_kept) == (0, 0, 1)
    assert [c.input_hash for c in once.history(KEY)] == ["unknown", "others"]


def test_a_changed_day_of_a_range_is_told_from_the_unchanged_ones(once: Bench) -> None:
    once.replace(frame((DAY, 1), (NEXT, 2)), day(DAY, NEXT))
    commits = once.replace(frame((DAY, 1), (NEXT, 3)), day(DAY, NEXT))
    assert {commit.partition: commit.changed for commit in commits} == {KEY: False, NEXT_KEY: True}
    assert once.rows(day(DAY, NEXT)) == [(DAY, 1), (NEXT, 3)]


def test_a_partition_that_would_shrink_too_much_is_refused_unless_it_is_meant(bench: Bench) -> None:
    table = replace(ORDERS, max_removed_ratio=0.5)
    bench.replace(frame(*((DAY, n) for n in range(10))), day(DAY), table)
    with pytest.raises(WriteRefused, match="would shrink from 10 to 4 rows"):
        bench.replace(frame(*((DAY, n) for n in range(4))), day(DAY), table)
    assert len(bench.rows(day(DAY))) == 10
    bench.replace(frame(*((DAY, n) for n in range(5))), day(DAY), table)
    bench.replace(frame(), day(DAY), table, allow_shrink=True)
    assert bench.rows(day(DAY)) == []


def test_an_input_that_changed_after_it_was_read_refuses_the_write(bench: Bench) -> None:
    upstream = replace(ORDERS, asset="upstream", name="upstream")
    store = bench.store()
    (seen,) = store.replace(upstream, day(DAY), frame((DAY, 1)), Request("a run"))
    reads = [Receipt("upstream", KEY, seen.fingerprint, store)]
    bench.replace(frame((DAY, 1)), day(DAY), reads=reads)
    store.replace(upstream, day(DAY), frame((DAY, 2)), Request("another run"))
    with pytest.raises(InputChanged, match=r"upstream\[2024-03-05\]") as caught:
        bench.replace(frame((DAY, 2)), day(DAY), reads=reads)
    assert caught.value.retryable
    assert bench.rows(day(DAY)) == [(DAY, 1)]


def test_a_writer_that_lost_its_lock_does_not_commit(bench: Bench) -> None:
    class LostLock(Exception):
        pass

    def lost() -> None:
        raise LostLock

    bench.replace(frame((DAY, 1)), day(DAY))
    with pytest.raises(LostLock):
        bench.replace(frame((DAY, 2)), day(DAY), still_owner=lost)
    with pytest.raises(LostLock):
        bench.replace(frame((DAY, 1)), day(DAY), still_owner=lost)
    assert bench.rows(day(DAY)) == [(DAY, 1)]


def test_no_store_means_no_commits(once: Bench) -> None:
    assert once.store().last_commits() == {} and once.store().history("orders", KEY) == []
    assert [path.name for path in once.folder.iterdir() if path.name != ".database"] == []  # the name of a test's own


def test_last_commits_can_be_limited(once: Bench) -> None:
    other = replace(ORDERS, asset="other", name="other")
    once.replace(frame((DAY, 1), (NEXT, 2)), day(DAY, NEXT))
    once.replace(frame((DAY, 1)), day(DAY), other)
    store = once.store()
    assert set(store.last_commits(["orders"])) == {("orders", KEY), ("orders", NEXT_KEY)}
    assert set(store.last_commits(["orders", "none"], [NEXT_KEY])) == {("orders", NEXT_KEY)}
    assert set(store.last_commits(partitions=[KEY])) == {("orders", KEY), ("other", KEY)}


def test_the_input_hash_does_not_depend_on_the_order_of_reading() -> None:
    one, two = ("a", KEY, "1"), ("b", None, "2")
    assert input_hash([one, two]) == input_hash([two, one, one]) != input_hash([one])
    assert input_hash([one, ("b", None, None)]) == "unknown"
