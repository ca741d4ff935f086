"""Intake: from the drop folder to the archive: which files there are, and how one becomes an accepted version."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    {
        "admit",
        "archive",
        "kept",
        "lost",
        "lots",
        "notices",
        "plausible",
        "private_copy",
        "quarantine",
        "removal",
        "scan",
        "spread",
        "stray",
        "threads",
        "writers",
    },
)
