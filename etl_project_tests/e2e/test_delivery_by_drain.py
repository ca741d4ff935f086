"""Files in over HTTP, reports out over HTTP, through the real commands: one effect for each content."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import date, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from etl_project_tests import steady
from etl_project_tests.deployments import ROOT, Place, order_file

pytestmark = pytest.mark.long  # Each test starts the command several times.

DAY = date(2025, 3, 3)
TOKEN = "a-token-of-more-than-sixteen-characters"


class Inbox(ThreadingHTTPServer):
    """A receiver that honours the key: it keeps one body for each."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.bodies: dict[str, Any] = {}
        self.requests = 0
        self.refusing: dict[str, int] = {}
        self.refused: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/reports"


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        inbox: Any = self.server
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        inbox.requests += 1
        if status := inbox.refusing.get(body["batch_date"]):
            inbox.refused.append(body["batch_date"])
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        inbox.bodies.setdefault(self.headers["Idempotency-Key"], body)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Nothing on standard error."""


@pytest.fixture
def inbox() -> Iterator[Inbox]:
    server = Inbox()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


def test_each_days_report_is_posted_once_and_again_only_when_it_changed(tmp_path: Path, inbox: Inbox) -> None:
    place, url = Place(tmp_path / "data"), {"ETL_DELIVERY_URL": inbox.url}
    for number in range(2):
        place.drop(f"{DAY + timedelta(days=number)}.csv", order_file(DAY + timedelta(days=number)))
    place.drained(**url)
    assert sorted(body["batch_date"] for body in inbox.bodies.values()) == ["2025-03-03", "2025-03-04"]
    place.drained(**url)
    place.drop(f"{DAY}.csv", order_file(DAY))
    place.drained(**url)
    assert inbox.requests == 2, "nothing has changed, so nothing was posted"
    place.drop(f"{DAY}.csv", order_file(DAY, price="9.99"))
    place.drained(**url)
    assert inbox.requests == 3
    [changed] = [body for body in inbox.bodies.values() if "supersedes" in body]
    assert changed["batch_date"] == "2025-03-03"


@pytest.mark.parametrize(("status", "attempts"), [(422, 1), (503, 2)])
def test_a_bad_day_is_posted_once_however_often_its_range_is_halved_and_the_others_are_confirmed(
    tmp_path: Path, inbox: Inbox, status: int, attempts: int
) -> None:
    place, environ = Place(tmp_path / "data"), {"ETL_DELIVERY_URL": inbox.url, "ETL_DELIVERY_ATTEMPTS": "2"}
    days = [DAY + timedelta(days=number) for number in range(8)]
    for day in days:
        place.drop(f"{day}.csv", order_file(day))
    inbox.refusing = {"2025-03-06": status}
    for _ in range(2):
        place.etl("drain", **environ)
        assert inbox.refused == ["2025-03-06"] * attempts
        assert inbox.requests == 7 + attempts
    assert place.query("select count(*) from report_delivery") == [(7,)]


def test_an_absent_receiver_costs_a_drain_one_run_and_all_days_go_out_once_it_answers(
    tmp_path: Path, inbox: Inbox
) -> None:
    place = Place(tmp_path / "data")
    nobody = {"ETL_DELIVERY_URL": f"http://127.0.0.1:{steady.ports()}/", "ETL_DELIVERY_ATTEMPTS": "1"}
    for number in range(8):
        place.drop(f"{DAY + timedelta(days=number)}.csv", order_file(DAY + timedelta(days=number)))
    for _ in range(2):
        drained = place.etl("drain", **nobody)
        assert (drained.returncode, "1 runs, 1 failed" in drained.stdout) == (1, True), drained.stdout
    assert place.query("select count(*) from daily_report") == [(8,)]
    place.drained(ETL_DELIVERY_URL=inbox.url)
    assert (inbox.requests, place.query("select count(*) from report_delivery")) == (8, [(8,)])


def test_a_kill_after_the_post_and_before_its_record_posts_the_same_key_again(tmp_path: Path, inbox: Inbox) -> None:
    place, url = Place(tmp_path / "data"), {"ETL_DELIVERY_URL": inbox.url}
    place.drop(f"{DAY}.csv", order_file(DAY))
    killed = place.etl("drain", ETL_FAULT="delivery.answered=kill", **url)
    assert killed.returncode == -signal.SIGKILL, killed.stdout + killed.stderr
    place.drained(**url)
    assert (inbox.requests, len(inbox.bodies)) == (2, 1)
    assert place.query("select count(*) from report_delivery") == [(1,)]


def test_an_upload_to_the_command_becomes_the_days_rows(tmp_path: Path) -> None:
    place = Place(tmp_path / "data")
    port = steady.ports()
    environment = place.environment(
        ETL_RECEIVER_TOKEN_ACME=TOKEN, ETL_RECEIVER_SOURCES_ACME="orders", ETL_RECEIVER_PORT=str(port)
    )
    server = subprocess.Popen([sys.executable, "-m", "etl_project.cli", "receive-http"], cwd=ROOT, env=environment)
    try:
        for _ in range(2):
            assert upload(port, f"orders-{DAY}.csv", order_file(DAY)) == 201
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(240)
    assert [path.name for path in place.incoming.glob("*.csv")] == [f"orders-{DAY}.csv"]
    place.drained()
    assert place.query("select count(*) from orders") == [(6,)]


def upload(port: int, name: str, text: str) -> int:
    """PUT a file as soon as the server answers; its status."""
    headers = {"Authorization": f"Bearer {TOKEN}", "Idempotency-Key": f'"{name}"'}
    url = f"http://127.0.0.1:{port}/v1/incoming/orders/{name}"
    deadline = time.monotonic() + steady.PATIENCE_SECONDS
    while True:
        request = urllib.request.Request(url, text.encode(), headers, method="PUT")
        try:
            with urllib.request.urlopen(request, timeout=240) as answer:
                return int(answer.status)
        except urllib.error.URLError:
            assert time.monotonic() < deadline, "the server never answered"
            time.sleep(0.2)
