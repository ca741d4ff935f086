"""Chosen encoding: which of several encodings an accepted file was read in, for good.

Belongs here: the record that a file gets when it is accepted, and whether it still holds. Does not belong here:
choosing (`encodings`), where the record lies (`archive`).

The choice goes by rules, which may get better; the rows of an accepted file must not become others by that. So a
rebuild reads a file in the encoding that was chosen for it, unless its source declares one before that by now which it
did not then. Files that were accepted before there were records are looked at anew.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from etl_project.sources.intake import archive
from etl_project.sources.reading.file_refused import FileRefused

if TYPE_CHECKING:
    from etl_project.sources.reading.file_format import SourceFile
    from etl_project.sources.spec import SourceSpec


def record(chosen: Mapping[str, str], spec: SourceSpec) -> str:
    """The record of a file. `chosen`: the encoding of each member of a ZIP archive; under "" that of any other file."""
    said = {"declared": spec.encodings, "valid_utf8": spec.valid_utf8, "chosen": dict(chosen)}
    return json.dumps(said, ensure_ascii=False, indent=1) + "\n"


def on_record(file: SourceFile, spec: SourceSpec) -> str | None:
    """The encoding that this file of the archive (or its member) was read in when it was accepted, if that holds.

    Raises FileRefused (retrying does not help) for a record that cannot be read: another choice could be another text.
    """
    where = archive.encoding_record(Path(file.path).resolve())
    try:
        said = json.loads(where.read_text(encoding="utf-8"))
        chosen, declared, valid_utf8 = said["chosen"].get(file.member), list(said["declared"]), said["valid_utf8"]
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError, AttributeError):
        raise FileRefused(
            "damaged record of its encoding",
            f"no such record in {where}",
            "what was written there when the file was accepted: put it back from a copy, or remove it to have the "
            "encoding chosen anew",
        ) from None
    if chosen not in spec.encodings or chosen not in declared or valid_utf8 != spec.valid_utf8:
        return None
    before = spec.encodings[: spec.encodings.index(chosen)]
    return str(chosen) if set(before) <= set(declared[: declared.index(chosen)]) else None
