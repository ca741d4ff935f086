"""Scratch: a data folder on the side with just what one rebuild needs, copied from the real one.

Belongs here: which partitions are copied, with their commit records, the archived files of the day, and the committed
rows to compare with. Of the real stores it only reads, for as long as the copying takes. An asset whose body reads what
it does not declare finds less here than there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from etl_project.proofs.prove.subject import Subject
from etl_project.proofs.verify.targets import Stored
from etl_project.settings import Settings
from etl_project.sources import spread
from etl_project.storage import Store

TargetsIn = Callable[[Settings], Sequence[Stored]]
"""The stored assets as they are in some data folder."""


def lay_out(real: Settings, scratch: Settings, subject: Subject, targets_in: TargetsIn) -> None:
    """Copy what the subject reads from the real data folder into an empty one.

    Raises StoreBusy (retrying helps) when a run holds the warehouse for longer than the wait setting.
    """
    there = stores(targets_in(scratch))
    for source in subject.sources:
        files = real.archive / source / subject.key
        if files.is_dir():
            spread.copied(real.archive, scratch.archive, source, subject.key)
    for target in targets_in(real):
        if target.asset in subject.reads:
            there[target.asset].adopt(target.store, target.table, target.scope(subject.reads[target.asset]))
    for target in subject.outputs:
        if target.table.contract_sql is None and target.asset not in subject.reads:
            # Nothing says which types it has but what is there itself.
            there[target.asset].adopt(target.store, target.table, None)


def keep_committed(folder: Settings, subject: Subject, targets_in: TargetsIn) -> None:
    """Copy the committed rows of the subject itself into a folder of their own."""
    target = subject.target
    kept = stores(targets_in(folder))[target.asset]
    kept.adopt(target.store, target.table, target.scope([subject.key]), records=False)


def mix(scratch: Settings, turn: int, targets_in: TargetsIn) -> None:
    """Bring all copied rows into another order: reversed in turn 1, shuffled in later ones. Contents stay the same."""
    for store in {str(store): store for store in stores(targets_in(scratch)).values()}.values():
        store.shuffle(turn)


def stores(targets: Sequence[Stored]) -> Mapping[str, Store]:
    """The store of each asset."""
    return {target.asset: target.store for target in targets}
