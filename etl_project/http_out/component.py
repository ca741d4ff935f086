"""The component of a delivery: one `defs.yaml` says which table is posted, day by day.

Belongs here: the words of the YAML. Where it is posted to, says the environment alone (ETL_DELIVERY_URL).
"""

from __future__ import annotations

import dagster as dg
from pydantic import Field

from etl_project.http_out import settings
from etl_project.http_out.assets import delivery_asset

_NAME = "^[A-Za-z][A-Za-z0-9_]*$"


class DeliveredTable(dg.Component, dg.Model, dg.Resolvable):
    """A daily table with one row a day that is posted as JSON, once for each content of a day.

    What was confirmed is kept as rows of a table of its own. Without ETL_DELIVERY_URL there is neither.
    """

    table: str = Field(pattern=_NAME, description="The asset whose rows are posted.")
    name: str = Field(pattern=_NAME, description="The asset and table of what was confirmed.")

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """The asset, where there is an address to post to; it needs the resource `delivery`."""
        sending = settings.outgoing()
        if sending is None:
            return dg.Definitions()
        return dg.Definitions(assets=[delivery_asset(self.table, self.name, sending.since)])
