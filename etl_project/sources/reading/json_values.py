"""JSON values: one JSON object as the text of each column of a source.

Belongs here: keys and paths, nested values, and numbers as they are written. Does not belong here: where an object
begins and ends (`jsonl_records`, `json_records`), what the text means (`convert`).

A number is taken as it is written, text as it is (an empty text is text, not NULL), true and false as these words; a
missing key and null are NULL. A name with dots that is no key is a path: `customer.id` is the key id of the object
customer. Objects and lists become JSON text, without blanks, with their keys in the order of the file: in columns of a
nested type and of type JSON always, in VARCHAR where the source says `nested_values: text`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from etl_project.sources.reading.chunk import Broken, Chunk
from etl_project.sources.reading.header import Names
from etl_project.sources.reading.values.value_settings import PLAIN

if TYPE_CHECKING:
    from etl_project.sources.spec import SourceColumn, SourceSpec


_SHOWN = 10
"""So many names that a source does not have are named."""


def takes_nested(target: SourceColumn, spec: SourceSpec) -> bool:
    """Whether objects and lists are values of this column, as JSON text or as what that text means."""
    return target.is_nested or (target.type == "VARCHAR" and spec.layout.nested_values == "text")


class BrokenObject(Exception):
    """The value is no record; the message says why."""


class JsonObject(list[tuple[str, Any]]):
    """A JSON object as its pairs, repeated keys included."""


class _Number(str):
    """A number as it is written."""

    __slots__ = ()


class _NotFinite(_Number):
    """NaN or an infinity, which JSON does not have and many senders write."""

    __slots__ = ()


DECODER = json.JSONDecoder(
    parse_int=_Number, parse_float=_Number, parse_constant=_NotFinite, object_pairs_hook=JsonObject
)
"""Reads every value as it is written."""

_FLAT_DECODER = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=str, object_pairs_hook=JsonObject)
"""The same where nobody has to tell a number from a text: quicker."""


class _Columns:
    """What the columns of a source say about its objects, the same for all of its files."""

    def __init__(self, spec: SourceSpec) -> None:
        self.names = spec.derived(Names)
        self.takes_nested = [takes_nested(target, spec) for target in spec.targets]
        settings = spec.settings_of_columns
        self.null_values = [settings.get(target.name, PLAIN).null_values for target in spec.targets]
        self.plain = self.names.plain({at for at, target in enumerate(spec.targets) if not target.is_nested})
        # Most sources have flat objects and nothing beside their columns: these are worth a shorter way.
        self.is_flat = (
            not self.names.has_paths
            and spec.layout.unknown_columns == "refuse"
            and not spec.layout.ignored_columns
            and not any(self.takes_nested)
        )


class Records:
    """The records of one file, by the source's columns."""

    def __init__(self, spec: SourceSpec) -> None:
        columns = spec.derived(_Columns)
        self._names, self._targets = columns.names, spec.targets
        self._takes_nested, self._null_values = columns.takes_nested, columns.null_values
        self._plain, self._is_flat = columns.plain, columns.is_flat
        self.decoder = _FLAT_DECODER if self._is_flat else DECODER
        self.seen: set[int] = set()
        self.others: set[str] = set()
        """Names that stand for no column, of records before one that has a column."""
        self.count = 0

    def start(self) -> Stretch:
        """A stretch of records that will be one chunk."""
        return Stretch(self, len(self._targets))

    def texts(self, value: Any) -> list[str | None]:
        """The text of each target. Raises BrokenObject for a value that is no record of this source."""
        if not isinstance(value, JsonObject):
            raise BrokenObject("JSON, but no object")
        if self._plain:
            as_is = self._texts_as_they_are(value)
            if as_is is not None:
                return as_is
        texts: list[str | None] = [None] * len(self._targets)
        found: dict[int, str] = {}
        kept: dict[str, str] = {}
        target, is_flat = self._names.target, self._is_flat
        for name, one in value if is_flat else self._flat(value, ""):
            at = target(name)
            if at is None:
                kept |= self._unknown(name, one)
                if not self.seen and len(self.others) < _SHOWN:
                    self.others.add(name)
            elif at in found:
                raise BrokenObject(
                    f"the key {name!r} is repeated"
                    if found[at] == name
                    else f"{found[at]!r} and {name!r} are one column"
                )
            else:
                found[at] = name
                texts[at] = one if is_flat and type(one) is str and one.isascii() else self._text(name, one, at)
        if kept:
            texts[-1] = "{" + ",".join(f"{_quoted(name)}:{kept[name]}" for name in sorted(kept)) + "}"
        if not found.keys() <= self.seen:
            self.seen |= found.keys()
        self.count += 1
        return texts

    def _texts_as_they_are(self, value: JsonObject) -> list[str | None] | None:
        """The same for an object of nothing but the source's own keys, each once, with texts, numbers and nulls; None
        for any other. Most objects are like that, and this costs a third."""
        texts: list[str | None] = [None] * len(self._targets)
        found = set()
        for name, one in value:
            at = self._plain.get(name)
            if at is None:
                return None
            if one is not None:
                if not isinstance(one, str) or not one.isascii():
                    return None
                texts[at] = str(one)
            found.add(at)
        if len(found) < len(value):
            return None
        self.seen |= found
        self.count += 1
        return texts

    def _unknown(self, name: str, value: Any) -> dict[str, str]:
        """What is kept of a key that the source does not have."""
        if self._names.is_refused(name):
            raise BrokenObject(f"the key {name!r} is not expected")
        return {name: self._as_json(name, value, -1)} if self._names.is_kept(name) else {}

    def _flat(self, value: JsonObject, prefix: str) -> Iterator[tuple[str, Any]]:
        """The pairs of the object; those of objects that a path goes through with the whole path as their name."""
        keys: set[str] = set()
        for key, one in value:
            if key in keys:
                raise BrokenObject(f"the key {prefix + key!r} is repeated")
            keys.add(key)
            name = prefix + key
            if self._names.target(name) is not None or not self._names.leads_on(name):
                yield name, one
            elif isinstance(one, JsonObject):
                yield from self._flat(one, f"{name}.")
            elif one is None:
                yield from ((path, None) for path in self._names.below(name))
            else:
                raise BrokenObject(f"the value of {name!r} is no object, and paths go through it")

    def _text(self, name: str, value: Any, at: int) -> str | None:
        if value is None:
            return None
        target = self._targets[at]
        if target.is_nested or (isinstance(value, list) and self._takes_nested[at]):
            return self._as_json(name, value, at)
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, list):
            raise BrokenObject(
                f"the value of {name!r} is nested (its column can be JSON, a STRUCT or a list, or VARCHAR with "
                "`nested_values: text`)"
            )
        if not value.isascii():
            _refuse_surrogates(name, value)
        return str(value)

    def _as_json(self, name: str, value: Any, at: int) -> str:
        text = "".join(self._written(name, value, at))
        _refuse_surrogates(name, text)
        return text

    def _written(self, name: str, value: Any, at: int) -> Iterator[str]:
        if isinstance(value, JsonObject):
            if len({key for key, _ in value}) < len(value):
                raise BrokenObject(f"a key in {name!r} is repeated")
            for number, (key, one) in enumerate(value):
                yield f"{',' if number else '{'}{_quoted(key)}:"
                yield from self._written(name, one, at)
            yield "}" if value else "{}"
        elif isinstance(value, list):
            for number, one in enumerate(value):
                yield "," if number else "["
                yield from self._written(name, one, at)
            yield "]" if value else "[]"
        elif isinstance(value, _NotFinite):
            if value not in self._null_values[at]:
                raise BrokenObject(f"{value} in {name!r} is no JSON (`null_values: [{value}]` makes it null)")
            yield "null"
        elif isinstance(value, _Number):
            yield value
        else:
            yield {None: "null", True: "true", False: "false"}.get(value) or _quoted(value)


