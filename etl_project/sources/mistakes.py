"""Mistakes: what is wrong with a pipeline's `defs.yaml` or `contract.sql`, as one line with file, line and key.

Belongs here: putting what Dagster, pydantic, the YAML reader and DuckDB say into words for whoever wrote the files, and
finding the line. Does not belong here: what the settings mean, and errors of Python beside the YAML: those keep their
traceback, which names the line.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import duckdb
import yaml
from pydantic import ValidationError

from etl_project.failures import EtlError, Permanent

DEFS = "defs.yaml"
CONTRACT = "contract.sql"

EXAMPLES = {
    "type": "etl_project.sources.component.FileSource",
    "attributes": "{name: orders, patterns: ['*{date}*.csv'], columns: {OrderNo: order_no}}",
    "name": "orders",
    "patterns": "['*{date}*.csv']",
    "columns": "{OrderNo: order_no}",
    "computed": "{line_no: source_line}",
    "topic": "orders",
    "deadline": "'06:00'",
    "owners": "['team:shop']",
    "table": "daily_report",
}
"""What a key looks like where it is right."""

_ON_OFF = "YAML reads a bare on, off, yes or no as true or false: put it into quotes"
_SQL_LINE = re.compile(r"\bLINE (\d+):")
_QUOTED = re.compile(r"'([^']+)'")
_SAID_OF_ALL = {"name", "type", "attributes", "columns", "computed", "patterns"}
"""Keys that a message names although another one, or a value, is what it is about."""
_WORDS = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")


class MistakeInPipeline(Permanent):
    """A `defs.yaml` or `contract.sql` cannot be used. Retrying does not help."""


def in_text(folder: Path) -> str | None:
    """What is wrong with the `defs.yaml` of the folder before anybody asks what it means; None where nothing is."""
    path = folder / DEFS
    try:
        text = path.read_text(encoding="utf-8")
        documents = list(yaml.compose_all(text, Loader=yaml.SafeLoader))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        what = _folded(" ".join(filter(None, (error.problem, error.context))))
        return f"{path}:{mark.line + 1 if mark else 1}: this is no YAML: {what}"
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        return f"{path}:1: this is no YAML: {_folded(str(error))}"
    except OSError as error:
        return f"{path}: it cannot be read: {error.strerror}"
    if all(document is None for document in documents):
        return f"{path}:1: it is empty; it begins with `type: {EXAMPLES['type']}`"
    doubled = next((one for document in documents for one in _doubled(document)), None)
    if doubled is None:
        return next((told for document in documents for told in _true_numbers(path, document)), None)
    line = doubled.start_mark.line + 1
    return f"{path}:{line}: {doubled.value} is there twice; YAML would take the last and say nothing"


def one_line(folder: Path, error: BaseException) -> str | None:
    """The mistake that made loading the folder fail, in one line; None where it is none of these files."""
    chain = list(_chain(error))
    for cause in chain:
        if isinstance(cause, EtlError):
            return _of_ours(folder, cause)
    if any(_is_python_beside(folder, cause) for cause in chain):
        return None
    found = [cause for cause in chain if isinstance(cause, ValidationError)]
    if found:
        return _of_pydantic(folder, found[-1])
    if any(type(cause).__name__ == "ComponentTreeException" for cause in chain):
        return f"{folder / DEFS}:1: it cannot be used: {_folded(str(chain[-1]))}"
    named = [cause for cause in chain if type(cause).__name__ in ("DagsterUnresolvableSymbolError", "ParseError")]
    if named or any("component" in str(cause) and type(cause).__name__ == "CheckError" for cause in chain):
        path, line = folder / DEFS, _line_of(folder, ["type"])
        return f"{path}:{line}: type: {_folded(str((named or chain)[0]))} Write it like `type: {EXAMPLES['type']}`"
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _is_python_beside(folder: Path, error: BaseException) -> bool:
    """Whether the error went through a module in the folder."""
    at = error.__traceback__
    while at is not None:
        if Path(at.tb_frame.f_code.co_filename).parent == folder:
            return True
        at = at.tb_next
    return False


def _of_ours(folder: Path, error: EtlError) -> str:
    """An error of this project: it says what is wrong, and here is where."""
    said, contract, defs = _folded(str(error)), folder / CONTRACT, folder / DEFS
    sql = next((cause for cause in _chain(error) if isinstance(cause, duckdb.Error)), None)
    if sql is not None:
        line = _SQL_LINE.search(str(sql))
        what = str(sql).split("\n\nLINE")[0]
        return f"{contract}:{line[1] if line else 1}: {_folded(what)}"
    if said.startswith(str(contract)):
        return f"{contract}:1:{said.removeprefix(str(contract)).removeprefix(':')}"
    said = said.removeprefix(f"{defs}: ")
    return f"{defs}:{_line_of_words(folder, said)}: {said}"


def _of_pydantic(folder: Path, error: ValidationError) -> str:
    """What pydantic found, each key once; the innermost error is about the YAML as it stands."""
    text = (folder / DEFS).read_text(encoding="utf-8")
    document = next(iter(yaml.compose_all(text, Loader=yaml.SafeLoader)))
    start = ["attributes"] if not error.title.startswith("ComponentFile") else []
    found: dict[tuple[str, ...], list[Any]] = {}
    for one in error.errors():
        keys = tuple(_keys_in(document, [*start, *one["loc"]], one))
        found.setdefault(keys, []).append(one)
    deeper = {keys[:length] for keys in found for length in range(len(keys))}
    found = {keys: problems for keys, problems in found.items() if keys not in deeper}
    said = [
        (_line_of(folder, keys), _in_words(folder, keys[len(start) :] or keys, problems))
        for keys, problems in found.items()
    ]
    (line, first), others = said[0], said[1:]
    return "; ".join([f"{folder / DEFS}:{line}: {first}", *(f"line {line}: {words}" for line, words in others)])


def _in_words(folder: Path, keys: Sequence[str], problems: Sequence[Mapping[str, Any]]) -> str:
    """Key, what was found, what is expected, a right example."""
    key, first = ".".join(keys) or DEFS, problems[0]
    kinds = {str(one["type"]) for one in problems}
    given = first.get("input")
    example = EXAMPLES.get(keys[-1] if keys else "", "")
    if "extra_forbidden" in kinds:
        near = difflib.get_close_matches(keys[-1], _settings_of(folder), n=1, cutoff=0.6)
        return f"{key} is no setting{f'; did you mean {near[0]}?' if near else ', see docs/sources.md'}"
    if "missing" in kinds:
        return f"{key} is missing; write it like `{keys[-1]}: {example or '...'}`"
    expected = _expected(problems)
    hint = f" ({_ON_OFF})" if isinstance(given, bool) and "true or false" not in expected else ""
    like = f", like `{keys[-1]}: {example}`" if example else ""
    return f"{key} is {given!r}; it must be {expected}{like}{hint}"


_TYPES = {
    "float": "a number",
    "int": "a whole number",
    "bool": "true or false",
    "string": "text",
    "list": "a list",
    "sequence": "a list",
    "dict": "keys with values",
    "mapping": "keys with values",
    "model": "keys with values",
}


def _expected(problems: Sequence[Mapping[str, Any]]) -> str:
    """What would have been right, of all that was tried; text is tried everywhere, for templates."""
    said: list[str] = []
    for one in problems:
        kind, context = str(one["type"]), one.get("ctx", {})
        if kind in ("literal_error", "enum"):
            said.append(str(context.get("expected", "")).replace("'", ""))
        elif kind == "value_error":
            said.append(str(one["msg"]).removeprefix("Value error, "))
        elif kind in ("greater_than_equal", "less_than_equal", "greater_than", "less_than"):
            said.append(str(one["msg"]).removeprefix("Input should be "))
        else:
            base = kind.removesuffix("_type").removesuffix("_parsing")
            said.append(_TYPES.get(base, str(one["msg"]).removeprefix("Input should be ")))
    told = [one for one in dict.fromkeys(said) if one]
    return " or ".join([one for one in told if one != "text"] or told)


def _keys_in(document: Any, location: Sequence[Any], problem: Mapping[str, Any]) -> Iterator[str]:
    """The parts of pydantic's location that are keys of the YAML: between them it names the types that it tried."""
    node = document
    for at, part in enumerate(location):
        value = None
        if isinstance(node, yaml.MappingNode):
            value = next((v for k, v in node.value if _same(k, part)), None)
            if value is None and problem["type"] == "missing" and at == len(location) - 1:
                yield str(part)
            if value is None and part == "[key]" and isinstance(problem.get("input"), bool):
                yield from (str(k.value) for k, _ in node.value if k.tag == "tag:yaml.org,2002:bool")
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            value = node.value[part]
        if value is not None:
            node = value
            yield str(part)


