"""Formats: the registry of file formats. A new format is a module of its own and one line here.

Belongs here: which formats there are, under the word that `format:` knows them by. Does not belong here: reading.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from etl_project.sources.reading import fixed_width, json_records, jsonl, parquet, xlsx
from etl_project.sources.reading.csv import records
from etl_project.sources.reading.file_format import FileFormat

FORMATS: Mapping[str, FileFormat] = MappingProxyType(
    {
        "csv": records.CSV,
        "tsv": records.TSV,
        "jsonl": jsonl.JSONL,
        "json": json_records.JSON,
        "fixed": fixed_width.FIXED,
        "parquet": parquet.PARQUET,
        "xlsx": xlsx.XLSX,
    }
)
