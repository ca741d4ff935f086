"""Storage: partitions that are replaced as a whole, in any Dagster project.

`DuckDBPartitionIOManager` and `ParquetPartitionIOManager` are all that most projects need; `Sql` and `Slice` let an
asset run a query inside the writing transaction; `receipts_of` notes what an asset's body reads by itself.
"""

from etl_project.storage.contract import Commit, Partial, Slice, Sql, StoreBusy
from etl_project.storage.dagster.declared import checked
from etl_project.storage.dagster.io_manager import DuckDBPartitionIOManager, ParquetPartitionIOManager
from etl_project.storage.engines.duckdb_file import DuckDBStore
from etl_project.storage.judging.receipts import receipts_of
from etl_project.storage.lake.store import ParquetStore

__all__ = [
    "Commit",
    "DuckDBPartitionIOManager",
    "DuckDBStore",
    "ParquetPartitionIOManager",
    "ParquetStore",
    "Partial",
    "Slice",
    "Sql",
    "StoreBusy",
    "checked",
    "receipts_of",
]
