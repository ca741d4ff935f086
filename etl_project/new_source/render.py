"""Render: the two files of a source as text a person can read, review and change.

Belongs here: their wording. Does not belong here: any guess.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import yaml

from etl_project.new_source.column_names import quoter
from etl_project.new_source.column_types import INSTANT, Guess
from etl_project.new_source.samples import Samples

_DEFS = """\
# Where the files of {name} come from and how they are read; what a row is says contract.sql.
# Guessed by `etl new-source` from a sample: review it.
type: etl_project.sources.component.FileSource

attributes:
  name: {name}  # files arrive in incoming/{name}/
  patterns:  {dates}
{patterns}{reading}  time_zone: UTC  # of local times in the files, like Europe/London
  files_per_day: many  {add_up}
  empty_days: missing  # a day without a file is missing; allowed: it is an empty day
  # deadline: "06:00"  # UTC time of the next day by which the file of a day must be there
  max_rejected_ratio: 0.01  # more broken rows than this, and the file goes to quarantine
  max_removed_ratio: 0.5  # a corrected file that takes more of a day away than this is refused unless it is said
  # checks:  # of the rows of each day; blocking: true holds back what is built of a bad day, severity: warn only tells
  #   - {{check: row_count, min: 1}}
  #   - {{check: not_null, columns: [{first}]}}
{range}{ends}  columns:  # header of the file: column of the table
{columns}{optional}{settings}"""

_RANGE = "  #   - {{check: accepted_range, columns: [{number}], min: 0}}\n"
_NUMBERS = ("BIGINT", "DOUBLE", "DECIMAL")
_DATES = "# {date} is the batch date of the file, YYYY-MM-DD, {date:%Y%m%d} one of that form; * is anything"
_ADD_UP = "# several files for a day add up; latest: the newest one is the day"
_ADD_UP_UNDATED = "# other files add up, one of the same name replaces its days; latest: the newest is the day; every"

_CONTRACT = """\
-- What a row of {name} is, and the one place that says it. Guessed by `etl new-source` from a sample: review it.
{key_comment}
CREATE TABLE {table} (
{columns}
);
COMMENT ON TABLE {table} IS 'Rows of the files of {name}';
{comments}"""

_SHORT = {INSTANT: "TIMESTAMPTZ"}
_KEY = "-- Primary key: {key} has a value of its own in every row of the sample; a day that repeats one is refused."
_NO_KEY = (
    "-- No primary key: no column of the sample is evidently one. Add PRIMARY KEY (batch_date, ...) where there is one."
)


def defs_yaml(
    name: str, samples: Samples, columns: dict[str, str], guesses: Mapping[str, Guess], day_from: str | None = None
) -> str:
    """The `defs.yaml`: how the files are read."""
    reading = {"format": yaml_of(samples.format)}
    if day_from is not None:
        reading["day_from"] = f"{yaml_of(day_from)}  # a row is of this day; files may hold any number of days"
    if samples.format == "csv":
        reading["delimiter"] = yaml_of(samples.delimiter)
    if samples.format not in ("parquet", "xlsx"):
        encodings = list(samples.encodings)
        reading["encoding"] = yaml_of(encodings if len(encodings) > 1 else encodings[0])
    reading |= {word: yaml_of(value) for word, value in samples.words.items()}
    written = {column: guess.settings for column, guess in guesses.items() if guess.settings}
    lines = "".join(f"    {yaml_of(column)}: {yaml_of(dict(settings))}\n" for column, settings in written.items())
    number = next((column for column, guess in guesses.items() if guess.type.startswith(_NUMBERS)), None)
    return _DEFS.format(
        name=name,
        range="" if number is None else _RANGE.format(number=yaml_of(number)),
        first=yaml_of(next(iter(columns.values()))),
        dates=_DATES if day_from is None else "# * is anything",
        add_up=_ADD_UP if day_from is None else _ADD_UP_UNDATED,
        patterns="".join(f"    - {yaml_of(pattern)}\n" for pattern in samples.patterns),
        optional="" if not samples.optional else f"  optional: {yaml_of([columns[one] for one in samples.optional])}\n",
        settings="" if not lines else f"  column_settings:  # how the values of these columns are written\n{lines}",
        ends="" if samples.ends else "  unended_last_line: accept  # the last line of a sample has no line end\n",
        reading="".join(f"  {key}: {value}\n" for key, value in reading.items()),
        columns="".join(f"    {yaml_of(header)}: {yaml_of(column)}\n" for header, column in columns.items()),
    )


def contract_sql(
    name: str, columns: dict[str, str], guesses: dict[str, Guess], key: str | None, day_from: str | None = None
) -> str:
    """The `contract.sql`: what a row is. `columns`: name in the file -> column; `guesses`: by column."""
    quoted = quoter()
    declared = {"batch_date": Guess("DATE", nullable=False), **guesses}
    declared = {column: replace(guess, type=_SHORT.get(guess.type, guess.type)) for column, guess in declared.items()}
    width = max(len(quoted(column)) for column in declared)
    broad = max(len(guess.type) for guess in declared.values())
    lines = [
        f"    {quoted(column):{width}} {guess.type:{broad}} {'' if guess.nullable else 'NOT NULL'}".rstrip()
        for column, guess in declared.items()
    ]
    day = "the date in the name of the file" if day_from is None else f"the day of {day_from}"
    notes = {"batch_date": f"UTC batch date: {day}"}
    notes |= {column: f"{original or 'A column without a name'} in the file" for original, column in columns.items()}
    return _CONTRACT.format(
        name=name,
        table=quoted(name),
        columns=",\n".join([*lines, *([f"    PRIMARY KEY (batch_date, {quoted(key)})"] if key else [])]),
        key_comment=_NO_KEY if key is None else _KEY.format(key=key),
        comments="".join(
            f"COMMENT ON COLUMN {quoted(name)}.{quoted(column)} IS {_literal(note)};\n"
            for column, note in notes.items()
        ),
    )


def _literal(text: str) -> str:
    """The text as SQL writes it."""
    return "'" + text.replace("'", "''") + "'"


def yaml_of(value: Any) -> str:
    """The value as YAML writes it in one line, quoted where it has to be."""
    dumped: str = yaml.safe_dump([value], default_flow_style=True, allow_unicode=True, width=2**20, sort_keys=False)
    return dumped[1:-2]
