"""Lake: partitions as files, one a partition, the commit record inside."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    {
        *("address", "bucket", "bucket_versions", "conditions", "copies", "draft", "examine", "files", "footer"),
        *(
            "footers",
            "layout",
            "names",
            "objects",
            "parquet",
            "refusals",
            "store",
            "trial",
            "value_sizes",
            "versions",
            "write",
        ),
    },
)
