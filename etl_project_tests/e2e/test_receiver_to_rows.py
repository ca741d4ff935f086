"""What is answered 201 becomes rows: webhooks and lines through a package of pipelines of one's own, and out again."""

from __future__ import annotations

import hashlib
import hmac
import json
import sys
from pathlib import Path

import duckdb
import httpx2

from etl_project_tests import steady
from etl_project_tests.deployments import Place
from etl_project_tests.unit.http_in.servers import Script, answer, headers, running

SECRET = "a-secret-of-the-shop"
DEFS = """
type: etl_project.sources.component.FileSource
attributes:
  name: events
  patterns: ["*{date}*.jsonl"]
  format: jsonl
  columns: {id: id, amount: amount}
"""
CONTRACT = """
CREATE TABLE events (batch_date DATE NOT NULL, id VARCHAR NOT NULL, amount INTEGER NOT NULL);
CREATE TABLE events_a_day (batch_date DATE NOT NULL PRIMARY KEY, events BIGINT NOT NULL, amount BIGINT NOT NULL);
"""
ASSETS = '''
from pathlib import Path

from etl_project.declare.daily_table import daily_table
from etl_project.storage import Slice, Sql


@daily_table(Path(__file__).parent)
def events_a_day(events: Slice) -> Sql:
    """One row a day."""
    return Sql("select batch_date, count(*) events, sum(amount)::bigint amount from events group by 1", events=events)
'''
DELIVERED = """
type: etl_project.http_out.component.DeliveredTable
attributes: {table: events_a_day, name: events_sent}
"""


def package(folder: Path) -> str:
    """Make a package of pipelines; its name."""
    name = "pipelines_of_the_shop"
    files = {"events/defs.yaml": DEFS, "events/contract.sql": CONTRACT, "events/assets.py": ASSETS}
    for path, text in {**files, "sent/defs.yaml": DELIVERED, "__init__.py": "", "events/__init__.py": ""}.items():
        place = folder / name / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
    return name


def webhook(url: str, number: int) -> httpx2.Response:
    body = json.dumps({"id": f"w{number}", "amount": number}, indent=2).encode()
    signature = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
    return steady.post(f"{url}/v1/webhooks/shop/events", content=body, headers={"X-Shop": signature})


def same_again(url: str, delivery: str) -> httpx2.Response:
    body = b'{"id": "ping", "amount": 0}'
    signature = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
    sent = {"X-Hub": signature, "X-Hub-Delivery": delivery}
    return steady.post(f"{url}/v1/webhooks/hub/events", content=body, headers=sent)


def test_webhooks_and_lines_become_rows_once_and_their_day_is_delivered_once(tmp_path: Path) -> None:
    environ = {
        "ETL_PIPELINES": package(tmp_path),
        "PYTHONPATH": str(tmp_path),
        "ETL_SETTLE_SECONDS": "0",
        "ETL_RECEIVER_SOURCES_ACME": "events",
        "ETL_RECEIVER_SOURCES_OTHER": "events",
        "ETL_RECEIVER_SECRET_SHOP": SECRET,
        "ETL_RECEIVER_SIGNATURE_SHOP": "X-Shop=hex",
        "ETL_RECEIVER_KEY_FIELD_SHOP": "id",
        "ETL_RECEIVER_SOURCES_SHOP": "events",
        "ETL_RECEIVER_SECRET_HUB": SECRET,
        "ETL_RECEIVER_SIGNATURE_HUB": "X-Hub=hex",
        "ETL_RECEIVER_KEY_HEADER_HUB": "X-Hub-Delivery",
        "ETL_RECEIVER_SOURCES_HUB": "events",
    }
    data_dir = tmp_path / "data"
    lines = [headers(key, **{"Content-Type": "application/x-ndjson"}) for key in ("lines", "equal lines")]
    script = Script(answer(201))
    sys.path.insert(0, str(tmp_path))
    try:
        with running(data_dir, **environ) as receiver, script.serving() as port:
            outside = {**environ, "ETL_DELIVERY_URL": f"http://127.0.0.1:{port}/"}
            for _ in range(2):
                for number in (1, 2, 3):
                    assert webhook(receiver.url, number).status_code == 201
                for delivery in ("d-1", "d-2"):
                    assert same_again(receiver.url, delivery).status_code == 201
                for each in lines:
                    posted = steady.post(
                        f"{receiver.url}/v1/incoming/events", content=b'{"id": "l1", "amount": 10}\n', headers=each
                    )
                    assert posted.status_code == 201
                drained = Place(data_dir, tmp_path).etl("drain", **outside)
                assert drained.returncode == 0, drained.stdout + drained.stderr
    finally:
        sys.path.remove(str(tmp_path))
    with duckdb.connect(str(data_dir / "warehouse.duckdb"), read_only=True) as connection:
        assert connection.execute("select id, amount from events order by 1").fetchall() == [
            *[("l1", 10)] * 2,
            *[("ping", 0)] * 2,
            *[(f"w{number}", number) for number in (1, 2, 3)],
        ]
        assert connection.execute("select count(*), min(status) from events_sent").fetchone() == (1, 201)
    assert [(json.loads(body)["events"], json.loads(body)["amount"]) for _, body in script.requests] == [(7, 26)]
