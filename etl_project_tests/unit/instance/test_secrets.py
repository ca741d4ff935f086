"""What nobody may read is in no line, wherever a library quotes it."""

from __future__ import annotations

import pytest

from etl_project.instance.json_lines import masked, secrets


@pytest.mark.parametrize(
    ("name", "value", "password"),
    [
        ("ETL_WAREHOUSE", "postgresql://etl:hunter2x@db.example.com/etl", "hunter2x"),
        ("ETL_WAREHOUSE", "postgresql://etl:p%40ss%2Fword@db.example.com/etl", "p@ss/word"),
        ("ETL_WAREHOUSE", "postgresql://etl:with@sign@db.example.com/etl", "with@sign"),
        ("ETL_WAREHOUSE", "ducklake:postgres:dbname=x password='two words' host=y", "two words"),
        ("ETL_BROKER", "redis://:hunter2x@redis.example.com:6379/0", "hunter2x"),
        ("ETL_RESULTS", "db+postgresql+psycopg2://etl:hunter2x@db.example.com/etl", "hunter2x"),
        ("DATABASE_URL", "mysql://root:hunter2x@db/shop", "hunter2x"),
        ("CONNECTION", "Server=db;Password=hunter2x;Database=shop", "hunter2x"),
    ],
)
def test_a_password_is_masked_where_it_is_quoted_out_of_its_address(name: str, value: str, password: str) -> None:
    known = secrets({name: value})
    for told in (f"no access with {password!r}", f"cannot reach {value}"):
        assert password not in masked(told, known)


def test_what_is_no_secret_stays_readable() -> None:
    env = {"ETL_LAKE": "s3://bucket/prefix", "HOME": "/home/etl", "ETL_DATA_DIR": "data/password"}
    assert secrets(env) == []
