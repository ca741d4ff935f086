"""CSV: blocks, grammar and records of delimited text."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, {"blocks", "dialect", "grammar", "records", "start"})
