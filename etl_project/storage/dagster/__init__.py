"""Dagster: the storage contract as IO managers. The only part of `storage` that knows an orchestrator."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    {
        "asked",
        "conversions",
        "declared",
        "events",
        "file_io_managers",
        "input_metadata",
        "internals",
        "io_manager",
        "lineage",
        "one_table",
        "own_rows",
        "partition_lock",
        "passed_on",
        "preview",
        "received",
        "reporting",
        "scopes",
    },
)
