"""Make: a source folder from a sample file, tried on that file before it comes into being.

Belongs here: the order of the steps. The folder is written aside and renamed into place, so that it is there with all
its files or not at all; a kill leaves at most a hidden `.etl-*.tmp` folder, which nothing loads.
"""

from __future__ import annotations

import keyword
import re
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import date
from pathlib import Path

import pyarrow as pa
import yaml

from etl_project import atomic, faults, utc
from etl_project.new_source import render
from etl_project.new_source.column_names import columns_of
from etl_project.new_source.column_types import DOUBLE, INSTANT, Evidence, Guess, declared, nobody
from etl_project.new_source.containers import CannotUse
from etl_project.new_source.sample import Sample
from etl_project.new_source.samples import Samples, samples_of
from etl_project.new_source.value_forms import Ask
from etl_project.sources import MISSING, FileRefused, FileSource, Names, SourceFile, SourceSpec, judge

FEW_ROWS = 100
SHOWN_SAMPLES = 10
LONGEST_NAME = 60
NO_DAY = date(1970, 1, 1)
"""Where no name says a day, texts are read as of any one."""
_TOTAL = re.compile(r"\W*((grand|sub|page) ?)?(total|totals|sum|summe|gesamt|trailer|eof)\b.{0,20}", re.IGNORECASE)
_IDENTIFIER = re.compile(r"(.*_)?(id|uuid|key|no|number)")


@dataclass(frozen=True)
class Made:
    """A source that was written: what became of the sample's rows, and what a person should review."""

    folder: Path
    accepted: int
    rejected: int
    review: tuple[str, ...]
    samples: int = 1


def make(name: str, paths: Path | Sequence[Path], folder: Path, taken: Collection[str] = (), ask: Ask = nobody) -> Made:
    """Write `folder/name/` with the two files of a source that accepts these samples, or nothing.

    `paths`: files, or folders of them. `taken`: names of assets that exist already. `ask` is asked what no sample
    tells. A folder that exists is never touched. Raises CannotUse (retrying does not help) naming what is in the way.
    """
    target = folder / name
    _refuse_name(name, target, taken)
    samples = samples_of([paths] if isinstance(paths, Path) else paths)
    try:
        return _make(name, samples, target, ask)
    except (CannotUse, FileRefused) as error:
        these = samples.each[0].path if len(samples.each) == 1 else f"these {len(samples.each)} samples"
        raise CannotUse(f"No source can be made from {these}: {error}. Nothing was written.") from None


def _make(name: str, samples: Samples, target: Path, ask: Ask) -> Made:
    columns = columns_of(samples.header)
    seen, key, totals = _read(samples, columns)
    guesses = {column: _guess(samples, header, seen[column], column, ask) for header, column in columns.items()}
    guesses |= {columns[one]: replace(guesses[columns[one]], nullable=True) for one in samples.optional}
    key = None if key is None or guesses[key].nullable else key
    day_from, more = _day_from(guesses) if samples.undated else (None, [])
    files = {
        "__init__.py": f'"""The source {name}."""\n',
        "contract.sql": render.contract_sql(name, columns, guesses, key, day_from),
        "defs.yaml": render.defs_yaml(name, samples, columns, guesses, day_from),
    }
    with _written_aside(target, files) as aside:
        spec = _loaded(aside, samples, columns)
        accepted, rejected, reasons = _judged(spec, samples)
    review = [
        *samples.notes,
        *more,
        *_review_rows(accepted, reasons, len(samples.each)),
        *dict.fromkeys(note for sample in samples.each for note in _review_day(spec, sample)),
        *_review_absent(samples, columns),
        *_review_totals(totals),
        *(f"{column}: {_shown(guess)}" for column, guess in guesses.items() if guess.settings),
        *(f"{column}: {note}" for column, guess in guesses.items() for note in guess.notes),
        f"primary key: {key}, unique in the sample" if key else "primary key: none is evident; add one if there is one",
        "empty_days, deadline: whether a day without a file is empty or missing, and when it should be there",
    ]
    return Made(target, accepted, rejected, tuple(review), len(samples.each))


