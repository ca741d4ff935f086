"""Tables that are in the target before a copy: what they lack is named, and no moment becomes another in silence."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from etl_project.storage.contract import Request, Scope, Sql, Table
from etl_project.storage.copying import copy_warehouse
from etl_project.storage.tables.store import TableStore
from etl_project_tests import postgres
from etl_project_tests.unit.storage.copying.test_copy_warehouse import ENGINES

ODD = Table("odd", "odd", partition_column=None)
OTHERS = ["file", pytest.param("server", marks=(postgres.needed, pytest.mark.stress))]
ALL_OTHERS = [*OTHERS, pytest.param("lake", marks=(postgres.needed, pytest.mark.stress))]


def written(store: TableStore, query: str) -> TableStore:
    store.replace(ODD, Scope.whole(), Sql(query), Request("a run"))
    return store


def run(store: TableStore, statements: str) -> None:
    with store.connect() as connection:
        connection.execute(statements)


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("TIMESTAMPTZ '2024-03-05 10:00:00+01'", "TIMESTAMP"),
        ("TIMESTAMP '2024-03-05 10:00:00'", "TIMESTAMP WITH TIME ZONE"),
        ("INTERVAL 1 DAY", "VARCHAR"),
    ],
)
@pytest.mark.parametrize("other", ALL_OTHERS)
def test_a_column_of_another_kind_is_refused_although_its_bits_are_the_same(
    other: str, value: str, kind: str, tmp_path: Path
) -> None:
    source = written(ENGINES["file"](tmp_path / "one"), f"SELECT {value} AS v, 1 AS n")
    target = ENGINES[other](tmp_path / "other")
    run(target, f"CREATE TABLE {target.engine.schema}.odd (v {kind}, n INTEGER)")
    for _ in range(2):
        assert f"column 'v' is {kind}, the data has" in copy_warehouse(source, target).refused["odd"]
    with target.look() as there:
        assert there is not None and there.execute(f"FROM {target.engine.schema}.odd").fetchall() == []


@pytest.mark.parametrize("other", OTHERS)
def test_what_the_source_has_got_since_is_named_by_every_later_copy_until_the_table_is_made_anew(
    other: str, tmp_path: Path
) -> None:
    source, target = ENGINES["file"](tmp_path / "one"), ENGINES[other](tmp_path / "other")
    written(source, "SELECT 1 AS id, 'a' AS note, 'b' AS more")
    assert copy_warehouse(source, target).done[0].left == ()
    run(
        source,
        """
        ALTER TABLE odd ALTER id SET NOT NULL;
        ALTER TABLE odd ALTER note SET DEFAULT 'none';
        ALTER TABLE odd ALTER id TYPE BIGINT;
        COMMENT ON TABLE odd IS 'all of it';
        COMMENT ON COLUMN odd.more IS 'the rest';
        CREATE INDEX odd_by_note ON odd (note);
        """,
    )
    expected = {
        "NOT NULL of column id",
        "the default 'none' of column note",
        "the type BIGINT of column id (it is INTEGER there)",
        "the comment of the table",
        "the comment of column more",
        "index odd_by_note",
    }
    for _ in range(2):
        [again] = copy_warehouse(source, target).done
        assert (set(again.left), again.copied) == (expected, False)
    run(target, f"DROP TABLE {target.engine.schema}.odd")
    [anew] = copy_warehouse(source, target).done
    assert (anew.left, anew.copied) == ((), True)
    assert copy_warehouse(source, target).done[0].left == ()


@pytest.mark.parametrize("other", OTHERS)
def test_keys_and_checks_that_a_table_made_by_hand_lacks_are_named(other: str, tmp_path: Path) -> None:
    source, target = ENGINES["file"](tmp_path / "one"), ENGINES[other](tmp_path / "other")
    run(source, "CREATE TABLE odd (id INTEGER PRIMARY KEY, price DECIMAL(10, 2) CHECK (price >= 0), UNIQUE (price))")
    written(source, "SELECT 1 AS id, 1.5::DECIMAL(10, 2) AS price")
    run(target, f"CREATE TABLE {target.engine.schema}.odd (id INTEGER, price DECIMAL(12, 2))")
    [done] = copy_warehouse(source, target).done
    named = " | ".join(done.left)
    for part in (
        "PRIMARY KEY (id)",
        "UNIQUE (price)",
        "the type DECIMAL(10,2) of column price",
        "NOT NULL of column id",
    ):
        assert part in named
    assert ("CHECK" in named or "1 checks" in named) and done.rows == 1


@pytest.mark.parametrize("other", ALL_OTHERS)
def test_a_column_that_a_sequence_fills_is_copied_and_named(other: str, tmp_path: Path) -> None:
    source, target = ENGINES["file"](tmp_path / "one"), ENGINES[other](tmp_path / "other")
    run(source, "CREATE SEQUENCE ids; CREATE TABLE odd (id BIGINT DEFAULT nextval('ids'), n INTEGER)")
    written(source, "SELECT 7::BIGINT AS id, 1 AS n")
    for copied in (True, False):
        [done] = copy_warehouse(source, target).done
        assert (done.left, done.copied) == (("what fills column id (nextval('ids'))",), copied)


@postgres.needed
def test_what_a_type_of_the_server_says_more_than_duckdb_sees_is_named_and_its_own_tables_are_not(
    tmp_path: Path,
) -> None:
    source, target = ENGINES["server"](tmp_path / "one"), ENGINES["file"](tmp_path / "other")
    plain = "a bool, b int2, c int4, d int8, e real, f float8, g date, h time, i timestamp, j timestamptz, k interval"
    special = "q varchar(20), r char(3), s numeric, t jsonb, u timestamp(3), v text[]"
    with psycopg.connect(postgres.plain_url_of(tmp_path / "one"), autocommit=True) as server:
        server.execute(
            f"CREATE TABLE odd ({plain}, l uuid, m bytea, n text, o varchar, p numeric(10, 2), {special}, w int4[])"
        )
    written(source, "SELECT true AS a, 'x' AS q")
    report = copy_warehouse(source, target)
    [done] = report.done
    assert done.left == (
        "the type character varying(20) of column q (VARCHAR is made of it)",
        "the type character(3) of column r (VARCHAR is made of it)",
        "the type numeric of column s (DOUBLE is made of it)",
        "the type jsonb of column t (VARCHAR is made of it)",
        "the type timestamp(3) without time zone of column u (TIMESTAMP is made of it)",
    )
    assert report.others == ()


def test_a_file_that_was_copied_lacks_nothing_whatever_its_types_are(tmp_path: Path) -> None:
    source, target = ENGINES["file"](tmp_path / "one"), ENGINES["file"](tmp_path / "other")
    query = (
        "SELECT 1::HUGEINT AS h, '101'::BIT AS b, 'a'::ENUM('a', 'b') AS e, INTERVAL 1 MONTH AS i, '[1]'::JSON AS j, "
        "MAP {'a': 1} AS m, [1, 2]::INTEGER[2] AS a, TIMESTAMP_NS '2024-01-01' AS ns, {'x': {'y': 1.5}} AS s"
    )
    run(source, f"CREATE TABLE odd AS {query} LIMIT 0")
    written(source, query)
    for copied in (True, False):
        [done] = copy_warehouse(source, target).done
        assert (done.left, done.copied) == ((), copied)
