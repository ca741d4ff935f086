"""A lake in a bucket when the network or the server fails: a day is old or new, and what is said is true."""

from __future__ import annotations

import os
import traceback
from collections.abc import Iterator
from datetime import date
from functools import partial
from pathlib import Path

import pyarrow as pa
import pytest

from etl_project.storage.contract import Request, Scope, StoreBusy, StoreUnavailable, Table, WriteRefused
from etl_project.storage.lake.store import ParquetStore
from etl_project_tests import s3, s3_proxy
from etl_project_tests.s3_proxy import Asked, Proxy, refused

pytestmark = s3.needed

DAYS = [date(2024, 3, n) for n in (4, 5, 6)]
ONE, RANGE = Scope.days(DAYS[0], DAYS[0]), Scope.days(DAYS[0], DAYS[-1])
ORDERS = Table("orders", "orders")


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    with s3_proxy.running(monkeypatch) as running:
        yield running


@pytest.fixture
def store(proxy: Proxy, tmp_path: Path) -> ParquetStore:
    """A lake with version 1 of a day in it."""
    store = s3.lake_of(tmp_path)
    write(store, 1)
    return store


def write(store: ParquetStore, version: int, scope: Scope = ONE) -> list[bool]:
    days = [partition.lower for partition in scope.partitions]
    rows = pa.table({"batch_date": pa.array(days, pa.date32()), "n": pa.array([version] * len(days), pa.int32())})
    return [commit.changed for commit in store.replace(ORDERS, scope, rows, Request(f"run {version}"))]


def there(store: ParquetStore) -> list[int]:
    return store.arrow(store.read(ORDERS, ONE))["n"].to_pylist()  # type: ignore[no-any-return]


def runs(store: ParquetStore) -> list[str]:
    return [commit.run_id for commit in store.history("orders", str(DAYS[0]))]


def is_put(asked: Asked) -> bool:
    return asked.is_put_of_a_day


def is_read(asked: Asked) -> bool:
    return asked.method == "GET" and asked.path.endswith("/data.parquet")


@pytest.mark.parametrize(
    "way",
    [s3_proxy.CUT_BEFORE, s3_proxy.CUT_AFTER, refused(500, "InternalError"), refused(503, "SlowDown")],
    ids=["cut before", "cut after", "500", "503"],
)
@pytest.mark.parametrize("version", [1, 2], ids=["new day", "replaced day"])
def test_a_put_that_fails_once_is_committed_once(proxy: Proxy, tmp_path: Path, way: s3_proxy.Way, version: int) -> None:
    """Where the first one was carried out, the second one is refused by its own condition; the footer says why."""
    store = s3.lake_of(tmp_path)
    for earlier in range(1, version):
        write(store, earlier)
    proxy.once(way, is_put)
    try:
        assert write(store, version) == [True]
    except StoreUnavailable as error:  # A PUT is not sent again blindly after every kind of cut.
        assert error.retryable and "2024-03-04" in str(error)
        write(store, version)
    assert there(store) == [version] and runs(store) == [f"run {n}" for n in range(1, version + 1)]
    assert write(store, version) == [False]


def test_an_answer_that_is_lost_is_settled_by_the_footer(proxy: Proxy, store: ParquetStore) -> None:
    proxy.always(s3_proxy.CUT_AFTER, is_put)
    assert write(store, 2) == [True]
    assert there(store) == [2] and runs(store) == ["run 1", "run 2"]


@pytest.mark.parametrize(
    ("way", "said"),
    [
        (s3_proxy.CUT_BEFORE, "connection was lost"),
        (refused(500, "InternalError"), "InternalError"),
        (refused(503, "SlowDown"), "SlowDown"),
        (refused(403, "RequestTimeTooSkewed"), "let it follow a time server"),
        (refused(403, "AccessDenied"), "s3:PutObject"),
        (refused(400, "ExpiredToken"), "AWS_SESSION_TOKEN"),
    ],
    ids=["cut", "500", "503", "clock", "rights", "token"],
)
def test_a_put_that_never_arrives_leaves_the_old_rows_and_says_what_to_do(
    proxy: Proxy, store: ParquetStore, way: s3_proxy.Way, said: str
) -> None:
    proxy.always(way, is_put)
    with pytest.raises(StoreUnavailable, match=said) as refusal:
        write(store, 2)
    assert "orders" in str(refusal.value) and "2024-03-04" in str(refusal.value) and "\n" not in str(refusal.value)
    assert "keeps its old rows" in str(refusal.value) and "etrying helps" in str(refusal.value)
    proxy.always(None)
    assert there(store) == [1] and runs(store) == ["run 1"]
    assert write(store, 2) == [True] and write(store, 2) == [False]


def test_an_outcome_that_nobody_can_tell_is_called_unknown_and_found_out_by_the_next_write(
    proxy: Proxy, store: ParquetStore
) -> None:
    is_out = []

    def plan(asked: Asked) -> s3_proxy.Way:
        if is_put(asked) and not is_out:
            is_out.append(True)
            return s3_proxy.CUT_AFTER
        return s3_proxy.CUT_BEFORE if is_out else None

    proxy.plan = plan
    with pytest.raises(StoreUnavailable, match="whether it was committed is not known"):
        write(store, 2)
    assert proxy.count(lambda asked: asked.method == "DELETE") == 0
    proxy.always(None)
    assert there(store) == [2]
    write(store, 2)
    assert there(store) == [2] and runs(store) == ["run 1", "run 2"]