def _day_from(guesses: Mapping[str, Guess]) -> tuple[str, list[str]]:
    """The column that says the day of a row, where no name does, and what to review about that."""
    days = [column for column, guess in guesses.items() if guess.type in ("DATE", "TIMESTAMP", INSTANT)]
    if not days:
        raise CannotUse(
            "neither its name nor its folders hold a date, and no column holds dates or times: nothing says of which "
            "day a row is. Name a sample that lies in a folder of its day, like 2025-03-20/, the way it will arrive"
        )
    chosen = min(days, key=lambda column: (guesses[column].nullable, guesses[column].type != "DATE"))
    others = ", ".join(column for column in days if column != chosen)
    which = f"; it could be {others} as well" if others else ""
    return chosen, [
        f"day_from: no name says a day, so a row is of the day in {chosen}{which}",
        "files_per_day: what two files do that hold the same day: many, latest or every (docs/sources.md)",
    ]


def _shown(guess: Guess) -> str:
    return ", ".join(f"{key} {render.yaml_of(value)}" for key, value in guess.settings.items())


def _review_absent(samples: Samples, columns: Mapping[str, str]) -> Iterator[str]:
    for header in samples.optional:
        yield f"{columns[header]}: some samples have no such column, so files may lack it (optional)"


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


def _review_totals(totals: Sequence[str]) -> Iterator[str]:
    for line in totals[:1]:
        yield (
            f"last line: {line!r} looks like a total, and would be stored as a row; say skip_rows_where (SQL) or "
            "footer_lines: 1, and let `expect` compare it"
        )


def _read(samples: Samples, columns: Mapping[str, str]) -> tuple[dict[str, Evidence], str | None, list[str]]:
    """What is in every column, from all rows of the samples, the one column that is evidently a key, and last rows
    that look like totals."""
    seen = {column: Evidence() for column in columns.values()}
    keys: dict[str, dict[date | None, list[pa.ChunkedArray]]] = {
        name: {} for name in columns.values() if _IDENTIFIER.fullmatch(name)
    }
    broken = ""
    totals: list[str] = []
    for sample in samples.each:
        last: list[str] = []
        for batch in judge.read(sample.path, sample.as_text(), sample.path.name, sample.day or NO_DAY):
            if batch.rejects.num_rows and not broken:
                broken = f"line {batch.rejects['source_line'][0]}: {batch.rejects['reason'][0]}"
            if batch.rows.num_rows:
                last = [
                    value.as_py() or "" for column in batch.rows.columns[: len(sample.header)] for value in column[-1:]
                ]
            for number, header in enumerate(sample.header):
                texts = batch.rows.column(number)
                seen[columns[header]].see(texts.combine_chunks())
                if columns[header] in keys:
                    keys[columns[header]].setdefault(sample.day, []).append(texts)
        totals += [",".join(last)[:80]] if any(_TOTAL.fullmatch(value) for value in last) else []
    if not any(evidence.rows for evidence in seen.values()):
        raise CannotUse(f"none of its rows can be read; {broken}" if broken else "it has no rows to guess types from")
    return seen, next((key for key, days in keys.items() if _is_key(days, seen[key])), None), totals


def _is_key(days: Mapping[date | None, list[pa.ChunkedArray]], evidence: Evidence) -> bool:
    """A value of its own in every row of a day; one row alone proves nothing."""
    if evidence.rows < 2 or evidence.empty:
        return False
    for texts in days.values():
        every = pa.chunked_array([chunk for text in texts for chunk in text.chunks], pa.string())
        if len(every.unique()) != len(every):
            return False
    return True


