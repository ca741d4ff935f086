"""Lake: partitions as files, one a partition, the commit record inside."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__, {"draft", "examine", "footers", "layout", "parquet", "store", "value_sizes", "write"}
)
