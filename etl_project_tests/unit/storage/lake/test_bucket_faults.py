"""A lake in a bucket when the network or the server fails: a day is old or new, and what is said is true."""

from __future__ import annotations

import os
import traceback
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import date
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from etl_project import settings
from etl_project.due import first_day
from etl_project.storage.contract import Commit, Request, Scope, StoreBusy, StoreUnavailable, Table, WriteRefused
from etl_project.storage.lake import trial
from etl_project.storage.lake.copies import Copies, Copy
from etl_project.storage.lake.store import ParquetStore
from etl_project.utc import now
from etl_project_tests import s3, s3_proxy
from etl_project_tests.s3_proxy import Asked, Proxy, refused

pytestmark = s3.needed

DAYS = [date(2024, 3, n) for n in (4, 5, 6)]
ONE, RANGE = Scope.days(DAYS[0], DAYS[0]), Scope.days(DAYS[0], DAYS[-1])
ORDERS = Table("orders", "orders")


class EveryDay:
    """The partitions of the asset, all of them asked for."""

    partitioned = True

    def scope(self, keys: Iterable[str | None]) -> Scope:
        raise AssertionError(f"nobody needs the bounds of {list(keys)}")

    def holds(self, key: str | None) -> bool:
        return True

    def owns(self, key: str | None) -> bool:
        return key is not None


EVERY_DAY = EveryDay()


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


def write(store: ParquetStore, version: int, scope: Scope = ONE, table: Table = ORDERS) -> list[bool]:
    days = [partition.lower for partition in scope.partitions]
    rows = pa.table({"batch_date": pa.array(days, pa.date32()), "n": pa.array([version] * len(days), pa.int32())})
    return [commit.changed for commit in store.replace(table, scope, rows, Request(f"run {version}"))]


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
    assert proxy.count(lambda asked: asked.method in {"DELETE", "POST"}) == 0
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


def test_a_quiet_look_at_many_assets_lists_only_those_that_have_objects(proxy: Proxy, tmp_path: Path) -> None:
    store = s3.lake_of(tmp_path)
    names = ["a % of \u00e4ll/orders", "orders"]
    for name in names:
        write(store, 1, table=Table(name, "orders"))
    first = store.last_commits(names)
    proxy.asked.clear()
    looked = s3.lake_of(tmp_path).last_commits([f"table_{n}" for n in range(50)] + names)
    assert looked == first and {asset for asset, _ in looked} == set(names)
    assert len(proxy.asked) == 1 + len(names) and all(asked.is_listing for asked in proxy.asked)


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
    proxy.always(refused(404, "XAdminUserNotFound"), is_read)
    with pytest.raises(StoreUnavailable, match="AWS_ACCESS_KEY_ID"):
        there(store)
    with pytest.raises(StoreUnavailable, match="AWS_ACCESS_KEY_ID"):
        write(store, 2)


@pytest.mark.parametrize("content", [b"", b"PAR1 no footer at all PAR1"], ids=["empty", "overwritten"])
def test_a_damaged_object_is_due_is_found_by_verify_and_is_replaced(tmp_path: Path, content: bytes) -> None:
    store, objects = s3.lake_of(tmp_path), s3.objects_of(tmp_path)
    write(store, 1, RANGE)
    [broken] = [one for one in objects.below("orders") if str(DAYS[0]) in one.key]
    objects.put(broken.key, content, broken.etag)
    for again in (store, ParquetStore(s3.url_of(tmp_path), cache=tmp_path / "other cache")):
        assert {key for _, key in again.last_commits()} == {str(day) for day in DAYS[1:]}
        assert again.arrow(again.read(ORDERS, RANGE)).num_rows == 2
        [finding] = again.examine(ORDERS, EVERY_DAY).findings
        assert (finding.kind, finding.partition) == ("corrupt", str(DAYS[0])) and finding.where.startswith("s3://")
    for _ in range(2):
        write(store, 1, ONE)
        assert store.arrow(store.read(ORDERS, RANGE))["n"].to_pylist() == [1, 1, 1]


