"""Scaffold: what `dg scaffold defs` writes for a source: a `defs.yaml` and a `contract.sql` that load as they are.

Belongs here: the example. A source from a sample of its files is made by `etl new-source`, which guesses the columns.
"""

from __future__ import annotations

from typing import Any

import dagster as dg
from dagster.components.component_scaffolding import scaffold_component

CONTRACT = """\
-- What a row of {name} is. Put your own columns here, and their names in the files into defs.yaml.
CREATE TABLE {name} (
    batch_date DATE NOT NULL,
    id         VARCHAR NOT NULL,
    amount     DECIMAL(12, 2)
);
"""


class SourceScaffolder(dg.Scaffolder[Any]):
    """Writes the two files of a source named after its folder."""

    def scaffold(self, request: dg.ScaffoldRequest[Any]) -> None:
        """A source with two columns in CSV files, one or more a day."""
        name = request.target_path.name
        columns = {"id": "id", "amount": "amount"}
        scaffold_component(request, {"name": name, "patterns": [f"{name}_{{date}}.csv"], "columns": columns})
        (request.target_path / "contract.sql").write_text(CONTRACT.format(name=name))
