"""Kafka messages that became no row, and why: `etl dead-letters list|show|replay`."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from etl_project import settings
from etl_project.cli import plain_letters
from etl_project.cli.console import Json, console
from etl_project.cli.consume import chosen
from etl_project.instance import json_lines
from etl_project.kafka import extra
from etl_project.kafka import format as landed

app = typer.Typer(no_args_is_help=True, help="Kafka messages that became no row, and why.")

Source = Annotated[str, typer.Argument(help="The Kafka source.")]
File = Annotated[str | None, typer.Argument(help="The name of one file of dead letters, as `list` says it.")]


@app.command("list")
def letters_list(as_json: Json = False) -> None:
    """Every file of dead letters, with how many messages it holds and why; and offsets that were lost."""
    extra.require()
    found = list(_listed())
    if as_json:
        print(json.dumps(found, indent=2))  # noqa: T201
        return
    table = Table("Source", "Messages", box=None)
    for wide in ("File", "Reasons"):
        table.add_column(wide, overflow="fold")
    for one in found:
        reasons = "; ".join(f"{count} x {reason}" for reason, count in one["reasons"].items())
        table.add_row(one["source"], str(one["messages"]), escape(one["file"]), escape(reasons))
    console.print(table if found else "There are no dead letters.")


@app.command("show")
def letters_show(source: Source, file: File = None) -> None:
    """The messages themselves, one a line of JSON: coordinates, reason, key, headers and value."""
    extra.require()
    from etl_project.kafka import dead_letters  # noqa: PLC0415

    folder = settings.load().dead_letters / source
    for one in dead_letters.files(folder) if file is None else [dead_letters.named(folder, file)]:
        for letter in dead_letters.letters(one.path):
            shown = {
                "topic": one.span.topic,
                "partition": one.span.partition,
                "offset": letter.offset,
                "reason": letter.reason,
                "timestamp_ms": letter.timestamp_ms,
                "key": _text(letter.key),
                "headers": [[name, _text(content)] for name, content in letter.headers],
                "value": _text(letter.value),
            }
            print(json.dumps(shown, ensure_ascii=not plain_letters.has_all(sys.stdout)))  # noqa: T201


@app.command("replay")
def letters_replay(source: Source, file: File = None) -> None:
    """Try them again, after the contract or the decoder was mended. Needs no broker. What becomes a row waits to be
    built; exit code 1 when some are still dead."""
    extra.require()
    from etl_project.definitions import subscriptions  # noqa: PLC0415
    from etl_project.kafka import dead_letters  # noqa: PLC0415

    configured, subscription = settings.load(), chosen(subscriptions(json_lines.complain), source)
    only = None if file is None else dead_letters.named(configured.dead_letters / source, file)
    done = dead_letters.replay(subscription, configured, only)
    console.print(
        f"{done.rows:,} messages are rows now, in {done.files:,} files that wait: `etl drain`, or let the sensor find "
        f"them; {done.dropped:,} were dropped, {done.dead.total():,} are still dead.",
        highlight=False,
    )
    for reason, count in done.dead.most_common():
        console.print(f"  {count:,} x {escape(reason)}", highlight=False)
    raise typer.Exit(1 if done.dead else 0)


def _listed() -> Iterator[dict[str, Any]]:
    from etl_project.kafka import dead_letters  # noqa: PLC0415

    root = settings.load().dead_letters
    for folder in sorted(root.iterdir()) if root.is_dir() else ():
        for one in dead_letters.files(folder):
            reasons = Counter(letter.reason for letter in dead_letters.letters(one.path))
            yield _described(folder.name, one.path.name, reasons.total(), dict(reasons.most_common()))
        for path in sorted(folder.glob(f"{landed.LOST}_*.json")):
            named = landed.parse(path.name)
            if named is not None:
                count = named.span.last - named.span.first + 1
                yield _described(folder.name, path.name, count, {"offsets gone before they could be landed": count})


def _described(source: str, file: str, messages: int, reasons: dict[str, int]) -> dict[str, Any]:
    return {
        "source": source,
        "file": file,
        "messages": messages,
        "reasons": reasons,
    }


def _text(content: bytes | None) -> str | None:
    return None if content is None else landed.as_text(content)