def _same(key: Any, part: Any) -> bool:
    return bool(key.value == str(part))


def _doubled(node: Any) -> Iterator[Any]:
    """The keys that a mapping has a second time."""
    if isinstance(node, yaml.SequenceNode):
        yield from (one for child in node.value for one in _doubled(child))
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if key.value in seen:
                yield key
            seen.add(str(key.value))
            yield from _doubled(value)


def _true_numbers(path: Path, document: Any) -> Iterator[str]:
    """Settings that are numbers and for which true or false is written: pydantic would take them for 1 and 0."""
    from etl_project.sources.component import FileSource  # noqa: PLC0415  # It is what asks for these words.

    top = document.value if isinstance(document, yaml.MappingNode) else []
    attributes = [value for key, value in top if key.value == "attributes"]
    for key, value in (pair for one in attributes if isinstance(one, yaml.MappingNode) for pair in one.value):
        one = FileSource.model_fields.get(str(key.value))
        if one is not None and value.tag == "tag:yaml.org,2002:bool" and _is_number(one.annotation):
            line, example = value.start_mark.line + 1, one.default if one.default is not None else 3
            yield f"{path}:{line}: {key.value} is {value.value}; it must be a number, like `{key.value}: {example}`"


def _is_number(kind: Any) -> bool:
    """Whether the type of a setting is a number, whatever limits it has, or else a text or nothing."""
    leaves = set(_leaves(kind))
    return bool(leaves & {int, float}) and leaves <= {int, float, str, NoneType}


