"""Tests in another order: all of them, file by file, and the same for the same seed."""

from __future__ import annotations

from itertools import groupby

from etl_project_tests.order import shuffled

TESTS = [(file, f"{file}{number}") for file in "abcdef" for number in range(9)]


def test_an_order_has_all_tests_file_by_file_and_its_seed_gives_it_again() -> None:
    orders = [shuffled(TESTS, str(seed)) for seed in range(5)]
    assert orders == [shuffled(TESTS, str(seed)) for seed in range(5)]
    assert all(sorted(order) == [test for _, test in TESTS] for order in orders)
    assert len({tuple(order) for order in orders}) == 5
    assert all(len([*groupby(order, key=lambda test: test[0])]) == 6 for order in orders), "a file is not torn apart"
    assert len({tuple(test for test in order if test[0] == "a") for order in orders}) > 1
