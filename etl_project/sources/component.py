"""The component: one `defs.yaml` declares a source, and everything from its drop folder to its typed table follows.

Belongs here: the words of the YAML, checked when it is loaded, and the assembly of the pipeline's folder. The assets
themselves are in `incoming.assets`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import time
from pathlib import Path
from typing import Annotated, Literal

import dagster as dg
from pydantic import AfterValidator, BaseModel, Field

from etl_project import settings
from etl_project.declare import contracts, table_contract
from etl_project.sources import assets as incoming_assets
from etl_project.sources import yaml_words
from etl_project.sources.check_words import CheckWords
from etl_project.sources.reading.formats import FORMATS
from etl_project.sources.reading.layout import UNKNOWN_COLUMNS
from etl_project.sources.reading.layout_words import LayoutWords
from etl_project.sources.reading.rows.row_words import RowWords, UnusableSql
from etl_project.sources.reading.values import value_words
from etl_project.sources.reading.values.value_settings import PLAIN
from etl_project.sources.reading.values.value_words import ValueWords
from etl_project.sources.scaffold import SourceScaffolder
from etl_project.sources.spec import (
    DEFAULT_EXPANDED_BYTES,
    DEFAULT_LINE_BYTES,
    SourceColumn,
    SourceSpec,
    SpecError,
)
from etl_project.storage import PUBLISH

PYTHON_BESIDE = ("assets.py", "checks.py")


def _number_or_age(kept: int | str) -> int | str:
    if settings.versions_kept(kept) is None:
        raise ValueError(f"a number from 0 to {settings.MOST_VERSIONS}, like 3, or an age, like 30d")
    return kept


@dg.scaffold_with(SourceScaffolder)
class FileSource(dg.Component, ValueWords, RowWords, LayoutWords, dg.Resolvable):
    """A drop folder whose daily files become a raw Parquet asset, a typed table and a table of rejected rows.

    The folder of the `defs.yaml` also holds `contract.sql` (the table) and, if there is more to build, `assets.py` and
    `checks.py`.
    """

    name: str = Field(description="Name of the source: files arrive in incoming/<name>/, the table has this name.")
    patterns: Sequence[str] = Field(description="File names, `*` for anything and `{date}` for the batch date.")
    columns: Mapping[str, str] = Field(description="Header of the file: column of the table, in the file's order.")
    computed: Mapping[str, str] = Field(
        default={},
        description="Column of the table: SQL over the raw rows (the columns above, source_file, source_line).",
    )
    format: str = Field(default="csv", description=f"{', '.join(FORMATS)}; .gz and .zst by the name of the file.")
    delimiter: str | Sequence[str] | None = Field(
        default=None,
        description="Between two fields; a comma (tsv: a tab). `whitespace`: any blanks. A list: what files may have.",
    )
    encoding: str | Sequence[str] = Field(
        default="utf-8", description="Character encoding; of several, the first that fits all bytes of a file."
    )
    valid_utf8: Literal["refuse", "as_utf8", "as_declared"] = Field(
        default="refuse",
        description="What a file in UTF-8 with letters beyond ASCII is, where `encoding` says another one.",
    )
    time_zone: str = Field(default="UTC", description="IANA zone of local times in the files.")
    files_per_day: Literal["many", "latest", "every"] = Field(
        default="many",
        description="`many`: files of a day add up. `latest`: the newest one is the day. With `day_from`, `every`: all "
        "add up, also those of one name.",
    )
    empty_days: Literal["missing", "allowed"] = Field(
        default="missing", description="What a closed day without a file is: missing (nothing is written) or empty."
    )
    max_rejected_ratio: float = Field(default=0.01, description="More broken rows refuse the whole file.")
    max_expanded_bytes: int = Field(
        default=DEFAULT_EXPANDED_BYTES, description="A file that is larger once decompressed is refused."
    )
    max_line_bytes: int = Field(
        default=DEFAULT_LINE_BYTES, description="A file with a longer line (CSV: record) is refused."
    )
    max_removed_ratio: float | None = Field(
        default=0.5, description="A file, or a rerun, that would shrink a day by more than this is refused; null: none."
    )
    max_changed_ratio: Annotated[float, Field(ge=0, le=1)] | None = Field(
        default=None, description="A rerun after which more of a day's rows are gone or others is refused."
    )
    max_sum_change: Mapping[str, float] = Field(
        default={}, description="Column: a rerun that moves its sum over a day by more than this share is refused."
    )
    keep_versions: Annotated[int | str, AfterValidator(_number_or_age)] | None = Field(
        default=None,
        description="Replaced versions of each day that stay readable, in every table of the folder: a number, or an "
        "age like 30d; ETL_KEEP_VERSIONS where nothing is said.",
    )
    publish: Literal["after_checks"] | None = Field(
        default=None,
        description="`after_checks`: new rows of the table reach readers once its blocking checks passed on them.",
    )
    unended_last_line: Literal["refuse", "accept"] = Field(
        default="refuse", description="What a file is whose last line has no end, where other files end theirs."
    )
    same_content_on_days: Literal["refuse", "accept"] = Field(
        default="refuse", description="What a file is whose content another day of the source has already."
    )
    date_column: str | None = Field(
        default=None, description="Column whose day is the day of the file; a row of another day is a reject."
    )
    day_from: str | None = Field(
        default=None,
        description="Files have no day in their name: column of the table whose day is that of its row, any number of "
        "days in a file.",
    )
    days_left_out: Literal["keep", "remove"] | None = Field(
        default=None,
        description="With `day_from`: whether days that a newer file of the same name holds no more keep their rows.",
    )
    business_zone: str | None = Field(
        default=None, description="IANA zone whose days the files, and the rows by `event_column`, are of; else UTC."
    )
    event_column: str | None = Field(
        default=None, description="Rows belong to the UTC day of this column instead of the day of their file."
    )
    lateness_days: int = Field(
        default=0, description="How many days before its own day a file may carry rows for, by `event_column`."
    )
    deduplicate_on: Sequence[str] = Field(
        default=(), description="Columns that name a row, for senders that repeat themselves: the first one is kept."
    )
    deadline: str | None = Field(
        default=None, description="UTC time of the following day by which the file of a day must be there, like 06:00."
    )
    drift: Literal["evolve", "freeze"] = Field(default="evolve", description="What a changed contract may do.")
    owners: Sequence[str] = Field(
        default=(), description="Owners of all assets of the folder: e-mail addresses or team:NAME."
    )

    checks: Sequence[CheckWords] = Field(
        default=(),
        description="Checks of the rows of each day: not_null, unique, accepted_values, accepted_range, row_count; "
        "freshness.",
    )
    column_settings: Mapping[str, ValueWords] = Field(
        default={},
        description="Column of the table: how its values are written, where not as in the other columns of the source.",
    )

    @classmethod
    def get_model_cls(cls) -> type[BaseModel] | None:
        """As Dagster derives it, with what an editor and `dg check yaml` can know beyond the types."""
        model = super().get_model_cls()
        if model is not None:
            model.model_config["json_schema_extra"] = yaml_words.rules
        return model

    def spec(self, folder: Path) -> SourceSpec:
        """The source as the incoming layer takes it.

        Raises ContractError where YAML and contract do not fit, SpecError for settings that cannot work.
        """
        try:
            return self._spec(folder)
        except (SpecError, UnusableSql) as error:
            raise SpecError(f"{folder / 'defs.yaml'}: {error}") from None

    def _spec(self, folder: Path) -> SourceSpec:
        contract = self.contract(folder)
        self._refuse_mismatch(contract)
        types = {column.name: column for column in contract.columns}
        if self.max_removed_ratio is not None and not 0 < self.max_removed_ratio <= 1:
            raise SpecError(
                f"max_removed_ratio is {self.max_removed_ratio}; it must be above 0 and at most 1, like 0.5, or null"
            )
        configured = settings.load()
        return SourceSpec(
            name=self.name,
            patterns=tuple(self.patterns),
            format=self.format,
            delimiter=self._delimiters()[0],
            encoding=self._encodings()[0],
            other_encodings=self._encodings()[1:],
            valid_utf8=self.valid_utf8,
            columns=dict(self.columns),
            types=tuple(SourceColumn(name, types[name].type, types[name].nullable) for name in self._filled()),
            layout=self.layout(self._delimiters()[1:]),
            time_zone=self.time_zone,
            files_per_day=self.files_per_day,
            empty_days=self.empty_days,
            max_rejected_ratio=self.max_rejected_ratio,
            max_expanded_bytes=self.max_expanded_bytes,
            max_line_bytes=self.max_line_bytes,
            settle_seconds=configured.settle_seconds,
            quiet_seconds=configured.quiet_seconds,
            start_date=configured.start_date,
            event_column=self.event_column,
            lateness_days=self.lateness_days,
            deduplicate_on=tuple(self.deduplicate_on),
            deadline=self._deadline(),
            unended_last_line=self.unended_last_line,
            same_content_on_days=self.same_content_on_days,
            date_column=self.date_column,
            business_zone=self.business_zone,
            day_from=self._day_of_rows(),
            days_left_out=self.days_left_out,
            values=self.over(PLAIN),
            rows=self.row_settings(contract, self._filled(), self.computed),
            column_values=dict(value_words.of_columns(self, self.column_settings)),
        )

    def _day_of_rows(self) -> str | None:
        """The column that says the day of each row, where no file has a day."""
        return self.day_from

    def _encodings(self) -> tuple[str, ...]:
        return (self.encoding,) if isinstance(self.encoding, str) else (*self.encoding,) or ("",)

    def _delimiters(self) -> tuple[str, ...] | tuple[None]:
        if self.delimiter is None:
            return (None,)
        return (self.delimiter,) if isinstance(self.delimiter, str) else (*self.delimiter,) or ("",)

    def _filled(self) -> list[str]:
        """The columns of the table that files fill, each once."""
        kept = (UNKNOWN_COLUMNS,) if self.unknown_columns == "keep" else ()
        return [*dict.fromkeys((*self.columns.values(), *kept))]

    def _deadline(self) -> time | None:
        try:
            return time.fromisoformat(self.deadline) if self.deadline is not None else None
        except ValueError:
            raise SpecError(
                f"source {self.name!r}: deadline {self.deadline!r} is no time of day; write it in quotes, like '06:00'"
            ) from None

    def contract(self, folder: Path) -> contracts.TableContract:
        """The table of this source, from the `contract.sql` in its folder."""
        return table_contract(folder, self.name)

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """All definitions of this pipeline's folder: the source's own, and those of the Python beside it."""
        own = incoming_assets.definitions(self.spec(context.path), self.contract(context.path), self, context.path)
        beside = [context.path / name for name in PYTHON_BESIDE if (context.path / name).exists()]
        modules = [context.load_defs_relative_python_module(path) for path in beside]
        pipeline = self._owned(dg.Definitions.merge(own, dg.load_definitions_from_modules(modules)))
        return self._limited(self._keeping_versions(pipeline))

    def _owned(self, pipeline: dg.Definitions) -> dg.Definitions:
        """The definitions; assets of the folder that name no owners have those of the source."""
        if not self.owners:
            return pipeline
        return pipeline.map_asset_specs(
            func=lambda spec: spec.replace_attributes(owners=[*(spec.owners or self.owners)])
        )

    def _keeping_versions(self, pipeline: dg.Definitions) -> dg.Definitions:
        """The definitions; assets of the folder that do not say how many versions they keep do as the source."""
        if self.keep_versions is None:
            return pipeline
        kept = {"keep_versions": self.keep_versions}
        return pipeline.map_asset_specs(func=lambda spec: spec.replace_attributes(metadata={**kept, **spec.metadata}))

    def _limited(self, pipeline: dg.Definitions) -> dg.Definitions:
        """The definitions; the table of the source has its limits of what a rerun may change, and is published so."""
        limits = {"max_changed_ratio": self.max_changed_ratio, "max_sum_change": dict(self.max_sum_change) or None}
        said = {name: limit for name, limit in {**limits, PUBLISH: self.publish}.items() if limit is not None}
        if not said:
            return pipeline
        own = dg.AssetKey(self.name)
        return pipeline.map_asset_specs(
            func=lambda spec: spec.replace_attributes(metadata={**said, **spec.metadata}) if spec.key == own else spec
        )

    def _refuse_mismatch(self, contract: contracts.TableContract) -> None:
        """Every column of the table comes from the file, is computed, or is the batch date; all differences at once."""
        known = {column.name for column in contract.columns}
        given = [*self._filled(), *self.computed]
        problems = [f"column {name} is not in CREATE TABLE {self.name}" for name in given if name not in known]
        if UNKNOWN_COLUMNS in given and UNKNOWN_COLUMNS not in known:
            problems.append(f"unknown_columns: keep needs it, like `{UNKNOWN_COLUMNS} JSON`")
        problems += [f"column {name} is given twice" for name in sorted({n for n in given if given.count(n) > 1})]
        problems += [
            f"column {name} of CREATE TABLE {self.name} comes from nowhere: name it under columns or computed"
            for name in sorted(known - set(given) - {"batch_date"})
        ]
        problems += [
            f"max_sum_change names {n}, which is no column of it" for n in self.max_sum_change if n not in known
        ]
        if "batch_date" not in known:
            problems.append(f"CREATE TABLE {self.name} needs a column batch_date DATE NOT NULL")
        if problems:
            raise contracts.ContractError(
                f"Source {self.name}: defs.yaml and contract.sql differ: {'; '.join(problems)}."
            )


def folders_with_defs(root: Path) -> list[Path]:
    """The folders right below `root` that declare a component; hidden ones do not count, as in Dagster."""
    return sorted(path.parent for path in root.glob("[!.]*/defs.yaml"))
