"""Two receivers behind one address, with their keys in PostgreSQL: one key has one effect, whichever is asked."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest

from etl_project_tests import postgres, steady
from etl_project_tests.unit.http_in.servers import ReceiverProcess, headers, running

pytestmark = postgres.needed

PATH = "/v1/incoming/orders/orders-2026-03-01.csv"


@pytest.fixture
def both(tmp_path: Path) -> Iterator[tuple[ReceiverProcess, ReceiverProcess]]:
    server = {"ETL_LOCKS": postgres.plain_url_of(tmp_path)}
    data = tmp_path / "data"
    with running(data, **server) as one, running(data, **server) as other:
        yield one, other


def put(receiver: ReceiverProcess, key: str, body: bytes) -> httpx2.Response:
    return steady.put(f"{receiver.url}{PATH}", content=body, headers=headers(key))


def test_an_upload_to_one_is_answered_alike_by_the_other_and_stored_once(
    both: tuple[ReceiverProcess, ReceiverProcess],
) -> None:
    one, other = both
    first = put(one, "k", b"a,b\n1,2\n")
    assert first.status_code == 201, one.log()
    assert one.take() == [b"a,b\n1,2\n"]
    for receiver in (other, one):
        again = put(receiver, "k", b"a,b\n1,2\n")
        assert (again.status_code, again.json()) == (201, first.json()), receiver.log()
        assert put(receiver, "k", b"other\n").status_code == 422
    assert one.files() == []


def test_of_requests_at_once_to_both_with_one_key_one_has_an_effect(
    both: tuple[ReceiverProcess, ReceiverProcess],
) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda n: put(both[n % 2], "k", b"a\n1\n").status_code, range(16)))
    assert set(answers) <= {201, 409} and 201 in answers
    assert both[0].take() == [b"a\n1\n"]
    assert {put(receiver, "k", b"a\n1\n").status_code for receiver in both} == {201}
    assert both[0].files() == []


@pytest.mark.parametrize("fault", ["receiver.claimed", "receiver.synced", "receiver.landed", "receiver.renamed"])
def test_what_a_killed_receiver_leaves_is_finished_by_the_other_once(fault: str, tmp_path: Path) -> None:
    server = {"ETL_LOCKS": postgres.plain_url_of(tmp_path)}
    data = tmp_path / "data"
    killed = ReceiverProcess(data, **server).start(f"{fault}=kill")
    with running(data, **server) as other:
        with pytest.raises(httpx2.TransportError):
            put(killed, "k", b"a\n1\n")
        killed.wait_for_death()
        landed = [put(other, "k", b"a\n1\n").status_code for _ in range(2)]
        assert landed == [201, 201], other.log()
        assert other.take() == [b"a\n1\n"]
        assert [path.name for path in other.temporaries()] == [".etl-receivers"]
        assert put(other, "k", b"a\n1\n").status_code == 201 and other.files() == []


def test_a_receiver_without_its_server_refuses_uploads_as_retryable_and_shows_no_address(tmp_path: Path) -> None:
    url = postgres.plain_url_of(tmp_path, port="1")
    receiver = ReceiverProcess(tmp_path / "data", ETL_LOCKS=url)
    try:
        receiver.start(health=503)
        refused = steady.put(f"{receiver.url}{PATH}", content=b"a\n", headers=headers("k"))
        assert refused.status_code == 503 and "port" not in refused.text and "host" not in refused.text
        assert "Retry-After" in refused.headers and receiver.files() == []
    finally:
        receiver.stop()
