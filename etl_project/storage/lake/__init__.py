"""Lake: partitions as files, one a partition, the commit record inside; in a folder or in a bucket."""

import lazy_loader

_SHARED = {
    "draft",
    "examine",
    "files",
    "footer",
    "footers",
    "former",
    "names",
    "parquet",
    "store",
    "value_sizes",
    "write",
}
_FOLDER = {"layout", "versions"}
_BUCKET = {"address", "bucket", "bucket_versions", "conditions", "copies", "objects", "refusals", "trial"}

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, _SHARED | _FOLDER | _BUCKET)
