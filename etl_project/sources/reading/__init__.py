"""Reading: from the bytes of one file to judged rows; a module a format."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    {
        "chunk",
        "compression",
        "csv",
        "encodings",
        "file_format",
        "file_refused",
        "fixed_width",
        "formats",
        "header",
        "in_order",
        "json_records",
        "json_values",
        "jsonl",
        "judge",
        "layout",
        "layout_words",
        "members",
        "nested",
        "parquet",
        "rows",
        "small_content",
        "small_files",
        "stream",
        "values",
        "xlsx",
    },
)
