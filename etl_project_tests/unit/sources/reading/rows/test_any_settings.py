"""Whatever settings a source has, together, and whatever a file holds: rows in = stored + rejected + skipped, or the
whole file is in quarantine; no traceback; what was there before stays."""

from __future__ import annotations

import tempfile
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from etl_project.sources.day_reader import DayReader
from etl_project.sources.intake import admit, archive, scan
from etl_project.sources.intake.archive import Accepted
from etl_project.sources.intake.outcome import Received
from etl_project.sources.reading import compression, judge, small_files
from etl_project.sources.reading.file_format import SourceFile
from etl_project.sources.reading.rows.row_settings import Computed, RowSettings
from etl_project.sources.reading.values.value_settings import ValueSettings
from etl_project.sources.spec import FilesPerDay, SourceSpec
from etl_project_tests.unit.sources.world import DAY, HEADER, NOW, World, lines, spec

GOOD = lines("1,1,2024-03-05 10:00,2", "2,2,2024-03-05 11:00,3")

_OF_NUMBERS = {
    "null_values": st.sampled_from([("N/A", "-"), ("",), ("NULL",)]),
    "trim": st.just(True),
    "decimal_separator": st.just(","),
    "thousands_separator": st.sampled_from(["'", " "]),
    "prefixes": st.just(("$", "EUR")),
    "suffixes": st.just(("kg",)),
    "percent": st.sampled_from(["fraction", "number"]),
    "negatives": st.just(("parentheses", "trailing_minus", "unicode_minus")),
    "exponents": st.just(True),
}
_OF_TIMES = {
    "timestamp_format": st.sampled_from(
        [("iso", "%d.%m.%Y %H:%M"), ("%d/%m/%Y %H:%M", "%m/%d/%Y %H:%M"), ("epoch_seconds", "iso"), ("%y%m%d",)]
    ),
    "hour_24": st.just(True),
    "repeated_hour": st.sampled_from(["first", "last", "reject", "in_file_order"]),
}
_value_settings = st.fixed_dictionaries({}, optional={**_OF_NUMBERS, **_OF_TIMES}).map(
    lambda given: ValueSettings(**given)
)

_COMPUTED = (
    Computed("number", "INTEGER", False, "note::integer"),
    Computed("day", "DATE", True, "(sold_at at time zone 'UTC')::date"),
    Computed("place", "BIGINT", True, "row_number() over ()", of_one_row=False),
)

_row_settings = st.fixed_dictionaries(
    {"keys": st.just((("batch_date", "id"), ("sold_at",)))},
    optional={
        "computed": st.sampled_from([_COMPUTED, _COMPUTED[1:]]),
        "checks": st.sampled_from([("(amount < 9)",), ("(note != 'x')", "(1 / (id - 3) < 9)")]),
        "skip_rows_where": st.sampled_from(["note = 'Total'", "raw_text like '%Total%'", "id is null", "id::int > 1"]),
        "footer_lines": st.integers(0, 3),
        "on_duplicate_key": st.sampled_from(["reject", "first", "last"]),
    },
).flatmap(
    lambda given: st.sampled_from(
        [{}, {"rows": "regexp_extract(raw_text, '[0-9]+')"}, {"sum(amount)": "amount"}]
        if given.get("footer_lines") or given.get("skip_rows_where")
        else [{}]
    ).map(lambda expect: RowSettings(**given, expect=expect))
)

_sources = st.builds(
    lambda values, own, rows, more: spec(
        **{**more, "values": values, "column_values": {"amount": replace(values, **own)} if own else {}, "rows": rows}
    ),
    _value_settings,
    st.fixed_dictionaries({}, optional=_OF_NUMBERS),
    _row_settings,
    st.fixed_dictionaries(
        {"max_rejected_ratio": st.sampled_from([0.5, 1.0])},
        optional={
            "other_encodings": st.just(("cp1252",)),
            "encoding": st.sampled_from(["utf-8", "cp1252", "utf-16"]),
            "valid_utf8": st.sampled_from(["refuse", "as_utf8", "as_declared"]),
        },
    ),
)

_text = st.sampled_from(
    [
        "1",
        "2",
        "3",
        "",
        " 2 ",
        "-",
        "N/A",
        "$1",
        "1,5",
        "1'234.5",
        "(2)",
        "2-",
        "50%",
        "1e1",
        "x",
        "Total",
        "é",
        "\u2212 1",
    ]
)
_time = st.sampled_from(
    [
        "2024-03-05 10:00",
        "05.03.2024 10:00",
        "03/04/2024 10:00",
        "1709632800",
        "2024-03-05 24:00",
        "2024-10-27 01:30",
        "",
    ]
)
_fields = st.tuples(_text, _text, _time | st.just(""), _text)
_record = _fields.map(lambda fields: ",".join(f'"{one}"' if "," in one else one for one in fields)) | st.sampled_from(
    ["Total,3,,Total", "EOF 2", "", '1,1,,"open', '2,2,,"two\nlines"', "1,2,3,4,5", "\r", "\u00fc"]
)
_good = st.builds("{},1,2024-03-05 1{}:00,{}".format, st.integers(1, 4), st.integers(0, 3), st.integers(1, 3))
_files = st.tuples(
    st.lists(_good | _record, max_size=8) | st.lists(_good, max_size=8),
    st.sampled_from(["utf-8", "cp1252", "utf-16"]),
    st.booleans(),
).map(lambda given: (HEADER.decode() + "\n".join(given[0]) + ("\n" if given[2] else "")).encode(given[1], "replace"))


