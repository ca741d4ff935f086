"""Many days: deciding on a file that has no day in its name and rows of any number of days (`day_from`).

Belongs here: what such a file is to those that came before it, and judging it. Does not belong here: the order of the
steps around it (`admit`), where it lies afterwards (`spread`).

What a file holds of a day replaces what others had of it (`latest`), or adds to it (`many`: a file that comes again
under its name replaces itself; `every`: it does not). A day that no file of its name has held is none of its business;
one that an earlier file of its name has held, and it does not, it may empty (`left_out`).
"""

from __future__ import annotations

from collections.abc import Set
from datetime import date, timedelta
from pathlib import Path

from etl_project import utc
from etl_project.sources import names
from etl_project.sources.intake import archive, quarantine, spread
from etl_project.sources.intake.outcome import Judged, Received, judged, put_aside, reason_of
from etl_project.sources.intake.plausible import Others
from etl_project.sources.intake.private_copy import Copy, begins_with
from etl_project.sources.intake.scan import Entry
from etl_project.sources.reading import members
from etl_project.sources.reading.file_format import SourceFile
from etl_project.sources.reading.file_refused import FileRefused
from etl_project.sources.spec import SourceSpec

_AHEAD = timedelta(days=1)


def decide(
    copy: Copy,
    entry: Entry,
    spec: SourceSpec,
    archived: archive.Day,
    others: Others,
    archive_root: Path,
    quarantine_root: Path,
) -> Received:
    """Put the copy where it belongs: nowhere (the archive has it), under all days that it holds, or into quarantine."""
    name = entry.name
    own, twin = archived.current(name), archived.holding(copy.sha256)
    if own is not None and own.sha256 == copy.sha256:
        twin = own
    if twin is not None and (archive.sent_as(twin.name, spec) == name or spec.repeats_itself):
        quarantine.settle(quarantine_root, spec, None, archive.sent_as(twin.name, spec))
        return Received(name, None, "identical", sha256=copy.sha256)
    span = spec.start_date, utc.now().date() + _AHEAD
    kind: quarantine.Kind = "refused"
    try:
        found = judged(SourceFile(copy.path, name, span=span), spec)
        others.refuse_cut(copy, entry, found.ends_in_a_reject)
        _refuse_without_days(found, spec)
        if twin is not None and found.days:
            kind = "duplicate"
            raise FileRefused("duplicate", f"the same content as {names.shown(twin.name)}", "content that is new")
        emptied = left_out(found.days, *_gone(found.days, name, archived, archive_root, spec), spec)
    except FileRefused as refusal:
        reason = reason_of(copy, entry, spec, None, kind, refusal, archived.highest)
        return put_aside(quarantine_root, reason, entry, copy)
    days = tuple(sorted(found.days | emptied))
    kept_as = _kept_as(name, copy, own, archived, spec)
    spread.accept(
        archived,
        archive_root,
        spec,
        copy.path,
        copy.sha256,
        spread.Spread(kept_as, days, *span),
        members.encoding_record(SourceFile(copy.path, name, span=span), spec),
    )
    quarantine.settle(quarantine_root, spec, None, name)
    return Received(name, None, "accepted", found.rows, found.rejected, copy.sha256, days=days)


def left_out(days: Set[date], gone: Set[date], newest: Set[date], spec: SourceSpec) -> frozenset[date]:
    """The days that a file of these `days` takes the rows from which earlier files of its name gave them.

    It counts for them too, with no rows. `gone`: the days that are theirs and not its own; `newest`: all days of the
    newest of them. Where nothing is declared, a file is itself again, without what was taken out of it; but days before
    its first one keep their rows if it has newer ones, too: it is a window that has moved on. What the newest of them
    held no more was decided when that one came. Raises FileRefused where it may be one or the other.
    """
    if not gone or spec.days_left_out == "keep":
        return frozenset()
    if spec.days_left_out == "remove" or spec.names_one_export:
        return frozenset(gone)
    gone = frozenset(gone & newest)
    passed = frozenset(day for day in gone if not days or day < min(days))
    if passed and not (days and max(days) > max(newest)):
        first = min(passed)
        said = f"no row of {first}{f' and {len(passed) - 1} more days' if len(passed) > 1 else ''}"
        raise FileRefused(
            "days are gone",
            f"{said}, which an earlier file of this name held, and no newer day",
            "days_left_out: remove (the rows of such days go) or keep (they stay)",
        )
    return gone - passed


def _gone(
    days: Set[date], name: str, archived: archive.Day, root: Path, spec: SourceSpec
) -> tuple[set[date], set[date]]:
    """The days that earlier files of this name count for and one of these `days` does not, and all days of the newest
    of them; none where every file adds its rows."""
    held = [set(spread.recorded(version.path).days) for version in archived.before(name)]
    if spec.files_per_day == "every" or not held:
        return set(), set()
    gone = set().union(*held) - days
    if spec.files_per_day == "latest":  # Another file may be the day by now.
        own = spec.version_of(name)[0]
        gone = {
            day for day in gone if any(spec.version_of(one.name)[0] == own for one in archive.accepted(root, spec, day))
        }
    return gone, held[-1]


def _refuse_without_days(found: Judged, spec: SourceSpec) -> None:
    if not found.days and found.rows + found.rejected:
        said = f"{found.rejected} rows, none of which says a day"
        raise FileRefused("no day", said, f"a day in {spec.day_from} (day_from)")


def _kept_as(name: str, copy: Copy, own: archive.Accepted | None, archived: archive.Day, spec: SourceSpec) -> str:
    """The name in the archive. Where every file adds its rows, also those of one name, each has a folder of its own.

    Only a file that begins with all of the one before it is that one again: its sender was not done with it, or
    appends to it.
    """
    if spec.files_per_day != "every":
        return name
    if own is not None and begins_with(copy.path, own.path):
        return own.name
    return f"{archived.highest + 1:06d}/{name}"
