"""What a drain leaves behind decides its exit code, and is printed."""

from __future__ import annotations

from datetime import date

import pytest

from etl_project.cli.drain import show_drained
from etl_project.due.check_verdicts import RedCheck
from etl_project.due.drain import Drained
from etl_project.due.pending import Due

DAY = date(2025, 3, 3)
ONE = Due(DAY, DAY, ("orders",), "state")
RED = RedCheck("orders", "plausible", "2025-03-03", "twice as much")


@pytest.mark.parametrize(
    ("done", "refused", "well", "said"),
    [
        (Drained(succeeded=[ONE]), 0, True, "1 runs, 0 failed"),
        (Drained(failed=[ONE]), 0, False, "1 failed"),
        (Drained(gave_up=[ONE]), 0, False, "failed for good 2025-03-03"),
        (Drained(red={RED.key: RED}), 0, False, "orders 2025-03-03: plausible failed: twice as much"),
        (Drained(busy="orders held by run 1"), 0, False, "held by another process orders held by run 1"),
        (Drained(unreadable={"shop": "no permission"}), 0, False, "not taken in no permission"),
        (Drained(passed_over=["a link"]), 0, False, "not taken in a link"),
        (Drained(held=["report waits"]), 0, True, "waits report waits"),
        (Drained(failed=[ONE] * 20, failures_in_a_row=20), 0, False, "stopped after 20 failures in a row"),
        (Drained(gone=["orders: its table is gone"]), 0, True, "table gone orders"),
        (Drained(), 1, False, "1 files refused"),
    ],
)
def test_all_is_well_only_where_nothing_is_left_to_look_at(
    capsys: pytest.CaptureFixture[str], done: Drained, refused: int, well: bool, said: str
) -> None:
    assert show_drained(done, refused) is well
    assert said in capsys.readouterr().out
