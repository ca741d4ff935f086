"""A damaged file of the lake is as good as none: nothing else stops, and its day is simply written again."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path

import pyarrow as pa
import pytest

from etl_project.storage.contract import Request, Scope, Table
from etl_project.storage.lake.store import ParquetStore

DAYS = [date(2024, 1, n) for n in (1, 2, 3)]
KEYS = [day.isoformat() for day in DAYS]
TABLE = Table("orders", "orders")
RANGE = Scope.days(DAYS[0], DAYS[-1])
BROKEN = KEYS[2]


def cut_short(content: bytes) -> bytes:
    return content[: len(content) // 2]


def footer_overwritten(content: bytes) -> bytes:
    return content[:-200] + b"\x00" * 192 + content[-8:]


def record_overwritten(content: bytes) -> bytes:
    return content.replace(b"input_hash", b"input_hush")


def emptied(_: bytes) -> bytes:
    return b""


def pages_overwritten(content: bytes) -> bytes:
    return content[:4] + b"\xff" * 60 + content[64:]


FOOTERS = [cut_short, footer_overwritten, record_overwritten, emptied]
Damage = Callable[[bytes], bytes]


@pytest.fixture(params=[False, True], ids=["bare", "cached"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ParquetStore:
    return ParquetStore(tmp_path / "lake", cache=tmp_path / "cache" if request.param else None)


def write(store: ParquetStore, scope: Scope, version: int = 1) -> None:
    days = [partition.lower for partition in scope.partitions]
    rows = pa.table({"batch_date": pa.array(days, pa.date32()), "n": [version] * len(days)})
    store.replace(TABLE, scope, rows, Request("a run", "code", dict.fromkeys(KEYS, "inputs")))


def damage(store: ParquetStore, how: Damage) -> None:
    path = store.root / "orders" / f"batch_date={BROKEN}" / "data.parquet"
    path.write_bytes(how(path.read_bytes()))


@pytest.mark.parametrize("how", FOOTERS)
def test_a_file_with_a_damaged_footer_has_no_record_and_the_others_keep_theirs(
    store: ParquetStore, how: Damage
) -> None:
    write(store, RANGE)
    damage(store, how)
    for _ in range(2):
        assert {key for _, key in store.last_commits()} == set(KEYS) - {BROKEN}
    assert store.arrow(store.read(TABLE, RANGE)).num_rows == 2
    fingerprints = {read.partition: read.fingerprint for read in store.read(TABLE, RANGE).reads}
    assert fingerprints[BROKEN] is None and fingerprints[KEYS[0]] is not None


@pytest.mark.parametrize("how", [*FOOTERS, pages_overwritten])
@pytest.mark.parametrize("scope", [Scope.days(DAYS[2], DAYS[2]), RANGE], ids=["day", "range"])
def test_a_damaged_file_is_replaced_by_writing_its_day_again(store: ParquetStore, how: Damage, scope: Scope) -> None:
    write(store, RANGE)
    clean = {key: commit.fingerprint for key, commit in store.last_commits().items()}
    damage(store, how)
    for _ in range(2):
        write(store, scope)
        assert {key: commit.fingerprint for key, commit in store.last_commits().items()} == clean
        assert store.arrow(store.read(TABLE, RANGE)).column("n").to_pylist() == [1, 1, 1]


def test_verify_still_hears_of_the_damage(store: ParquetStore) -> None:
    write(store, RANGE)
    damage(store, cut_short)
    with pytest.raises((pa.ArrowException, OSError)):
        store.history("orders", BROKEN)


def test_a_file_that_may_not_be_read_is_not_taken_for_a_damaged_one(
    store: ParquetStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(_: object) -> None:
        raise PermissionError(13, "Permission denied")

    write(store, RANGE)
    monkeypatch.setattr("etl_project.storage.lake.footer.pq.read_metadata", denied)
    with pytest.raises(PermissionError):
        store.last_commits()
