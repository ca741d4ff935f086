"""Stray: what lies in incoming/ and in no drop folder of a source: nobody takes it in, so it is named.

Belongs here: finding it, in words. Does not belong here: what lies in a drop folder (`scan`, `notices`).
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from difflib import get_close_matches
from pathlib import Path

from etl_project.sources.intake.scan import TEMPORARY
from etl_project.sources.names import shown

_SHOWN = 10


def in_words(incoming: Path, sources: Collection[str]) -> list[str]:
    """A line for files in no folder, and one for each folder with files that has the name of no source."""
    try:
        with os.scandir(incoming) as found:
            others = (one for one in found if one.name not in sources and _counts(one.name))
            entries = sorted(others, key=lambda one: one.name)
    except OSError:
        return []  # Whoever scans the drop folders in it says so.
    files = [one.name for one in entries if not one.is_dir(follow_symlinks=False)]
    told = []
    if files:
        some = ", ".join(map(shown, files[:_SHOWN]))
        more = f" and {len(files) - _SHOWN} more" if len(files) > _SHOWN else ""
        told.append(
            f"not taken in: {some}{more}, right in {shown(str(incoming))}. Put it into a source's folder there."
        )
    for folder in (one for one in entries if one.is_dir(follow_symlinks=False) and next(_files(one.path), None)):
        told.append(of_no_source(folder.name, folder.path, sources))
    return told


def of_no_source(name: str, place: str, sources: Collection[str]) -> str:
    """The line for a folder, here or in a bucket, that has the name of no source."""
    like = get_close_matches(name, sources, 1)
    meant = f"did you mean {like[0]}/?" if like else f"there are {', '.join(sorted(sources)) or 'none'}."
    return f"not taken in: what lies in {shown(place)}: no source has this name; {meant}"


def _files(folder: str) -> Iterator[str]:
    for path, inner, files in os.walk(folder):
        inner[:] = filter(_counts, inner)
        yield from (os.path.join(path, name) for name in files if _counts(name))


def _counts(name: str) -> bool:
    """Not what a scan of a drop folder passes over without a word: hidden and temporary names."""
    return not name.startswith(".") and not name.endswith(TEMPORARY)
