"""Passed on: values between ops that are no asset, as files of the run.

Belongs here: what a job of ops, the ops inside a graph asset and dynamic outputs hand to each other where one of our IO
managers is the default. They are no rows of any table, so they are kept as Dagster keeps them by default: pickled, in
the instance's storage, one file a run, step and output. Retrying a step writes the same file again.
"""

from __future__ import annotations

from typing import Any

import dagster as dg

from etl_project.storage.contract import WriteRefused


def keep(context: dg.OutputContext, value: Any) -> None:
    """Keep the value for the run's later steps. Raises WriteRefused (retrying does not help) for what no file takes."""
    try:
        _files(context.step_context.instance).handle_output(context, value)
    except (TypeError, AttributeError, ImportError) as error:  # What pickle says of a stream or a connection.
        raise WriteRefused(
            f"The output {context.name!r} of {context.step_context.step.key!r} is no asset, so it is handed on "
            f"as a file, and a {type(value).__name__} cannot be one: {error}. Retrying does not help. Return a "
            "frame or a pyarrow.Table, or give the output another `io_manager_key`."
        ) from error


def fetch(context: dg.InputContext) -> Any:
    """The value that an earlier step of the run handed on."""
    return _files(context.step_context.instance).load_input(context)


def _files(instance: dg.DagsterInstance) -> Any:
    # With a folder given, the context is not looked at.
    return dg.FilesystemIOManager(base_dir=instance.storage_directory()).create_io_manager(None)  # type: ignore[arg-type]
