"""`etl receive-http`."""

from __future__ import annotations

from etl_project import settings


def receive_http() -> None:
    """Take files over HTTP into incoming/: a token per client, at most one effect a key (docs/http.md)."""
    # The server's libraries are of no use to any other command.
    from etl_project.http_in import receiver  # noqa: PLC0415
    from etl_project.http_in import settings as delivery_settings  # noqa: PLC0415

    receiver.serve(settings.load(), delivery_settings.receiver())
