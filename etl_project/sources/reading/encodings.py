"""Encodings: which of the declared encodings a file is in, decided by all of its bytes.

Belongs here: trying a list of encodings in their order, strictly, and telling UTF-8 that hides behind another name.
Does not belong here: decoding for good (`stream`), guessing an encoding that nobody declared (`new_source`).

Nearly every text is valid in an encoding of one byte a letter, so reading UTF-8 as one of these goes wrong without a
word: München becomes MÃ¼nchen. But hardly any text of another encoding is valid UTF-8 once it has letters beyond
ASCII. So such a file is refused, unless its source says what is meant; and so is Windows' text in an ISO encoding.
"""

from __future__ import annotations

import codecs
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from etl_project.sources.reading import chosen_encoding, compression, stream
from etl_project.sources.reading.file_format import SourceFile
from etl_project.sources.reading.file_refused import FileRefused

if TYPE_CHECKING:
    from etl_project.sources.spec import SourceSpec

ValidUtf8 = Literal["refuse", "as_utf8", "as_declared"]


def settled(file: SourceFile, spec: SourceSpec) -> SourceSpec:
    """The source with the one encoding that this file is in: the first of the list that fits all of its bytes, and of
    an archived file the one that was chosen when it was accepted.

    Costs nothing where there is only one. Raises FileRefused (retrying does not help) where none of them fits the file.
    """
    candidates = spec.encodings
    if len(candidates) == 1:
        return spec
    chosen = chosen_encoding.on_record(file, spec) if file.accepted else None
    if chosen is not None:
        return replace(spec, encoding=chosen, other_encodings=(), valid_utf8="as_declared")
    found, hint = "bytes that none of the declared encodings has", ""
    # An archived file may have been accepted before control characters were looked at.
    for passes_controls in (False, True) if file.accepted else (False,):
        for one in candidates:
            alone = replace(spec, encoding=one, other_encodings=(), valid_utf8=_strictly(spec))
            misfit = _misfit(file, alone, passes_controls)
            if misfit is None:
                return alone
            if misfit.reason == stream.HIDDEN_CP1252:
                found = misfit.found
                hint = f"; cp1252 (or another code page) in place of {one} reads such bytes as letters"
    raise FileRefused("wrong encoding", found, f"text in {' or '.join(candidates)}{hint}")


def _strictly(spec: SourceSpec) -> ValidUtf8:
    return "as_declared" if spec.valid_utf8 == "as_declared" else "refuse"


def _misfit(file: SourceFile, spec: SourceSpec, passes_controls: bool) -> FileRefused | None:
    """Why the file is not in the encoding of this source, which is one alone; None where it is."""
    decoder = codecs.getincrementaldecoder(spec.encoding)("strict")
    try:
        for piece in stream.watched(compression.pieces(file, spec), spec, passes_controls=passes_controls):
            decoder.decode(piece)
        decoder.decode(b"", final=True)
    except UnicodeError as error:
        return FileRefused("wrong encoding", str(error), f"text in {spec.encoding}")
    except FileRefused as refused:
        if refused.reason not in (stream.HIDDEN_UTF8, stream.HIDDEN_CP1252):
            raise
        return refused
    return None
