"""How much of a day a rerun may change: refused with the numbers before anything is written, unless it is meant."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pyarrow as pa
import pytest

from etl_project.storage.contract import Table, WriteRefused
from etl_project.storage.judging import judgement
from etl_project_tests.contracts.conftest import DAY, NEXT, ORDERS, Bench, day, frame

CHANGED = replace(ORDERS, max_changed_ratio=0.5)
SUMS = replace(ORDERS, max_sum_change=(("Amount", 0.2),))


def amounts(*values: str | None) -> pa.Table:
    return pa.table(
        {
            "batch_date": pa.array([DAY] * len(values), pa.date32()),
            "amount": pa.array([None if v is None else Decimal(v) for v in values], pa.decimal128(12, 2)),
        }
    )


def refusal(once: Bench, data: object, table: Table) -> str:
    with pytest.raises(WriteRefused) as caught:
        once.replace(data, day(DAY), table)
    assert "etl drain --allow-change" in str(caught.value) and "etrying does not help" in str(caught.value)
    return str(caught.value)


def test_more_changed_rows_than_allowed_are_refused_with_the_numbers(once: Bench) -> None:
    once.replace(frame(*((DAY, n) for n in range(10))), day(DAY), CHANGED)
    for _ in range(2):
        said = refusal(once, frame(*((DAY, n + 6) for n in range(10))), CHANGED)
        assert "of 10 rows only 4 would stay as they are, 6 would go or be others, 6 would come" in said
    assert len(once.rows(day(DAY), CHANGED)) == 10 and once.rows(day(DAY), CHANGED)[0] == (DAY, 0)
    once.replace(frame(*((DAY, n + 5) for n in range(10))), day(DAY), CHANGED)
    once.replace(frame((DAY, 99)), day(DAY), CHANGED, allow_change=True)
    assert once.rows(day(DAY), CHANGED) == [(DAY, 99)]


def test_first_rows_and_more_rows_are_no_change_of_what_is_there(once: Bench) -> None:
    strict = replace(ORDERS, max_changed_ratio=0.0, max_sum_change=(("n", 10.0),))
    for count in (0, 3, 5):
        once.replace(frame(*((DAY, n + 1) for n in range(count))), day(DAY), strict)
    assert len(once.rows(day(DAY), strict)) == 5


def test_days_too_large_to_be_compared_are_compared_where_there_is_a_limit(
    once: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judgement, "COMPARED_ROWS", 3)
    once.replace(frame(*((DAY, n) for n in range(10))), day(DAY), CHANGED)
    assert "of 10 rows only 0 would stay" in refusal(once, frame(*((DAY, n + 50) for n in range(10))), CHANGED)


def test_a_stream_is_held_against_its_limits_too(once: Bench) -> None:
    once.replace(amounts("10", "20"), day(DAY), SUMS)
    stream = lambda: amounts("10", "200").to_reader()  # noqa: E731
    assert "sum(amount) would go from 30.00 to 210.00 (+600%), further than 20%" in refusal(once, stream, SUMS)


@pytest.mark.parametrize(
    ("before", "after", "refused"),
    [
        (("100", "0"), ("120",), None),
        (("100", "0"), ("120.01",), "from 100.00 to 120.01 (+20%)"),
        (("100",), ("79.99", "0"), "from 100.00 to 79.99 (-20%)"),
        (("-100",), ("-130",), "from -100.00 to -130.00 (-30%)"),
        (("5", "-5"), ("0.01",), "from 0.00 to 0.01, further"),
        (("100",), (), "from 100.00 to 0 (-100%)"),
        ((None, None), ("1000",), None),
        ((), ("1000",), None),
    ],
)
def test_a_sum_that_moves_too_far_is_refused(
    once: Bench, before: tuple[str | None, ...], after: tuple[str | None, ...], refused: str | None
) -> None:
    once.replace(amounts(*before), day(DAY), SUMS)
    if refused is None:
        once.replace(amounts(*after), day(DAY), SUMS)
    else:
        assert refused in refusal(once, amounts(*after), SUMS)
        once.replace(amounts(*after), day(DAY), SUMS, allow_change=True)


@pytest.mark.parametrize(("column", "said"), [("n_o", "there is no such column"), ("batch_date", "it is DATE")])
def test_a_column_without_a_sum_is_refused_by_its_name(once: Bench, column: str, said: str) -> None:
    table = replace(ORDERS, max_sum_change=((column, 0.2),))
    once.replace(frame((DAY, 1)), day(DAY), ORDERS)
    with pytest.raises(WriteRefused, match=rf"max_sum_change names '{column}'.*{said}"):
        once.replace(frame((DAY, 2)), day(DAY), table)


def test_of_a_range_only_the_day_that_moves_too_far_is_refused(once: Bench) -> None:
    table = replace(ORDERS, max_sum_change=(("n", 0.2),))
    once.replace(frame((DAY, 10), (NEXT, 10)), day(DAY, NEXT), table)
    with pytest.raises(Exception, match=r"1 partitions are committed, 1 are at fault") as partly:
        once.replace(frame((DAY, 11), (NEXT, 20)), day(DAY, NEXT), table)
    assert "sum(n) would go from 10 to 20 (+100%)" in str(partly.value)
    assert once.rows(day(DAY, NEXT), table) == [(DAY, 11), (NEXT, 10)]
