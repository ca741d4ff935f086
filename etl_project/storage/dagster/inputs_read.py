"""Inputs read: which partitions of which inputs a commit was made of, as metadata of its event.

Belongs here: the receipts of a step, by what was written. It is said only where somebody asks for it: it can be long.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import dagster as dg

from etl_project.storage.dagster.internals import step_of
from etl_project.storage.dagster.lineage import parents_of
from etl_project.storage.judging.receipts import CONFIG, receipts_of

INPUTS_READ = "inputs_read"
"""The event metadata: a list of [asset, partition, fingerprint], the last two null where there is none."""


def said_of(context: dg.OutputContext, partitions: Iterable[str | None]) -> Mapping[str | None, dict[str, Any]]:
    """For each partition that was committed, what was read for it."""
    step, keys = step_of(context), list(partitions)
    if step is None:
        return {}
    read = receipts_of(step).read_for(parents_of(step, context.asset_key, keys))
    return {
        key: {INPUTS_READ: dg.MetadataValue.json([list(one) for one in dict.fromkeys(read[key]) if one[0] != CONFIG])}
        for key in keys
    }
