"""Fingerprints are numbers that outlive versions: the same content gives the same one, for ever."""

from __future__ import annotations

from contextlib import closing

import duckdb
import pytest

from etl_project.storage.fingerprint import Typed, render, row_hash

GOLDEN = {
    "1::TINYINT": "1:1:d1492c091bc0d923",
    "-1::BIGINT": "1:1:cbd8524acd6ddc4f",
    "170141183460469231731687303715884105727::HUGEINT": "1:1:63fff58594c94910",
    "1.5::FLOAT": "1:1:f63a26344829fbb9",
    "'nan'::DOUBLE": "1:1:3371f20cec5925b",
    "1.50::DECIMAL(9,2)": "1:1:5bf1d31b07254190",
    "'12345678901234567890123456789.123456789'::DECIMAL(38,9)": "1:1:ab2e33de3235133d",
    "DATE '2024-03-05'": "1:1:302028c3d63a432",
    "TIMESTAMP '2024-03-05 01:02:03.000004'": "1:1:88a9ca4985145c85",
    "TIMESTAMPTZ '2024-03-05 01:02:03+00'": "1:1:70d9892aaa670e4e",
    "'2024-03-05 01:02:03.000000004'::TIMESTAMP_NS": "1:1:49e8eca2a33fc601",
    "TIME '01:02:03'": "1:1:4a95d8ee0e536064",
    "'naïve 🙂'": "1:1:d3b9b9dc0e728c08",
    "'\\x00\\xFF'::BLOB": "1:1:8565a907163a2758",
    "true": "1:1:d1492c091bc0d923",
    "[1, NULL, 3]::INTEGER[]": "1:1:d7b2208de2ae7033",
    "{'a': 1::INTEGER, 'b': 'x'}": "1:1:f59db71aae2c022b",
    "NULL::INTEGER": "1:1:0",
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


def test_rows_that_come_twice_do_not_cancel_out() -> None:
    assert fingerprint_of("1", "1") != fingerprint_of("2", "2") != fingerprint_of("NULL", "NULL")
