"""Words for what is not asked for: which partitions wait, and for what.

Belongs here: one short line for many partitions that wait for the same reason, for `etl status` and the sensor.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from datetime import date

from etl_project.due.graph import Key
from etl_project.due.pending import Held, Outlook
from etl_project.utc import neighbours

_SHOWN = 10


def keys_in_words(keys: Collection[Key]) -> str:
    """Partitions for a person: neighbouring days as ranges, at most ten; the newest where there are more."""
    ranges = neighbours(key for key in keys if isinstance(key, date))
    shown = [str(first) if first == last else f"{first} to {last}" for first, last in ranges]
    shown += sorted(key for key in keys if isinstance(key, str) and key)
    more = f" and {len(shown) - _SHOWN} more ranges" if len(shown) > _SHOWN else ""
    return ", ".join(shown[-_SHOWN:]) + more


def of_asset(asset: str, outlook: Outlook) -> Iterator[str]:
    """What of an asset is not asked for, and why; one line for each reason."""
    for held in (outlook.held.get(asset, {}), outlook.lacking.get(asset, {})):
        yield from _by_reason(asset, held)
    stale = outlook.stale.get(asset, ())
    if stale:
        yield (
            f"{asset} {keys_in_words(stale)} is made of its own rows as they were before a correction: "
            f"`etl drain --through {asset}` builds it again, in order"
        )


def of_held(outlook: Outlook) -> Iterator[str]:
    """What is held back because of another partition, and what is stale; one line for each reason."""
    for asset in sorted({*outlook.held, *outlook.stale}):
        yield from of_asset(asset, Outlook([], outlook.held, outlook.stale, {}))


def _by_reason(asset: str, held: Mapping[Key, Held]) -> Iterator[str]:
    reasons: dict[tuple[str, str], dict[Key, Key]] = {}
    for key, waits in held.items():
        reasons.setdefault((waits.asset, waits.why), {})[key] = waits.key
    for (upstream, why), keys in reasons.items():
        own, others = keys_in_words(keys), keys_in_words(set(keys.values()))
        yield " ".join(part for part in (asset, own, "waits for", upstream, others) if part) + f": {why}"
