"""Dead letters: messages that became no row, and how they become one once what kept them from it is mended.

Belongs here: reading the files of dead letters and replaying them from the disk, without a broker. Does not belong
here: why a message is dead (`decode`), landing one again from the topic (`landing`).

Replaying a file writes rows of all its messages that are good by now, and then keeps the letters apart: those that
became rows in `replayed_...jsonl`, the others where they were. The rows of one file of letters always go into the same
files, whole: a later replay makes newer versions of them, with the rows of the earlier one and its own. A kill anywhere
leaves letters in both places, and the next replay ends the same.
"""

from __future__ import annotations

import base64
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import NamedTuple

from etl_project import atomic, faults, utc
from etl_project.failures import Permanent
from etl_project.kafka import batch, decoders
from etl_project.kafka import format as landed
from etl_project.kafka.decode import MessageReader, Poison
from etl_project.kafka.format import RowFormat, Span
from etl_project.kafka.nothing import File
from etl_project.kafka.subscription import Subscription
from etl_project.settings import Settings


class NoSuchLetters(Permanent):
    """There is no file of dead letters of this name. Retrying does not help."""


class LetterFile(NamedTuple):
    """A file of dead letters: where it lies, and the offsets that its batch covers."""

    path: Path
    span: Span


class Letter(NamedTuple):
    """One message as it came, and why it is dead. `line` is the letter as it stands in its file."""

    offset: int
    reason: str
    timestamp_ms: int | None
    key: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]
    value: bytes | None
    line: bytes


@dataclass
class Replayed:
    """What a replay did: messages that are rows now, those that their source drops, and those that are still dead."""

    rows: int = 0
    dropped: int = 0
    files: int = 0
    dead: Counter[str] = field(default_factory=Counter)


def files(folder: Path) -> list[LetterFile]:
    """The files of dead letters in a source's folder, by name; a folder that is not there has none."""
    found = []
    for path in sorted(folder.glob(f"{landed.UNDATED}_*.jsonl")):
        named = landed.parse(path.name)
        if named is not None:
            found.append(LetterFile(path, named.span))
    return found


def named(folder: Path, name: str) -> LetterFile:
    """The file of this name. Raises NoSuchLetters."""
    for one in files(folder):
        if one.path.name == name:
            return one
    raise NoSuchLetters(f"{folder} has no dead letters called {name!r}; `etl dead-letters list` says what there is.")


def letters(path: Path) -> Iterator[Letter]:
    """The messages in a file of dead letters, in its order."""
    with path.open("rb") as file:
        for line in file:
            one = json.loads(line)
            headers = tuple((name, _bytes(content)) for name, content in one["kafka_headers_base64"])
            key, value = (_bytes(one[f"kafka_{part}_base64"]) for part in ("key", "value"))
            yield Letter(one[landed.OFFSET], one["reason"], one["kafka_timestamp_ms"], key, headers, value, line)


def replay(subscription: Subscription, settings: Settings, only: LetterFile | None = None) -> Replayed:
    """Try the dead letters of a source again, with the decoder and the contract that it has now.

    What becomes a row waits in the drop folder afterwards. Raises CannotWrite (retrying helps) for a full disk and the
    like, and what the decoder raises.
    """
    folder = settings.dead_letters / subscription.source.name
    incoming = settings.incoming / subscription.source.name
    reader = MessageReader(subscription, lambda: utc.now().date(), decoders.of(subscription))
    done = Replayed()
    for one in files(folder) if only is None else [only]:
        _replay(one, reader, subscription.source.max_line_bytes, incoming, done)
    return done


def _replay(one: LetterFile, reader: MessageReader, longest: int, incoming: Path, done: Replayed) -> None:
    settled = one.path.with_name(landed.replayed_name(one.span))
    before = {letter.offset: letter for letter in letters(settled)} if settled.exists() else {}
    dead = {letter.offset: letter for letter in letters(one.path)}
    sorted_out = _sorted_out({**before, **dead}, one.span, reader, longest)
    done.dead.update(json.loads(line)["reason"] for line in sorted_out.dead.values())
    now_good = dead.keys() - sorted_out.dead.keys()
    if not now_good:
        return
    done.dropped += len(now_good & sorted_out.dropped)
    done.rows += len(now_good - sorted_out.dropped)
    rows = [File(incoming / landed.replayed_rows_name(day, one.span), lines) for day, lines in sorted_out.days.items()]
    done.files += len(rows)
    batch.write(rows)
    faults.reach("kafka.replay.rows")
    good = [letter.line for offset, letter in sorted({**before, **dead}.items()) if offset not in sorted_out.dead]
    batch.write([File(settled, good)])
    faults.reach("kafka.replay.settled")
    if sorted_out.dead:
        batch.write([File(one.path, [line for _, line in sorted(sorted_out.dead.items())])])
    else:
        one.path.unlink(missing_ok=True)
        atomic.sync_folder(one.path.parent)


class _SortedOut(NamedTuple):
    days: dict[date, list[bytes]]
    dropped: set[int]
    dead: dict[int, bytes]


def _sorted_out(every: dict[int, Letter], span: Span, reader: MessageReader, longest: int) -> _SortedOut:
    """What each message is by now: a row of a day, dropped, or a dead letter with today's reason."""
    form = RowFormat(span.topic, span.partition)
    found = _SortedOut({}, set(), {})
    for offset, letter in sorted(every.items()):
        try:
            if letter.reason == batch.UNREADABLE_HEADERS:
                raise Poison(letter.reason)
            read = reader.read(letter.value, letter.timestamp_ms)
            if read is None:
                found.dropped.add(offset)
                continue
            line = form.row(offset, letter.timestamp_ms, letter.key, letter.headers, read[1])
            batch.refuse_long(line, longest)
            found.days.setdefault(read[0], []).append(line)
        except Poison as poison:
            own = span._replace(first=offset, last=offset)
            found.dead[offset] = landed.dead_letter(
                own, letter.timestamp_ms, letter.key, letter.headers, letter.value, str(poison)
            )
    return found


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else base64.b64decode(text)
