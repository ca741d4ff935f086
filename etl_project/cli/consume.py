"""`etl consume`."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from etl_project import settings
from etl_project.cli.console import console
from etl_project.failures import Permanent
from etl_project.instance import json_lines
from etl_project.kafka import Subscription, extra
from etl_project.kafka import settings as kafka_settings
from etl_project.sources import Names

if TYPE_CHECKING:
    from etl_project.kafka import LandingTally

_SECONDS_BETWEEN_LINES = 10.0


class NoSuchSource(Permanent):
    """There is no Kafka source of this name, or several and none was named."""


def consume(
    source: Annotated[str | None, typer.Argument(help="The Kafka source; may be left out where there is one.")] = None,
    max_messages: Annotated[int | None, typer.Option(min=1, help="Stop after so many messages.")] = None,
    max_seconds: Annotated[float | None, typer.Option(min=0, help="Stop after so many seconds.")] = None,
    until_end: Annotated[bool, typer.Option("--until-end", help="Stop when what is there now has landed.")] = False,
) -> None:
    """Land messages of a Kafka topic as files, until told to stop: SIGTERM and Ctrl-C end it after the running batch.

    Exit code: 0 all well, 1 there are dead letters or lost offsets, 2 usage, or the broker is away.
    """
    extra.require()
    # Dagster and the client library take a second to import: the help does not wait for them.
    from etl_project.definitions import subscriptions  # noqa: PLC0415
    from etl_project.instance import home  # noqa: PLC0415
    from etl_project.kafka import (  # noqa: PLC0415
        Bounds,
        Notes,
        Watch,
        land,
    )

    broker = kafka_settings.load()
    subscription = chosen(subscriptions(json_lines.complain), source)
    console.print(
        f"landing topic {subscription.topic} at {broker.bootstrap} as group {subscription.group} …", highlight=False
    )
    lines = Lines()
    stop, bounds = Stop(), Bounds(max_messages, max_seconds, until_end)
    with home.opened() as instance:
        notes = Notes(instance, Names.of(subscription.source.name).files, lines.warn)

        def tell(tally: LandingTally) -> None:
            lines.tell(tally)
            notes.tell(tally)

        try:
            tally = land(subscription, broker, settings.load(), bounds, Watch(stop.asked, tell, lines.warn))
            notes.tell(tally)
        finally:
            notes.write()
    lines.line(tally)
    raise typer.Exit(1 if tally.dead or tally.lost else 0)


def chosen(subscriptions: tuple[Subscription, ...], source: str | None) -> Subscription:
    """The subscription of this source, or the only one there is."""
    by_name = {one.source.name: one for one in subscriptions}
    names = ", ".join(sorted(by_name)) or "none (docs/kafka.md says how to declare one)"
    if source is None and len(by_name) == 1:
        return next(iter(by_name.values()))
    if source is None:
        raise NoSuchSource(f"name the source to consume; the Kafka sources are: {names}.")
    if source not in by_name:
        raise NoSuchSource(f"{source!r} is no Kafka source; they are: {names}.")
    return by_name[source]


class Stop:
    """Whether a signal asked for the end. The next signal of the same kind does what it does by default."""

    def __init__(self) -> None:
        self._asked = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)

    def asked(self) -> bool:
        """True once a signal came."""
        return self._asked

    def _on_signal(self, number: int, _frame: object) -> None:
        self._asked = True
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


class Lines:
    """Prints how it goes: now and then while it goes well, at once when it does not."""

    def __init__(self) -> None:
        self._started = self._last = time.monotonic()

    def tell(self, tally: LandingTally) -> None:
        """A line, unless there just was one."""
        if time.monotonic() - self._last >= _SECONDS_BETWEEN_LINES:
            self._last = time.monotonic()
            self.line(tally)

    def line(self, tally: LandingTally) -> None:
        """What has been done, how fast, and how much is left."""
        rate = (tally.landed + tally.dead) / max(time.monotonic() - self._started, 0.001)
        lost = f", [red]{tally.lost:,} LOST[/]" if tally.lost else ""
        console.print(
            f"{tally.landed:,} messages landed, {tally.dead:,} dead letters{lost}, in {tally.files:,} files; "
            f"{rate:,.0f} a second, lag {f'{sum(tally.lag.values()):,}' if tally.lag else 'unknown'}",
            highlight=False,
        )

    def warn(self, text: str) -> None:
        """What a person should know."""
        console.print(f"[yellow]{escape(text)}[/]", highlight=False)
