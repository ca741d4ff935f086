"""Judging: what every backend asks of a write: what comes in, where it belongs, how it differs, what is recorded."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    {
        "commits",
        "deviation",
        "drift",
        "findings",
        "fingerprint",
        "gather",
        "judgement",
        "labels",
        "messages",
        "payload",
        "placement",
        "receipts",
        "row_tally",
        "selection",
        "versions",
    },
)
