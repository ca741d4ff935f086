"""Names: an asset's name or a partition's key as one segment of a path or of an object's key.

Belongs here: the encoding, and nothing else: folders, objects and versions are all named by it.
"""

from __future__ import annotations

from urllib.parse import quote


def encoded(name: str) -> str:
    """The name as one path segment that means nothing to a file system."""
    safe = quote(name, safe=" ")
    return safe.replace(".", "%2E") if not safe.strip(".") or safe.startswith(".") else safe
