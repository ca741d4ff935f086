"""Prove: rebuild one day of one asset again and again, on the side, and see whether the rows are the same.

`subject` finds out what is rebuilt and what it reads, `scratch` lays copies of it out, `rebuild` is the process that
rebuilds, `proof` runs it under different circumstances and compares. Nothing here writes outside a temporary folder."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, {"compare", "proof", "rebuild", "scratch", "subject"})
