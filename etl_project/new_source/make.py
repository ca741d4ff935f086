"""Make: a source folder from a sample file, tried on that file before it comes into being.

Belongs here: the order of the steps. The folder is written aside and renamed into place, so that it is there with all
its files or not at all; a kill leaves at most a hidden `.etl-*.tmp` folder, which nothing loads.
"""

from __future__ import annotations

import keyword
import re
import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa
import yaml

from etl_project import atomic, faults, utc
from etl_project.new_source import render
from etl_project.new_source.column_names import columns_of
from etl_project.new_source.column_types import DOUBLE, INSTANT, Evidence, Guess, declared
from etl_project.new_source.sample import CannotUse, Sample, look
from etl_project.sources.asset_names import Names
from etl_project.sources.component import FileSource
from etl_project.sources.reading import judge
from etl_project.sources.reading.file_refused import FileRefused
from etl_project.sources.spec import SourceSpec

FEW_ROWS = 100
LONGEST_NAME = 60
_IDENTIFIER = re.compile(r"(.*_)?(id|uuid|key|no|number)")


@dataclass(frozen=True)
class Made:
    """A source that was written: what became of the sample's rows, and what a person should review."""

    folder: Path
    accepted: int
    rejected: int
    review: tuple[str, ...]


def make(name: str, path: Path, folder: Path, taken: Collection[str] = ()) -> Made:
    """Write `folder/name/` with the two files of a source that accepts this sample, or nothing.

    `taken`: names of assets that exist already. A folder that exists is never touched.
    Raises CannotUse (retrying does not help) naming what is in the way.
    """
    target = folder / name
    _refuse_name(name, target, taken)
    try:
        return _make(name, look(path), target)
    except (CannotUse, FileRefused) as error:
        raise CannotUse(f"No source can be made from {path}: {error}. Nothing was written.") from None


def _make(name: str, sample: Sample, target: Path) -> Made:
    columns = columns_of(sample.header)
    seen, key = _read(sample, columns)
    guesses = {column: _guess(sample, header, seen[column]) for header, column in columns.items()}
    files = {
        "__init__.py": f'"""The source {name}."""\n',
        "contract.sql": render.contract_sql(name, columns, guesses, key),
        "defs.yaml": render.defs_yaml(name, sample, columns),
    }
    with _written_aside(target, files) as aside:
        spec = _loaded(aside, sample, columns)
        accepted, rejected, first = _judged(spec, sample)
    review = [
        *sample.notes,
        *_review_rows(accepted, rejected, first),
        *_review_day(spec, sample),
        *(f"{column}: {note}" for column, guess in guesses.items() for note in guess.notes),
        f"primary key: {key}, unique in the sample" if key else "primary key: none is evident; add one if there is one",
        "empty_days, deadline: whether a day without a file is empty or missing, and when it should be there",
    ]
    return Made(target, accepted, rejected, tuple(review))


def _refuse_name(name: str, target: Path, taken: Collection[str]) -> None:
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or len(name) > LONGEST_NAME or keyword.iskeyword(name):
        raise CannotUse(
            f"{name!r} cannot name a source: it names a folder, a table and assets. Use small letters, digits and _, "
            f"a letter first, at most {LONGEST_NAME}, and no word of Python's own."
        )
    if name.startswith("etl_"):
        raise CannotUse(f"{name!r} cannot name a source: names that start with etl_ are the project's own.")
    if target.exists() or target.is_symlink():
        raise CannotUse(f"{target} exists already, and is never overwritten: choose another name, or remove it first.")
    clashes = sorted(set(asdict(Names.of(name)).values()) & set(taken))
    if clashes:
        raise CannotUse(f"{', '.join(clashes)}: there are assets of that name already; choose another one.")


