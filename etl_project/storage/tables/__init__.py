"""Tables: partitions as rows of SQL tables, in whatever catalog an engine opens."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    {
        *("aside", "contract_sql", "conversion", "engine", "examine", "judged"),
        *("owners", "records", "reshape", "shape", "store", "table", "transactions", "write"),
    },
)