def _leaves(kind: Any) -> Iterator[Any]:
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Annotated:
        yield from _leaves(inner[0])
    elif origin in (Union, UnionType):
        for one in inner:
            yield from _leaves(one)
    else:
        yield origin or kind


def _line_of(folder: Path, keys: Sequence[str]) -> int:
    """The line of a key; of one that is not there, the line of what it is missing in."""
    node, line = _document(folder), 1
    for part in keys:
        pairs = node.value if isinstance(node, yaml.MappingNode) else ()
        found = next(((k, v) for k, v in pairs if k.value == part), None)
        if found is None and isinstance(node, yaml.SequenceNode) and part.isdigit() and int(part) < len(node.value):
            found = (node.value[int(part)], node.value[int(part)])
        if found is None:
            return line
        line, node = found[0].start_mark.line + 1, found[1]
    return line


def _line_of_words(folder: Path, said: str) -> int:
    """The line of the first key, or else of the first value, that a message speaks of; the first line where of none."""
    keys: dict[str, int] = {}
    values: dict[str, int] = {}
    _collect(_document(folder), keys, values, "")
    quoted = [values[text] for text in _QUOTED.findall(said) if text in values]
    words = [word.rstrip(".") for word in _WORDS.findall(said)]
    telling = [keys[word] for word in words if word in keys and word not in _SAID_OF_ALL]
    named = [values[word] for word in words if word in values]
    computed = [keys[f"computed.{word}"] for word in words if f"computed.{word}" in keys]
    general = [keys[word] for word in words if word in keys]
    return next(iter([*quoted, *telling, *named, *computed, *general]), 1)


def _collect(node: Any, keys: dict[str, int], values: dict[str, int], above: str) -> None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            line = key.start_mark.line + 1
            path = f"{above}.{key.value}" if above else str(key.value)
            keys.setdefault(path, line)
            if above not in ("columns", "computed"):
                keys.setdefault(str(key.value), line)
            _collect(value, keys, values, "" if path == "attributes" else path)
    elif isinstance(node, yaml.SequenceNode):
        for child in node.value:
            _collect(child, keys, values, above)
    elif node is not None and above != "name":  # Every message has it.
        values.setdefault(str(node.value), node.start_mark.line + 1)


def _document(folder: Path) -> Any:
    try:
        return next(iter(yaml.compose_all((folder / DEFS).read_text(encoding="utf-8"), Loader=yaml.SafeLoader)), None)
    except (OSError, ValueError, yaml.YAMLError):
        return None


def _settings_of(folder: Path) -> Sequence[str]:
    """The settings of the component that the YAML names."""
    from etl_project.sources.component import FileSource  # noqa: PLC0415  # It is what asks for these words.

    return [*FileSource.model_fields, "topic", "group", "decoder", "envelope", "tombstones", "day_from", "day_format"]


def _folded(text: str) -> str:
    return " ".join(text.split())
