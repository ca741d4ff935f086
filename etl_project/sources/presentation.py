"""What the UI shows of a source: the columns of its raw rows, and for each day where its archived files are.

Belongs here: descriptions and links for a person. Nothing is stored or decided by them.
"""

from __future__ import annotations

from datetime import date
from pathlib import Path

import dagster as dg

from etl_project.declare import contracts
from etl_project.sources.intake import archive
from etl_project.sources.spec import SourceSpec
from etl_project.utc import ONE_DAY

_ADDED = (
    ("batch_date", "DATE", "UTC batch date: the date in the name of the file"),
    ("source_file", "VARCHAR", "Name of the file that the row comes from"),
    ("source_line", "BIGINT", "Line of the file on which the row begins; the header is line 1"),
)


def raw_columns(spec: SourceSpec, contract: contracts.TableContract) -> dg.TableSchema:
    """The columns of the raw rows: those that the file fills, as the contract describes them, then their origin."""
    comments = {column.name: column.comment for column in contract.columns}
    filled = [
        dg.TableColumn(
            column.name,
            column.type,
            description=comments[column.name],
            constraints=dg.TableColumnConstraints(nullable=column.nullable),
        )
        for column in spec.targets
    ]
    never_null = dg.TableColumnConstraints(nullable=False)
    return dg.TableSchema(
        [*filled, *(dg.TableColumn(name, kind, note, constraints=never_null) for name, kind, note in _ADDED)]
    )


def archived_files(spec: SourceSpec, root: Path, day: date) -> dg.MetadataValue:
    """The folder with the accepted files that the rows of a day come from; with lateness the folders, one a line."""
    folders = [archive.day_folder(root, spec, day + after * ONE_DAY) for after in range(spec.lateness_days + 1)]
    if len(folders) == 1:
        return dg.MetadataValue.path(folders[0])
    there = [folder for folder in folders if folder.is_dir()]
    return dg.MetadataValue.md("\n".join(f"* `{folder}`" for folder in there))