MANY = settings.get_current_profile_name() == "drawn"
"""The night tries more of them than the day."""


@pytest.mark.long
@settings(max_examples=80 if MANY else 20, suppress_health_check=[HealthCheck.too_slow])
@given(_sources, st.lists(_files, min_size=1, max_size=3), st.sampled_from([11, 64, compression.PIECE_BYTES]))
def test_any_settings_account_for_every_record_and_leave_old_rows_alone(
    source: SourceSpec, contents: list[bytes], block: int
) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        world = World(Path(folder), spec())
        world.drop("old-2024-03-05.csv", GOOD)
        world.receive()
        old = world.accepted()
        assert list(old) == ["old-2024-03-05.csv"]
        world.spec = source
        patch.setattr(compression, "PIECE_BYTES", block)
        for number, content in enumerate(contents):
            world.drop(f"new{number}-2024-03-05.csv", content)
        outcomes = world.outcomes()
        assert set(outcomes.values()) <= {"accepted", "refused", "duplicate"}
        assert {name: world.accepted()[name] for name in old} == old
        for number, content in enumerate(contents):
            name = f"new{number}-2024-03-05.csv"
            if outcomes[name] == "accepted":
                accounted_for(Path(folder), source, name, content)
            else:
                assert name in [entry.name for entry in world.quarantined()]
        names = (f"new{number}-2024-03-05.csv" for number in range(len(contents)))
        taken = [content for content, name in zip(contents, names, strict=True) if outcomes[name] == "accepted"]
        the_day_is_read_the_same_twice(Path(folder), source, taken)


def accounted_for(folder: Path, source: SourceSpec, name: str, content: bytes) -> None:
    """Each record of an accepted file is a row, a reject or skipped; counting it without typing gives the same."""
    path = folder / "content"
    path.write_bytes(content)
    batches = list(judge.read(path, source, name, DAY))
    starts = [line for batch in batches for table in batch for line in table["source_line"].to_pylist()]
    assert len(set(starts)) == len(starts)
    skipped = sum(batch.skipped.num_rows for batch in batches)
    assert judge.count_rows(source, Accepted(name, 1, "", str(path))) == (len(starts), skipped)
    if source.rows.skip_rows_where is None:
        assert skipped == min(source.rows.footer_lines, len(starts))
    if source.rows.on_duplicate_key:
        rows = [row for batch in batches for row in batch.rows.to_pylist()]
        for key in ("id", "sold_at"):
            values = [row[key] for row in rows if row[key] is not None]
            assert len(set(values)) == len(values)


def the_day_is_read_the_same_twice(folder: Path, source: SourceSpec, contents: list[bytes]) -> None:
    """Together the accepted files hold what each of them holds, but for keys that two of them share."""
    files = []
    for number, content in enumerate(contents):
        path = folder / f"{number}.csv"
        path.write_bytes(content)
        files.append(SourceFile(path, path.name, DAY, accepted=True))

    def read() -> list[Any]:
        judged = list(small_files.read(files, source, DAY))
        return [[row for one in judged for row in one.batch[part].to_pylist()] for part in range(3)]

    first = read()
    assert read() == first
    assert sum(map(len, first)) == sum(
        judge.count_rows(source, Accepted(f.name, 1, "", str(f.path))).records for f in files
    )
    if source.rows.on_duplicate_key:
        keys = [row["id"] for row in first[0]]
        assert len(set(keys)) == len(keys)


@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(_sources, st.lists(_files, min_size=1, max_size=3), st.sampled_from(["many", "every"]))
def test_any_settings_account_for_every_record_of_files_of_many_days(
    source: SourceSpec, contents: list[bytes], files_per_day: FilesPerDay
) -> None:
    source = replace(source, day_from="sold_at", files_per_day=files_per_day)
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder), spec(day_from="sold_at", files_per_day=files_per_day))
        world.drop("old-2024-03-05.csv", GOOD)
        assert [one.outcome for one in taken_in(world)] == ["accepted"]
        world.spec = source
        for number, content in enumerate(contents):
            world.drop(f"new{number}-2024-03-05.csv", content)
        outcomes = {one.name: one.outcome for one in taken_in(world)}
        assert set(outcomes.values()) <= {"accepted", "refused", "duplicate"}
        assert {entry.name for entry in world.quarantined()} == {
            name for name, one in outcomes.items() if one != "accepted"
        }
        accepted = {version.path.resolve(): version for version in versions(world) if "old" not in version.name}
        held = sum(judge.count_rows(source, version).records for version in accepted.values())
        world.spec = replace(source, max_rejected_ratio=1.0)
        assert read_by_day(world, accepted) == held


def taken_in(world: World) -> list[Received]:
    found = scan.scan(world.folder, world.spec, NOW).many_days
    return list(admit.receive_all_of_many_days(found, world.spec, *world.roots))


def versions(world: World) -> list[Accepted]:
    return [version for each in archive.accepted_days(world.archive, world.spec).values() for version in each]


def read_by_day(world: World, accepted: Collection[Path]) -> int:
    """The records of these files that all days together hold, each once."""
    days = {
        day: [version for version in each if version.path.resolve() in accepted]
        for day, each in archive.accepted_days(world.archive, world.spec).items()
    }
    with DayReader(world.spec, days, world.root) as reader:
        return sum(table.num_rows for day in days for batch in reader.day(day) for table in batch)
