"""The names of a source's assets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True)
class Names:
    """The asset names of a source."""

    files: str
    raw: str
    rejects: str
    typed: str

    @classmethod
    def of(cls, source: str) -> Self:
        """All four follow from the name of the source."""
        return cls(f"{source}_files", f"raw_{source}", f"{source}_rejects", source)