class Stretch:
    """Records, good and broken, that are read one after the other."""

    def __init__(self, records: Records, width: int) -> None:
        self._records = records
        self._columns: list[list[str | None]] = [[] for _ in range(width)]
        self._lines: list[int] = []
        self._raws: list[str] = []
        self._broken: list[Broken] = []

    def add(self, line: int, raw: str, value: Any) -> None:
        """A value that starts on this line; what is no record of the source is a broken one."""
        try:
            texts = self._records.texts(value)
        except BrokenObject as error:
            self.add_broken(line, raw, str(error))
            return
        except RecursionError:
            self.add_broken(line, raw, "nested too deeply")
            return
        self._lines.append(line)
        self._raws.append(raw)
        for column, text in zip(self._columns, texts, strict=True):
            column.append(text)

    def add_broken(self, line: int, raw: str, reason: str) -> None:
        """Text that starts on this line and is no record."""
        self._broken.append(Broken(line, reason, raw))

    def chunk(self) -> Chunk:
        """All of them."""
        raws = self._raws
        texts = [pa.array(column, pa.string()) for column in self._columns]
        return Chunk(texts, pa.array(self._lines, pa.int64()), lambda which: [raws[one] for one in which], self._broken)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _refuse_surrogates(name: str, text: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise BrokenObject(f"the value of {name!r} is no valid Unicode") from None
