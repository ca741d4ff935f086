"""Verify: what tables, files and Dagster hold, against what the commit records say.

`whole.verify` is the one entry. `targets` says what is looked at, `tables` and `files` look at a backend each,
`events` at Dagster's history, `archived` at the input; `findings` are the words for what they find."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__, {"archived", "events", "findings", "job", "targets", "whole"}
)
