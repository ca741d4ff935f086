"""The commits of an asset say which of them were not reproducible, and in what."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from etl_project.cli.status import show_commits
from etl_project.storage.contract import Commit, Deviation, Example

AT = datetime(2025, 3, 4, 6, tzinfo=UTC)


def commit(sequence: int, **changes: Any) -> Commit:
    return Commit(
        asset="orders",
        partition="2025-03-03",
        sequence=sequence,
        run_id=f"run-{sequence}",
        code_version="1",
        input_hash="a" * 64,
        fingerprint="b" * 64,
        rows_before=2,
        rows=2,
        rows_added=1,
        rows_removed=1,
        rows_kept=1,
        changed=True,
        committed_at=AT,
        **changes,
    )


def test_a_commit_that_was_not_reproducible_says_so_with_its_columns_and_examples(
    capsys: pytest.CaptureFixture[str],
) -> None:
    example = Example({"code": "A[1]", "rate": "1"}, {"code": "A[1]", "rate": "2"})
    show_commits([commit(2, deviation=Deviation("c" * 64, ("rate",), (example,))), commit(1)], as_json=False)
    [said] = [line for line in capsys.readouterr().out.splitlines() if "not reproducible" in line]
    assert said == (
        "2025-03-03, run run-2: not reproducible: columns that differ: rate; rate was 1, is 2 where code = A[1]"
    )
