"""`etl drain`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer
from rich.markup import escape

from etl_project import utc
from etl_project.cli import confirm, objects, plan
from etl_project.cli.common import deployment, show_run, span
from etl_project.cli.console import console
from etl_project.due import Deployment, Drained, Project, Wish, look
from etl_project.due import drain as drain_module
from etl_project.due import preview as previewing
from etl_project.sources import fit, quarantine

_SHOWN_UNFIT = 20
"""A changed contract may leave every file of years behind."""

_OUTAGE = (
    f"after {drain_module.MOST_FAILURES_IN_A_ROW} failures in a row, more than it takes to find a bad day: what the "
    "last one said is probably wrong with all of them. Mend it, then `etl retry`"
)

Through = Annotated[
    list[str] | None,
    typer.Option("--through", help="Rebuild this asset, which reads itself, in order after a correction."),
]


def drain(
    allow_shrink: Annotated[
        bool, typer.Option("--allow-shrink", help="Let days lose more rows than max_removed_ratio allows.")
    ] = False,
    allow_change: Annotated[
        bool, typer.Option("--allow-change", help="Let days change by more than max_changed_ratio, max_sum_change.")
    ] = False,
    select: plan.Select = None,
    through: Through = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Run nothing: say what `etl plan` says.")] = False,
    yes: confirm.Yes = False,
) -> None:
    """Run what is pending until nothing is.

    Exit code: 0 all well, 1 a day failed, a check is red, a file was refused, an archived file no longer fits,
    something is held by another process, something in a drop folder cannot be read or a pipeline cannot be loaded (the
    others go on), 2 usage.
    """
    wish = Wish(
        allow_shrink,
        for_good_too=allow_shrink or allow_change,
        select=tuple(select or ()),
        through=tuple(through or ()),
        allow_change=allow_change,
    )
    if dry_run:
        raise typer.Exit(plan.tell(wish))
    objects.fetched_first()
    sound, all_fetched, is_more = True, True, True
    while is_more:
        with deployment() as opened:
            sound = _drained(opened, wish, yes) and sound
            is_more, all_fetched = objects.fetched_after(opened.project)
    raise typer.Exit(0 if sound and all_fetched else 1)


def _drained(opened: Deployment, wish: Wish, yes: bool) -> bool:
    """Build what is pending, and say so; whether all is well."""
    unfit = fit.after_a_change(opened.project.sources, opened.project.settings)
    show_unfit(unfit)
    if wish.through:
        ask_through(opened, wish, yes)
    refused_before = refused(opened.project)
    done = drain_module.drain(opened, show_run, wish)
    newly_refused = len(refused(opened.project) - refused_before)
    return show_drained(done, newly_refused) and not unfit and not opened.project.broken


def ask_through(opened: Deployment, wish: Wish, yes: bool) -> None:
    """Ask before --through rebuilds many days: nothing but that was asked for by hand."""
    found = previewing.preview(opened, look(opened.project, utc.now(), opened.instance), wish)
    steps = [step for step in (*found.now, *found.after) if step.asset in wish.through]
    days, most = {key for step in steps for key in step.keys}, opened.project.settings.confirm_days
    confirm.ask(
        f"Building {', '.join(wish.through)} again in order", len(days), most, yes, lambda: plan.show_steps(steps)
    )


def show_unfit(unfit: Sequence[fit.Unfit]) -> None:
    """The archived files that a changed contract leaves behind, before the first run works under it."""
    for one in unfit[:_SHOWN_UNFIT]:
        console.print(f"[red]does not fit any more[/] {escape(str(one))}", soft_wrap=True, highlight=False)
    if unfit:
        more = f"and {len(unfit) - _SHOWN_UNFIT} more: " if len(unfit) > _SHOWN_UNFIT else ""
        console.print(
            f"{more}{len(unfit)} archived files cannot be built any more under the contracts as they are now: mend "
            "these before more is built (`etl contract check` reads every file in full, and names each)",
            soft_wrap=True,
        )


def show_drained(done: Drained, newly_refused: int) -> bool:
    """What a drain left behind, and a line that counts; whether all is well."""
    for one in done.gave_up:
        waits = f"{span(one)}: asked for again when its input or code changes, or by `etl retry`"
        reason = escape(done.reasons.get(one.state, ""))
        console.print(f"[red]failed for good[/] {waits}{reason}", soft_wrap=True, highlight=False)
    told = [
        *(("red", "not taken in", why) for why in [*done.unreadable.values(), *done.passed_over, *done.not_taken]),
        *(("yellow", "not finished", why) for why in done.being_written),
        *(("red", "check", str(check)) for check in done.red.values()),
        *(("yellow", "table gone", line) for line in done.gone),
        *(("yellow", "waits", line) for line in done.held),
        *([("red", "held by another process", done.busy)] if done.busy else []),
        *([("red", "stopped", _OUTAGE)] if done.failures_in_a_row == drain_module.MOST_FAILURES_IN_A_ROW else []),
    ]
    for colour, what, why in told:
        console.print(f"[{colour}]{what}[/] {escape(why)}", soft_wrap=True, highlight=False)
    console.print(
        f"{done.runs} runs, {len(done.failed)} failed, {newly_refused} files refused"
        + (" (`etl quarantine list` says why)" if newly_refused else "")
        + (f", {len(done.red)} checks red" if done.red else "")
    )
    return done.all_well and not newly_refused


def refused(project: Project) -> set[str]:
    """The keys of what is in quarantine; what was sent again and is good is no longer counted."""
    return {file.reason.key for file in quarantine.listing(project.settings.quarantine) if not file.reason.settled}