def _read(sample: Sample, columns: Mapping[str, str]) -> tuple[dict[str, Evidence], str | None]:
    """What is in every column, from all rows of the sample, and the one column that is evidently a key."""
    seen = {column: Evidence() for column in columns.values()}
    keys: dict[str, list[pa.ChunkedArray]] = {name: [] for name in columns.values() if _IDENTIFIER.fullmatch(name)}
    broken = ""
    for batch in judge.read(sample.path, sample.as_text(), sample.path.name, sample.day):
        if batch.rejects.num_rows and not broken:
            broken = f"line {batch.rejects['source_line'][0]}: {batch.rejects['reason'][0]}"
        for number, column in enumerate(columns.values()):
            texts = batch.rows.column(number)
            seen[column].see(texts.combine_chunks())
            if column in keys:
                keys[column].append(texts)
    rows = next(iter(seen.values())).rows
    if not rows:
        raise CannotUse(f"none of its rows can be read; {broken}" if broken else "it has no rows to guess types from")
    return seen, next((key for key, texts in keys.items() if _is_key(texts, seen[key])), None)


def _is_key(texts: list[pa.ChunkedArray], evidence: Evidence) -> bool:
    """A value of its own in every row; one row alone proves nothing."""
    if evidence.rows < 2 or evidence.empty:
        return False
    chunks = [chunk for text in texts for chunk in text.chunks]
    return len(pa.chunked_array(chunks, pa.string()).unique()) == evidence.rows


def _guess(sample: Sample, header: str, evidence: Evidence) -> Guess:
    """The type that the file declares, where it does; else what the texts say."""
    guess = evidence.guess()
    if sample.format != "parquet":
        return guess
    kind = declared(sample.types[header])
    notes = {DOUBLE: ("floating point in the file; DECIMAL if it is money",), INSTANT: guess.notes}.get(kind, ())
    return Guess(kind, guess.nullable, notes)


@contextmanager
def _written_aside(target: Path, files: Mapping[str, str]) -> Iterator[Path]:
    """A hidden folder with these files, which becomes `target` in one rename when the block ends well."""
    aside = atomic.temporary_sibling(target)
    try:
        try:
            atomic.make_folder(target.parent)
            aside.mkdir()
            for name, text in files.items():
                with atomic.replacing(aside / name, "new_source.file") as temporary:
                    temporary.write_text(text, encoding="utf-8")
        except OSError as error:
            raise CannotUse(f"{target.parent} cannot be written to: {error.strerror}") from None
        yield aside
        faults.reach("new_source.before_rename")
        aside.rename(target)
        atomic.sync_folder(target.parent)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _loaded(folder: Path, sample: Sample, columns: Mapping[str, str]) -> SourceSpec:
    """The written source, loaded as the project will load it; it has to say what was meant."""
    attributes = yaml.safe_load((folder / "defs.yaml").read_text(encoding="utf-8"))["attributes"]
    component: FileSource = FileSource.resolve_from_dict(attributes)
    if dict(component.columns) != columns or list(component.patterns) != [sample.pattern]:
        raise CannotUse("the name of the file or of a column means something else in YAML; rename it")
    return component.spec(folder)


def _judged(spec: SourceSpec, sample: Sample) -> tuple[int, int, str]:
    """The sample as the written source judges it: rows accepted, rows rejected, and the first reason."""
    accepted = rejected = 0
    first = ""
    for batch in judge.read(sample.path, spec, sample.path.name, sample.day):
        if batch.rejects.num_rows and not first:
            first = f"line {batch.rejects['source_line'][0]}: {batch.rejects['reason'][0]}"
        accepted += batch.rows.num_rows
        rejected += batch.rejects.num_rows
    return accepted, rejected, first


def _review_rows(accepted: int, rejected: int, first: str) -> Iterator[str]:
    if accepted < FEW_ROWS:
        yield f"types and NOT NULL: guessed from {accepted} rows only"
    if rejected:
        yield f"rejected rows: the first is {first}"


def _review_day(spec: SourceSpec, sample: Sample) -> Iterator[str]:
    if sample.day < spec.start_date:
        yield f"file name: {sample.day} lies before ETL_START_DATE, {spec.start_date}; such files are refused"
    if sample.day > utc.now().date():
        yield f"file name: {sample.day} lies ahead; such a file waits for its day"
