"""A day that is asked for again is one whose files are gone only where they are."""

from __future__ import annotations

from etl_project.sources.intake import archive, lost
from etl_project.storage import asked_again, input_hash
from etl_project_tests.unit.sources.world import DAY, SPEC

VERSIONS = [archive.Accepted(f"{DAY}.csv", number, f"{number}" * 64, f"{number}") for number in (1, 2)]
OF_THE_FIRST = input_hash([(f"{SPEC.name}_files", str(DAY), archive.fingerprint(archive.counting(VERSIONS[:1], SPEC)))])


def test_an_unpinned_day_is_built_from_the_archive_and_one_with_lost_files_is_not() -> None:
    assert lost.why(SPEC, VERSIONS, DAY, OF_THE_FIRST) is None
    assert lost.why(SPEC, VERSIONS, DAY, asked_again(OF_THE_FIRST)) is None
    assert lost.why(SPEC, VERSIONS, DAY, "unpinned") is None, "what an earlier version of this project wrote"
    assert "gone from the archive" in (lost.why(SPEC, VERSIONS, DAY, asked_again("of another file")) or "")
    assert "gone from the archive" in (lost.why(SPEC, VERSIONS, DAY, "of another file") or "")
