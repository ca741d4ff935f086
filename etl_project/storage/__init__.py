"""Storage: partitions that are replaced as a whole, in any Dagster project.

`DuckDBPartitionIOManager` and `ParquetPartitionIOManager` are all that most projects need; `Sql` and `Slice` let an
asset run a query inside the writing transaction; `receipts_of` notes what an asset's body reads by itself.

Other packages come in here; what they may use stands in `__init__.pyi`, and is loaded when it is used.
"""

from etl_project.extras import door

__getattr__, __dir__, __all__ = door(__name__, __file__)
