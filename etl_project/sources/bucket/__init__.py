"""Bucket: objects of a bucket as files in the drop folders, and back: what became of each is said where it came from.

An object is fetched into the drop folder of its source, where it is a file as any other. Once it is accepted or
refused, its bytes lie under `archive` or `quarantine` in the bucket, and it leaves the prefix it came in by.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    {
        "fetch",
        "handed",
        "looking",
        "outcome",
        "owner",
        "sorting",
    },
)
