"""Fingerprints are numbers that outlive versions: the same content gives the same one, for ever."""

from __future__ import annotations

from contextlib import closing

import duckdb
import pytest

from etl_project.storage.judging.fingerprint import Typed, render, row_hash

GOLDEN = {
    "1::TINYINT": "2:1:4f25aaa60cc27826",
    "-1::BIGINT": "2:1:10c14971ee7d6761",
    "170141183460469231731687303715884105727::HUGEINT": "2:1:cc3237de8934aa",
    "1.5::FLOAT": "2:1:142ff1c8ecebee45",
    "'nan'::DOUBLE": "2:1:163dd02f4314c127",
    "1.50::DECIMAL(9,2)": "2:1:b42e25dee176038b",
    "'12345678901234567890123456789.123456789'::DECIMAL(38,9)": "2:1:9c2db9cf1ff6841e",
    "DATE '2024-03-05'": "2:1:b54c9dac17f96ee2",
    "TIMESTAMP '2024-03-05 01:02:03.000004'": "2:1:e5cb4afff72bd66c",
    "TIMESTAMPTZ '2024-03-05 01:02:03+00'": "2:1:ce32b865761ece39",
    "'2024-03-05 01:02:03.000000004'::TIMESTAMP_NS": "2:1:f492af556b82c4c8",
    "TIME '01:02:03'": "2:1:201c11ca965c20c1",
    "'naïve 🙂'": "2:1:d3de4edabcb03509",
    "'\\x00\\xFF'::BLOB": "2:1:be21698b318b88d7",
    "true": "2:1:4f25aaa60cc27826",
    "[1, NULL, 3]::INTEGER[]": "2:1:73295726556b2e52",
    "{'a': 1::INTEGER, 'b': 'x'}": "2:1:7eecc237d0698734",
    "NULL::INTEGER": "2:1:0",
}


def fingerprint_of(*values: str, name: str = "n") -> str:
    """The fingerprint of one column that holds these values, a row each."""
    with closing(duckdb.connect()) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        rows = " UNION ALL ".join(f"SELECT {value} AS n" for value in values)
        relation = connection.sql(f"SELECT * FROM ({rows})")
        hashed = row_hash([Typed(name, "n", relation.types[0])])
        found = connection.execute(f"SELECT count(*), sum(({hashed})::HUGEINT) FROM ({rows})").fetchall()
        return render(*found[0])


@pytest.mark.parametrize("value", GOLDEN)
def test_a_value_has_the_fingerprint_that_it_always_had(value: str) -> None:
    assert fingerprint_of(value) == GOLDEN[value]


@pytest.mark.parametrize(
    "alike",
    [
        ["-5::TINYINT", "-5::SMALLINT", "-5::INTEGER", "-5::BIGINT", "-5::HUGEINT"],
        ["7::UTINYINT", "7::USMALLINT", "7::UINTEGER", "7::UBIGINT", "7::UHUGEINT", "7::BIGINT"],
        ["18446744073709551615::UBIGINT", "18446744073709551615::HUGEINT", "18446744073709551615::UHUGEINT"],
        ["0.5::FLOAT", "0.5::DOUBLE"],
        ["-0.0::FLOAT", "-0.0::DOUBLE"],
        ["1.5::DECIMAL(2,1)", "1.5::DECIMAL(18,3)", "1.5::DECIMAL(38,20)", "1.5::DECIMAL(38,1)"],
        ["0::DECIMAL(1,0)", "0::DECIMAL(38,30)"],
        [
            "'99999999999999999999999.5'::DECIMAL(24,1)",
            "'99999999999999999999999.5'::DECIMAL(38,10)",
        ],
        ["'2024-03-05 01:00'::TIMESTAMP_S", "'2024-03-05 01:00'::TIMESTAMP_MS", "TIMESTAMP '2024-03-05 01:00'"],
        ["'a'::ENUM('a', 'b')", "'a'::VARCHAR"],
    ],
)
def test_a_lossless_widening_leaves_the_fingerprint_as_it_is(alike: list[str]) -> None:
    assert len({fingerprint_of(value) for value in alike}) == 1


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("0.0::DOUBLE", "-0.0::DOUBLE"),
        ("0.0::FLOAT", "-0.0::FLOAT"),
        ("0.3::DOUBLE", "(0.1::DOUBLE + 0.2::DOUBLE)"),
        ("'nan'::DOUBLE", "'inf'::DOUBLE"),
        ("'nan'::DOUBLE", "NULL::DOUBLE"),
    ],
)
def test_floats_count_by_their_bits(one: str, other: str) -> None:
    assert fingerprint_of(one) != fingerprint_of(other)


def test_different_content_has_different_fingerprints() -> None:
    different = [
        fingerprint_of("1"),
        fingerprint_of("2"),
        fingerprint_of("1", "1"),
        fingerprint_of("1", "NULL"),
        fingerprint_of("1", name="m"),
        fingerprint_of("'1'"),
        fingerprint_of("0.1::DOUBLE"),
        fingerprint_of("0.1::FLOAT"),
        fingerprint_of("'nan'::DOUBLE"),
    ]
    assert len(set(different)) == len(different)


def fingerprint_of_row(**values: str) -> str:
    """The fingerprint of one row with these columns."""
    with closing(duckdb.connect()) as connection:
        rows = f"SELECT {', '.join(f'{value} AS {name}' for name, value in values.items())}"
        relation = connection.sql(rows)
        hashed = row_hash([Typed(n, n, t) for n, t in zip(relation.columns, relation.types, strict=True)])
        return render(*connection.execute(f"SELECT count(*), sum(({hashed})::HUGEINT) FROM ({rows})").fetchall()[0])


def test_equal_values_in_two_columns_do_not_cancel_out() -> None:
    assert len({fingerprint_of_row(price=value, amount=value) for value in ("1", "2", "NULL")}) == 3


def test_values_that_swap_their_columns_leave_a_trace() -> None:
    assert fingerprint_of_row(price="1", amount="2") != fingerprint_of_row(price="2", amount="1")
    assert fingerprint_of_row(price="1", amount="2") == fingerprint_of_row(amount="2", price="1")


def test_rows_that_come_twice_do_not_cancel_out() -> None:
    assert fingerprint_of("1", "1") != fingerprint_of("2", "2") != fingerprint_of("NULL", "NULL")