def test_an_object_that_was_edited_behind_our_back_is_found_by_verify(tmp_path: Path) -> None:
    """Its bytes are fetched anew: a copy that is here already would hide it."""
    store, objects = s3.lake_of(tmp_path), s3.objects_of(tmp_path)
    write(store, 1, ONE)
    there(store)
    [one] = objects.below("orders")
    path = tmp_path / "edited.parquet"
    objects.get(one.key, path)
    kept = pq.read_metadata(path).metadata
    rows = pq.read_table(path, partitioning=None)
    edited = rows.set_column(1, "n", pa.array([9], pa.int32())).replace_schema_metadata(kept)
    pq.write_table(edited, path)
    objects.overwrite(one.key, path)
    assert [finding.kind for finding in store.examine(ORDERS, EVERY_DAY).findings] == ["corrupt"]


def test_a_day_that_one_put_cannot_take_is_refused_before_it_is_sent(
    proxy: Proxy, store: ParquetStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("etl_project.storage.lake.objects.MOST_BYTES", 100)
    sent = proxy.count(is_put)
    for _ in range(2):
        with pytest.raises(WriteRefused, match=r"orders/batch_date=2024-03-04.*one PUT takes 100.*does not help"):
            write(store, 2)
    assert there(store) == [1] and proxy.count(is_put) == sent


def test_a_copy_that_goes_while_it_is_asked_for_is_fetched_and_no_empty_day(
    store: ParquetStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, gone = Copies._there, []

    def goes(self: Copies, key: str, etag: str) -> Copy | None:
        if not gone:
            gone.append(self._path(key, etag).unlink())
        return real(self, key, etag)

    monkeypatch.setattr(Copies, "_there", goes)
    assert there(store) == [1] and gone


def test_copies_that_nobody_used_for_long_are_let_go_of(store: ParquetStore, monkeypatch: pytest.MonkeyPatch) -> None:
    write(store, 1, RANGE)
    folder = store._lake.beside / "copies"
    old, young = sorted(folder.glob("*/*.parquet"))[:2]
    monkeypatch.setattr("etl_project.storage.lake.copies.KEPT_BYTES", 0)
    os.utime(old, (0, 0))
    store._lake.prepare()
    assert old.exists(), "it is looked after now and then, not at every write"
    os.utime(folder / "tidied", (0, 0))
    store._lake.prepare()
    assert not old.exists() and young.exists()
    assert store.arrow(store.read(ORDERS, RANGE)).num_rows == 3


def test_who_only_reads_lets_go_of_copies_too(
    store: ParquetStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(store, 1, RANGE)
    reader = ParquetStore(s3.url_of(tmp_path), cache=tmp_path / "reader")
    there(reader)
    [old] = (reader._lake.beside / "copies").glob("*/*.parquet")
    monkeypatch.setattr("etl_project.storage.lake.copies.KEPT_BYTES", 0)
    os.utime(old, (0, 0))
    os.utime(reader._lake.beside / "copies" / "tidied", (0, 0))
    reader.read(ORDERS, Scope.days(DAYS[1], DAYS[1]))
    assert not old.exists() and there(reader) == [1]


def test_a_copy_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a power cut leaves a short file under the ETag of the whole one: a day without rows, for good."""
    synced, real = set(), os.fsync

    def fsync(descriptor: int) -> None:
        real(descriptor)
        synced.add(os.fstat(descriptor).st_ino)

    monkeypatch.setattr(os, "fsync", fsync)
    writer, reader = s3.lake_of(tmp_path), ParquetStore(s3.url_of(tmp_path), cache=tmp_path / "reader")
    write(writer, 1)
    list(reader.schemas("orders"))
    assert there(reader) == [1]
    copies = [file for one in (writer, reader) for file in (one._lake.beside / "copies").glob("*/*")]
    assert {file.suffix for file in copies} == {".footer", ".parquet"}
    assert {file.stat().st_ino for file in copies} <= synced


def test_an_object_that_goes_between_two_questions_is_not_remembered_as_damaged(tmp_path: Path) -> None:
    store = s3.lake_of(tmp_path)
    write(store, 1)
    objects = s3.objects_of(tmp_path)
    [one] = objects.below("orders")
    away = tmp_path / "away"
    objects.get(one.key, away)
    objects.remove([one.key])
    copies = Copies(tmp_path / "copies", objects)
    assert not copies.footer(one).exists()
    assert objects.put(one.key, away, None) == one.etag
    assert pq.read_schema(copies.footer(one)).names == ["batch_date", "n"]


def test_a_version_that_a_faster_writer_has_kept_meanwhile_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The slow one lets go of old versions after it has been replaced itself."""
    kept = replace(ORDERS, keep_versions=1)
    store, other = s3.lake_of(tmp_path), ParquetStore(s3.url_of(tmp_path), cache=tmp_path / "other")
    write(store, 1, table=kept)
    real = store._lake.versions.forget

    def late(table: Table, commit: Commit) -> None:
        write(other, 3, table=kept)
        real(table, commit)

    monkeypatch.setattr(store._lake.versions, "forget", late)
    write(store, 2, table=kept)
    assert [one.commit and one.commit.run_id for one in other.versions(kept, str(DAYS[0]))] == ["run 2"]


def test_columns_are_those_of_the_newest_of_objects_that_were_written_within_one_second(tmp_path: Path) -> None:
    """The times of objects are exact to a second: which one is newer is said by the commit records."""
    store = s3.lake_of(tmp_path)
    for number, day in enumerate((DAYS[2], DAYS[0], DAYS[1])):
        rows = pa.table({"batch_date": pa.array([day], pa.date32())} | {f"c{n}": [n] for n in range(number + 1)})
        store.replace(ORDERS, Scope.days(day, day), rows, Request("a run"))
        for again in (store, ParquetStore(s3.url_of(tmp_path), cache=tmp_path / f"other cache {number}")):
            assert set(again.arrow(again.read(ORDERS, RANGE)).column_names) == set(rows.column_names)


def test_the_doctor_tries_the_bucket(proxy: Proxy, tmp_path: Path) -> None:
    assert trial.of(s3.url_of(tmp_path)) == ((), 0.0)
    assert [one.key for one in s3.objects_of(tmp_path).below(".etl")] == [".etl/conditional-put"]
    proxy.always(s3_proxy.TAKEN_UNSEEN, lambda asked: asked.method == "PUT" and asked.path.endswith("conditional-put"))
    assert trial.of(s3.url_of(tmp_path)).ignored == ("If-None-Match", "If-Match")


def test_the_first_days_of_a_bucket_are_found_without_reading_any_of_it(
    proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ETL_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("ETL_LAKE", s3.url_of(tmp_path))
    monkeypatch.delenv("ETL_START_DATE", raising=False)
    write(s3.lake_of(tmp_path), 1, RANGE)
    proxy.asked.clear()
    for way in (None, s3_proxy.CUT_BEFORE):
        proxy.always(way)
        assert first_day.of(settings.load(), [], now()) == DAYS[0], "as it was the last time that it answered"
    assert proxy.count(lambda asked: not asked.is_listing and "delimiter" not in asked.path) == 0


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


def test_a_commit_whose_old_version_cannot_be_removed_is_not_said_to_have_changed_nothing(
    proxy: Proxy, tmp_path: Path
) -> None:
    kept = replace(ORDERS, keep_versions=1)
    store = s3.lake_of(tmp_path)
    for version in (1, 2):
        write(store, version, table=kept)
    proxy.always(refused(403, "AccessDenied"), lambda asked: asked.method in {"DELETE", "POST"})
    with pytest.raises(StoreUnavailable, match=r"2024-03-04.*committed.*s3:DeleteObject") as refusal:
        write(store, 3, table=kept)
    assert "Nothing was changed" not in str(refusal.value) and refusal.value.retryable
    proxy.always(None)
    assert there(store) == [3] and write(store, 3, table=kept) == [False]
