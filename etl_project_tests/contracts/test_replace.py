"""Promises 1 to 4: a partition is replaced as a whole, by name, by exactly the rows that belong to it."""

from __future__ import annotations

from datetime import date

import pandas as pd
import pyarrow as pa
import pytest

from etl_project.storage.contract import ReadRefused, Scope, Table, WriteRefused
from etl_project_tests.contracts.conftest import DAY, NEXT, ORDERS, Bench, day, frame


def test_what_was_written_is_what_is_read(bench: Bench) -> None:
    bench.replace(frame((DAY, 1), (DAY, 2)), day(DAY))
    assert bench.rows(day(DAY)) == [(DAY, 1), (DAY, 2)]


def test_the_old_rows_go_when_the_new_ones_come(bench: Bench) -> None:
    bench.replace(frame((DAY, 1), (DAY, 2)), day(DAY))
    bench.replace(frame((DAY, 3)), day(DAY))
    assert bench.rows(day(DAY)) == [(DAY, 3)]


def test_other_days_keep_their_rows(bench: Bench) -> None:
    bench.replace(frame((DAY, 1)), day(DAY))
    bench.replace(frame((NEXT, 2)), day(NEXT))
    bench.replace(frame((DAY, 3)), day(DAY))
    assert bench.rows(day(DAY, NEXT)) == [(DAY, 3), (NEXT, 2)]


def test_rows_that_come_twice_stay_twice(bench: Bench) -> None:
    bench.replace(frame((DAY, 1), (DAY, 1)), day(DAY))
    assert bench.rows(day(DAY)) == [(DAY, 1), (DAY, 1)]


def test_columns_land_where_their_names_say(bench: Bench) -> None:
    wide = frame((DAY, 1), other=pa.array([10], pa.int32()))
    bench.replace(wide, day(DAY))
    bench.replace(frame((NEXT, 2), other=pa.array([20], pa.int32()))[["other", "n", "batch_date"]], day(NEXT))
    assert bench.rows(day(DAY, NEXT), columns=["batch_date", "n", "other"]) == [(DAY, 1, 10), (NEXT, 2, 20)]


def test_the_case_of_a_column_name_does_not_count(bench: Bench) -> None:
    bench.replace(frame((DAY, 1)), day(DAY))
    bench.replace(frame((DAY, 2)).rename(columns={"n": "N", "batch_date": "Batch_Date"}), day(DAY))
    assert bench.rows(day(DAY)) == [(DAY, 2)]


def test_no_rows_make_the_day_empty(bench: Bench) -> None:
    bench.replace(frame((DAY, 1), (NEXT, 2)), day(DAY, NEXT))
    bench.replace(frame(), day(DAY))
    assert bench.rows(day(DAY, NEXT)) == [(NEXT, 2)]


def test_the_first_write_may_be_empty_and_creates_the_table(bench: Bench) -> None:
    bench.replace(frame(), day(DAY))
    assert bench.rows(day(DAY)) == []
    bench.replace(frame((DAY, 1)), day(DAY))
    assert bench.rows(day(DAY)) == [(DAY, 1)]


def test_an_empty_pandas_frame_says_nothing_about_types(bench: Bench) -> None:
    bench.replace(pd.DataFrame({"batch_date": [], "n": []}), day(DAY))
    bench.replace(frame((DAY, 1)), day(DAY))
    bench.replace(pd.DataFrame({"batch_date": [], "n": []}), day(NEXT))
    assert bench.rows(day(DAY, NEXT)) == [(DAY, 1)]


def test_a_day_of_a_range_without_rows_becomes_empty(bench: Bench) -> None:
    bench.replace(frame((DAY, 1), (NEXT, 2)), day(DAY, NEXT))
    bench.replace(frame((DAY, 3)), day(DAY, NEXT))
    assert bench.rows(day(DAY, NEXT)) == [(DAY, 3)]


def refusal(bench: Bench, data: object, scope: Scope, table: Table = ORDERS) -> str:
    with pytest.raises(WriteRefused) as caught:
        bench.replace(data, scope, table)
    assert not caught.value.retryable
    assert "etrying does not help" in str(caught.value)
    return str(caught.value)


def test_a_null_partition_date_is_refused_and_the_old_rows_stay(bench: Bench) -> None:
    bench.replace(frame((DAY, 1)), day(DAY))
    message = refusal(bench, frame((DAY, 2), (None, 3)), day(DAY))
    assert "orders" in message and "2024-03-05" in message and "1 rows have NULL" in message
    assert bench.rows(day(DAY)) == [(DAY, 1)]


def test_rows_of_another_day_are_refused_with_their_number_days_and_examples(bench: Bench) -> None:
    bench.replace(frame((DAY, 1)), day(DAY))
    message = refusal(bench, frame((DAY, 2), *((NEXT, n) for n in range(7))), day(DAY))
    assert "7 rows lie outside" in message and "2024-03-06 (7)" in message and message.count("for example") == 3
    assert bench.rows(day(DAY)) == [(DAY, 1)]


def test_a_gap_in_the_scope_is_outside(bench: Bench) -> None:
    third = date(2024, 3, 7)
    scope = Scope((*day(DAY).partitions, *day(third).partitions))
    assert "2024-03-06 (1)" in refusal(bench, frame((DAY, 1), (NEXT, 2), (third, 3)), scope)


@pytest.mark.parametrize("thing", [5, "rows", None, [{"batch_date": DAY}], {"a": 1}])
def test_what_is_not_a_frame_is_refused(once: Bench, thing: object) -> None:
    assert type(thing).__name__ in refusal(once, thing, day(DAY))


def test_a_column_of_mixed_types_is_refused(once: Bench) -> None:
    data = pd.DataFrame({"batch_date": [DAY, DAY], "n": [1, "two"]})
    assert "'n' cannot be stored as it is: it has text and numbers" in refusal(once, data, day(DAY))


def test_a_frame_without_the_partition_column_is_refused(once: Bench) -> None:
    assert "'batch_date' is missing" in refusal(once, pd.DataFrame({"n": [1]}), day(DAY))


def test_reading_what_was_never_written_is_refused(once: Bench) -> None:
    store = once.store()
    with pytest.raises(ReadRefused, match="Materialize the asset first"):
        store.read(ORDERS, day(DAY))


def test_reading_an_unknown_column_is_refused_with_those_that_exist(once: Bench) -> None:
    once.replace(frame((DAY, 1)), day(DAY))
    with pytest.raises(ReadRefused, match=r"'m'.*'batch_date', 'n'"):
        once.store().read(ORDERS, day(DAY), ["m"])


def test_only_the_columns_asked_for_are_read(once: Bench) -> None:
    once.replace(frame((DAY, 1)), day(DAY))
    assert once.arrow(day(DAY), columns=["N"]).column_names == ["n"]


def test_a_day_that_was_never_written_reads_as_empty(once: Bench) -> None:
    once.replace(frame((DAY, 1)), day(DAY))
    assert once.rows(day(NEXT)) == []


@pytest.mark.parametrize("scope", [Scope(()), Scope.keys(["a", "a"]), Scope.keys([""])], ids=["none", "twice", "empty"])
def test_a_scope_that_no_table_can_have_is_refused(once: Bench, scope: Scope) -> None:
    with pytest.raises(WriteRefused, match="no set of partitions"):
        once.replace(frame((DAY, 1)), scope)