def test_a_read_that_is_cut_gives_no_half_file(proxy: Proxy, tmp_path: Path, store: ParquetStore) -> None:
    elsewhere = ParquetStore(s3.url_of(tmp_path), cache=tmp_path / "other cache")
    proxy.always(s3_proxy.CUT_WITHIN, is_read)
    with pytest.raises(StoreUnavailable):
        there(elsewhere)
    proxy.always(None)
    assert there(elsewhere) == [1]


def test_of_two_writers_of_one_empty_day_one_wins_and_the_other_hears_of_the_day(tmp_path: Path) -> None:
    """Both look before one of them writes. The loser looks again: for as long as others write, it is told so."""
    store, other = s3.lake_of(tmp_path), ParquetStore(s3.url_of(tmp_path), 0.0, tmp_path / "other cache")
    faster = []

    def overtaken() -> None:
        faster.append(write(store, len(faster) + 10))

    rows = pa.table({"batch_date": pa.array([DAYS[0]], pa.date32()), "n": pa.array([2], pa.int32())})
    with pytest.raises(StoreBusy, match=r"orders.*2024-03-04.*retrying helps"):
        other.replace(ORDERS, ONE, rows, Request("the slow one", still_owner=overtaken))
    assert there(store) == [10] and runs(store) == ["run 10"]
    assert write(other, 2) == [True] and runs(store) == ["run 10", "run 2"], (
        "none is lost: the second replaced the first"
    )


def test_the_same_rows_are_not_put_again(proxy: Proxy, tmp_path: Path) -> None:
    store = s3.lake_of(tmp_path)
    assert write(store, 1, RANGE) == [True] * 3 and proxy.count(is_put) == 3
    for again in (store, ParquetStore(s3.url_of(tmp_path), cache=tmp_path / "other cache")):
        assert write(again, 1, RANGE) == [False] * 3
    assert proxy.count(is_put) == 3


def test_a_quiet_look_is_one_listing_and_no_footer(proxy: Proxy, tmp_path: Path) -> None:
    store = s3.lake_of(tmp_path)
    write(store, 1, RANGE)
    first = store.last_commits(["orders"])
    proxy.asked.clear()
    assert s3.lake_of(tmp_path).last_commits(["orders"]) == first and len(first) == 3
    assert [asked.is_listing for asked in proxy.asked] == [True]
    write(store, 2, ONE)
    proxy.asked.clear()
    changed = store.last_commits(["orders"])
    assert proxy.count(is_read) == 1 and len(changed) == 3 and changed != first
    assert changed == ParquetStore(s3.url_of(tmp_path), cache=tmp_path / "other cache").last_commits(["orders"])


def test_a_range_reads_only_its_own_days(proxy: Proxy, tmp_path: Path) -> None:
    write(s3.lake_of(tmp_path), 1, RANGE)
    elsewhere = ParquetStore(s3.url_of(tmp_path), cache=tmp_path / "other cache")
    proxy.asked.clear()
    assert elsewhere.arrow(elsewhere.read(ORDERS, ONE)).num_rows == 1
    [whole] = [asked.path for asked in proxy.asked if is_read(asked) and not asked.is_of_a_part]
    assert str(DAYS[0]) in whole


def test_a_server_that_ignores_conditions_is_not_written_to(proxy: Proxy, tmp_path: Path) -> None:
    proxy.always(s3_proxy.TAKEN_UNSEEN, lambda asked: asked.method == "PUT")
    for _ in range(2):
        with pytest.raises(WriteRefused, match=r"If-None-Match, If-Match.*both win"):
            write(s3.lake_of(tmp_path), 1)
    assert proxy.count(is_put) == 0


def test_an_unclear_404_is_not_taken_for_an_empty_day(proxy: Proxy, store: ParquetStore) -> None:
    """Some servers answer so to an access key that they do not know."""
    proxy.always(refused(404, "XAdminUserNotFound"), lambda asked: asked.method == "GET")
    with pytest.raises(StoreUnavailable, match="AWS_ACCESS_KEY_ID"):
        there(store)
    with pytest.raises(StoreUnavailable, match="AWS_ACCESS_KEY_ID"):
        write(store, 2)


def test_what_is_wrong_with_a_bucket_is_one_line_without_any_key(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    real = {name: os.environ[name] for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}
    cases = [
        ({"AWS_SECRET_ACCESS_KEY": "sec-ret-9"}, s3.url_of(tmp_path), "AWS_SECRET_ACCESS_KEY does not belong"),
        ({"AWS_ACCESS_KEY_ID": "who-are-you"}, s3.url_of(tmp_path), "does not know the access key"),
        ({}, "s3://there-is-no-such-bucket/lake", "There is no such bucket"),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}, s3.url_of(tmp_path), "does not answer"),
    ]
    for n, (environ, url, said) in enumerate(cases):
        with monkeypatch.context() as patch:
            for name, value in environ.items():
                patch.setenv(name, value)
            store = ParquetStore(url, cache=tmp_path / str(n))
            for ask in (partial(write, store, 1), store.last_commits, partial(there, store)):
                with pytest.raises(StoreUnavailable, match=said) as refusal:
                    ask()
                told = "".join(traceback.format_exception(refusal.value))
                assert "\n" not in str(refusal.value) and "etrying helps" in str(refusal.value)
                for secret in (*real.values(), "sec-ret-9", "who-are-you"):
                    assert secret not in told