def _guess(samples: Samples, header: str, evidence: Evidence, column: str, ask: Ask) -> Guess:
    """The type that the files declare, where they do and all values fit it; else what the texts say."""
    if header in samples.json:
        return Guess("JSON", evidence.guess().nullable, ("nested values, kept as JSON",))
    if samples.format != "parquet" or header not in samples.types:
        return _written(evidence, column, ask)
    guess, kind = evidence.guess(), declared(samples.types[header])
    notes = {DOUBLE: ("floating point in the file; DECIMAL if it is money",), INSTANT: guess.notes}.get(kind, ())
    strangers = evidence.strangers_to(kind)
    if not strangers:
        return Guess(kind, guess.nullable, notes)
    if all(text.lower() in MISSING for text in strangers):
        return Guess(kind, True, notes, {"null_values": strangers})
    return Guess("VARCHAR", guess.nullable, (f"text, because {strangers[0]!r} is no {kind}",))


def _written(evidence: Evidence, column: str, ask: Ask) -> Guess:
    """How the values are written; a question that nobody answered is something to review."""
    open_ones: list[str] = []

    def asked(question: str, answers: Sequence[str]) -> str | None:
        answer = ask(question, answers)
        if answer not in answers:
            riddle = question.removeprefix(f"{column}: ")
            open_ones.append(f"text, since the sample does not tell: {riddle} {' or '.join(answers)} would read it")
        return answer

    guess = evidence.guess_written(column, asked)
    return replace(guess, notes=(*guess.notes, *open_ones)) if guess.type == "VARCHAR" else guess


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


def _loaded(folder: Path, samples: Samples, columns: Mapping[str, str]) -> SourceSpec:
    """The written source, loaded as the project will load it; it has to say what was meant."""
    attributes = yaml.safe_load((folder / "defs.yaml").read_text(encoding="utf-8"))["attributes"]
    component: FileSource = FileSource.resolve_from_dict(attributes)
    if dict(component.columns) != columns or list(component.patterns) != list(samples.patterns):
        raise CannotUse("the name of the file or of a column means something else in YAML; write this source by hand")
    return component.spec(folder)


def _judged(spec: SourceSpec, samples: Samples) -> tuple[int, int, list[str]]:
    """The samples as the written source judges them: rows accepted, rows rejected, and the first reason of each."""
    accepted = rejected = 0
    reasons: list[str] = []
    for sample in samples.each:
        first = ""
        try:
            span = None if sample.day else (spec.start_date, utc.now().date() + utc.ONE_DAY)
            for batch in judge.read_file(SourceFile(sample.path, sample.path.name, sample.day, span=span), spec):
                if batch.rejects.num_rows and not first:
                    first = f"line {batch.rejects['source_line'][0]}: {batch.rejects['reason'][0]}"
                accepted += batch.rows.num_rows
                rejected += batch.rejects.num_rows
        except FileRefused as refused:
            if len(samples.each) == 1:
                raise
            first = f"the whole file would be refused: {refused}"
        reasons += [f"{sample.path.name}: {first}"] if first else []
    return accepted, rejected, reasons


def _review_rows(accepted: int, reasons: Sequence[str], samples: int) -> Iterator[str]:
    if accepted < FEW_ROWS:
        yield f"types and NOT NULL: guessed from {accepted} rows only"
    if reasons:
        many = f"{len(reasons)} of {samples} samples have some; " if samples > 1 else ""
        yield f"rejected rows: {many}the first is {reasons[0] if samples > 1 else reasons[0].partition(': ')[2]}"
        yield from (f"rejected rows: {reason}" for reason in reasons[1:SHOWN_SAMPLES])


def _review_day(spec: SourceSpec, sample: Sample) -> Iterator[str]:
    if sample.day is None:
        return
    if sample.day < spec.start_date:
        yield f"file name: {sample.day} lies before ETL_START_DATE, {spec.start_date}; such files are refused"
    if sample.day > utc.now().date():
        yield f"file name: {sample.day} lies ahead; such a file waits for its day"
