"""Owner: one deployment takes in what comes to a prefix; a second one is told so.

Belongs here: the object `.etl/owner.json`, made by a PUT that only the first one wins. Two deployments would each have
a part of the files, and days built from their part: nobody would see that. Machines that share a data folder are one
deployment (`exclusion.deployment`).
"""

from __future__ import annotations

import json
import socket
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from etl_project import utc
from etl_project.exclusion import deployment
from etl_project.failures import Permanent

if TYPE_CHECKING:
    from etl_project.storage import Objects

OWNER = ".etl/owner.json"
_MOST_BYTES = 10_000


class AnothersPrefix(Permanent):
    """Another deployment takes in what comes to this prefix. Nothing was changed; retrying does not help."""


def claim(objects: Objects, data_dir: Path) -> None:
    """From now on what comes below the prefix is this data folder's, or it was already.

    Raises AnothersPrefix where it is another one's, StoreUnavailable (retrying helps) where nobody answers.
    """
    from etl_project.storage import Conflict  # noqa: PLC0415  # Needs an extra.

    own = deployment.own_id(data_dir)
    if _owner(objects) is None:
        who = {"id": own, "host": socket.gethostname(), "folder": str(data_dir), "since": utc.now().isoformat()}
        with suppress(Conflict):
            objects.put(OWNER, json.dumps(who, indent=2).encode(), None)
    _refuse_another(objects, own)


def look(objects: Objects, data_dir: Path) -> bool:
    """Whether the prefix is this data folder's already; nothing is changed. Raises as `claim`."""
    if _owner(objects) is None:
        return False
    _refuse_another(objects, deployment.known_id(data_dir))
    return True


def _refuse_another(objects: Objects, own: str | None) -> None:
    owner = _owner(objects) or {}
    if owner.get("id") != own:
        raise AnothersPrefix(
            f"{objects.shown} is taken in by the deployment in {owner.get('folder')} on {owner.get('host')} (since "
            f"{owner.get('since')}): of two, each would have a part of the files. Give each its own prefix. If that "
            f"one is gone for good, remove {objects.shown}/{OWNER}; likewise if it is this one, and its "
            f"{deployment.FILE} was lost."
        )


def _owner(objects: Objects) -> dict[str, str] | None:
    found = objects.tail(OWNER, _MOST_BYTES)
    return None if found is None else _read(found[0])


def _read(content: bytes) -> dict[str, str]:
    try:
        found = json.loads(content)
    except ValueError:
        return {}
    return {key: str(value) for key, value in found.items()} if isinstance(found, dict) else {}
