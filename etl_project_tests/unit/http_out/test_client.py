"""The client: what is retried, what is not, what it writes down and what it never shows."""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import logging
import socket
import ssl
import subprocess
import threading
from datetime import date
from email.utils import format_datetime
from pathlib import Path

import pytest

from etl_project import utc
from etl_project.http_out.client import DeliveryFailed, DeliveryRejected, canonical_json, endpoint_name
from etl_project_tests import steady
from etl_project_tests.unit.http_in.servers import TOKEN, Answer, Script, answer, client, outgoing

DAY = date(2026, 3, 1)
CONTENT = {"revenue": "12.30", "invoices": 4}


def test_a_delivery_carries_a_quoted_key_a_digest_and_the_token(tmp_path: Path) -> None:
    script = Script(answer(201))
    with script.serving() as port, client(tmp_path, outgoing(f"http://127.0.0.1:{port}/r")) as (sender, _):
        outcome = sender.deliver("report", DAY, CONTENT)
    [(sent, body)] = script.requests
    assert sent["idempotency-key"] == f'"{outcome.key}"'
    assert sent["authorization"] == f"Bearer {TOKEN}"
    assert sent["content-digest"].startswith("sha-256=:")
    assert body == canonical_json(CONTENT)
    assert outcome.content_hash == hashlib.sha256(body).hexdigest()


def test_a_confirmed_delivery_is_not_posted_twice(tmp_path: Path) -> None:
    script = Script(answer(201))
    with script.serving() as port:
        for run in range(3):
            with client(tmp_path, outgoing(f"http://127.0.0.1:{port}/")) as (sender, deliveries):
                assert sender.deliver("report", DAY, dict(reversed(CONTENT.items()))).posted is (run == 0)
                [record] = deliveries.of_asset("report")
    assert (record.state, record.status, record.attempts) == ("sent", 201, 1)
    assert record.response_digest == hashlib.sha256(b'{"ok": true}').hexdigest()
    assert len(script.requests) == 1


def test_changed_content_goes_out_under_a_new_key_and_names_the_old(tmp_path: Path) -> None:
    script = Script(answer(201))
    with script.serving() as port, client(tmp_path, outgoing(f"http://127.0.0.1:{port}/")) as (sender, _):
        first = sender.deliver("report", DAY, CONTENT)
        second = sender.deliver("report", DAY, {**CONTENT, "invoices": 5})
        third = sender.deliver("report", DAY, CONTENT)
    bodies = [body for _, body in script.requests]
    assert bodies[1] == canonical_json({**CONTENT, "invoices": 5, "supersedes": first.key})
    assert bodies[2] == canonical_json({**CONTENT, "supersedes": second.key})
    assert len({first.key, second.key, third.key}) == 3


def test_the_key_depends_on_endpoint_asset_day_and_content_alone(tmp_path: Path) -> None:
    script = Script(answer(200))
    keys = set()
    with script.serving() as port:
        for number, (path, asset, day) in enumerate(
            [("a", "x", DAY), ("a", "x", DAY), ("b", "x", DAY), ("a", "y", DAY), ("a", "x", date(2026, 3, 2))]
        ):
            with client(tmp_path / str(number), outgoing(f"http://127.0.0.1:{port}/{path}")) as (sender, _):
                keys.add(sender.deliver(asset, day, CONTENT).key)
    assert len(keys) == 4


@pytest.mark.parametrize(
    "passing",
    [answer(s) for s in (408, 409, 425, 429, 500, 502, 503, 504, 599)]
    + [
        answer(s, Retry_After=after)
        for s in (409, 429, 503)
        for after in ("0", "-1", "soon", "Mon, 01 Jan 2001 00:00:00 GMT")
    ]
    + [answer(503, Retry_After="Fri, 31 Dec 9999 23:59:59 -999999999999999")],
)
def test_what_is_no_outcome_is_tried_again_under_the_same_key(tmp_path: Path, passing: Answer) -> None:
    script = Script(passing, passing, answer(201))
    with script.serving() as port, client(tmp_path, outgoing(f"http://127.0.0.1:{port}/")) as (sender, _):
        assert sender.deliver("report", DAY, CONTENT).attempts == 3
    assert len({sent["idempotency-key"] for sent, _ in script.requests}) == 1
    assert len({body for _, body in script.requests}) == 1


@pytest.mark.parametrize("final", [answer(s) for s in (301, 307, 400, 401, 403, 404, 410, 413, 422)])
def test_a_refusal_is_final_and_a_later_run_asks_again(tmp_path: Path, final: Answer) -> None:
    script = Script(final, answer(201))
    with script.serving() as port, client(tmp_path, outgoing(f"http://127.0.0.1:{port}/")) as (sender, deliveries):
        with pytest.raises(DeliveryRejected, match=f"refused with {final[0]}") as refused:
            sender.deliver("report", DAY, CONTENT)
        assert refused.value.retryable is False
        assert [record.state for record in deliveries.of_asset("report")] == ["rejected"]
        assert len(script.requests) == 1
        assert sender.deliver("report", DAY, CONTENT).posted


def test_a_refusal_after_a_lost_answer_does_not_say_that_nothing_happened(tmp_path: Path) -> None:
    script = Script(answer(500), answer(401))
    with script.serving() as port, client(tmp_path, outgoing(f"http://127.0.0.1:{port}/")) as (sender, deliveries):
        with pytest.raises(DeliveryRejected):
            sender.deliver("report", DAY, CONTENT)
        assert [record.state for record in deliveries.of_asset("report")] == ["unknown"]


def test_retry_after_in_seconds_and_as_a_date_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr("tenacity.nap.time.sleep", waits.append)
    soon = format_datetime(utc.now() + datetime.timedelta(seconds=100), usegmt=True)
    script = Script(answer(429, Retry_After="7"), answer(503, Retry_After=soon), answer(201))
    with script.serving() as port, client(tmp_path, outgoing(f"http://127.0.0.1:{port}/")) as (sender, _):
        sender.deliver("report", DAY, CONTENT)
    assert waits[0] == 7
    assert 60 < waits[1] <= 100


def test_a_wait_beyond_the_total_time_is_not_begun(tmp_path: Path) -> None:
    script = Script(answer(503, Retry_After="3600"))
    with script.serving() as port, client(tmp_path, outgoing(f"http://127.0.0.1:{port}/")) as (sender, deliveries):
        with pytest.raises(DeliveryFailed, match="answered 503") as failed:
            sender.deliver("report", DAY, CONTENT)
        assert failed.value.retryable is True
        assert [(record.state, record.attempts) for record in deliveries.of_asset("report")] == [("unknown", 1)]


@pytest.mark.parametrize("status", [408, 409, 425, 429, 500, 503])
def test_what_never_becomes_an_outcome_is_retryable_for_ever(tmp_path: Path, status: int) -> None:
    script = Script(answer(status))
    with script.serving() as port:
        settings = outgoing(f"http://127.0.0.1:{port}/", attempts=2)
        for run in range(3):
            with client(tmp_path, settings) as (sender, deliveries):
                with pytest.raises(DeliveryFailed, match=f"answered {status}"):
                    sender.deliver("report", DAY, CONTENT)
                [record] = deliveries.of_asset("report")
                assert record.state == ("pending" if status in (408, 425, 429) else "unknown")
                assert record.failures == run + 1
        script.answers = [answer(201)]
        with client(tmp_path, settings) as (sender, deliveries):
            assert sender.deliver("report", DAY, CONTENT).posted
    assert len({sent["idempotency-key"] for sent, _ in script.requests}) == 1


@pytest.mark.parametrize(
    "after", ["9" * 4000, "Fri, 31 Dec 9999 23:59:59 -2359", "Fri, 31 Dec 99999 23:59:59 GMT", "1" + "0" * 30, "3600"]
)
def test_no_retry_after_however_absurd_is_more_than_a_retryable_failure(tmp_path: Path, after: str) -> None:
    script = Script(answer(503, Retry_After=after))
    with script.serving() as port:
        settings = outgoing(f"http://127.0.0.1:{port}/", attempts=2)
        with client(tmp_path, settings) as (sender, _), pytest.raises(DeliveryFailed, match="answered 503"):
            sender.deliver("report", DAY, CONTENT)


def test_the_reason_is_what_the_receiver_said_and_not_a_last_request_without_time(tmp_path: Path) -> None:
    script = Script(answer(500))
    with script.serving() as port:
        settings = outgoing(f"http://127.0.0.1:{port}/", total_seconds=2.0, first_wait_seconds=0.3)
        with client(tmp_path, settings) as (sender, _), pytest.raises(DeliveryFailed, match="answered 500"):
            sender.deliver("report", DAY, CONTENT)
    assert len(script.requests) >= 2


def test_a_patient_call_repeats_what_the_last_one_found_until_its_pause_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    began = utc.now()
    script = Script(answer(422), answer(500))
    with script.serving() as port:
        settings = outgoing(f"http://127.0.0.1:{port}/", attempts=2)

        def call(minutes: float, expected: type[Exception], *, patient: bool = True) -> int:
            """The number of requests that a call so long after the first one makes."""
            monkeypatch.setattr(utc, "now", lambda: began + datetime.timedelta(minutes=minutes))
            before = len(script.requests)
            with client(tmp_path, settings) as (sender, _), pytest.raises(expected):
                sender.deliver("report", DAY, CONTENT, patient=patient)
            return len(script.requests) - before

        assert [call(0, DeliveryRejected) for _ in range(5)] == [1, 0, 0, 0, 0]
        assert call(0.9, DeliveryRejected) == 0
        assert [call(1.1, DeliveryFailed) for _ in range(3)] == [2, 0, 0]
        assert [call(3, DeliveryFailed), call(3.2, DeliveryFailed)] == [0, 2]
        assert call(3.2, DeliveryFailed, patient=False) == 2
        monkeypatch.setattr(utc, "now", lambda: began + datetime.timedelta(minutes=3.3))
        script.answers = [answer(201)]
        with client(tmp_path, settings) as (sender, deliveries):
            assert sender.deliver("report", DAY, {**CONTENT, "other": 1}, patient=True).posted
            assert deliveries.of_asset("report")[0].failures == 4


def test_a_receiver_that_confirms_nothing_is_left_alone_after_two_deliveries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    began = utc.now()
    script = Script(answer(503))
    with script.serving() as port:
        settings = outgoing(f"http://127.0.0.1:{port}/", attempts=2)

        def range_run(minutes: float, *, patient: bool) -> int:
            monkeypatch.setattr(utc, "now", lambda: began + datetime.timedelta(minutes=minutes))
            before = len(script.requests)
            with client(tmp_path, settings) as (sender, _):
                for number in range(10):
                    with contextlib.suppress(DeliveryFailed):
                        sender.deliver("report", DAY + datetime.timedelta(days=number), CONTENT, patient=patient)
            return len(script.requests) - before

        assert [range_run(0, patient=True) for _ in range(5)] == [4, 0, 0, 0, 0]
        assert range_run(0.5, patient=False) == 4
        assert range_run(0.6, patient=True) == 0
        script.answers = [answer(201)]
        assert range_run(10, patient=True) == 10
        assert range_run(10, patient=True) == 0


def test_attempts_are_bounded(tmp_path: Path) -> None:
    script = Script(answer(500))
    with script.serving() as port:
        settings = outgoing(f"http://127.0.0.1:{port}/", attempts=3)
        with client(tmp_path, settings) as (sender, _), pytest.raises(DeliveryFailed):
            sender.deliver("report", DAY, CONTENT)
    assert len(script.requests) == 3


def test_a_receiver_that_drips_is_cut_off(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        stop = threading.Event()
        thread = threading.Thread(target=_drip, args=(listener, stop))
        thread.start()
        settings = outgoing(f"http://127.0.0.1:{port}/", attempts=1, attempt_seconds=1.5)
        with client(tmp_path, settings) as (sender, deliveries):
            with pytest.raises(DeliveryFailed, match=r"no answer within 1\.5 s"):
                sender.deliver("report", DAY, CONTENT)
            assert [record.state for record in deliveries.of_asset("report")] == ["unknown"]
        stop.set()
        thread.join()


def _drip(listener: socket.socket, stop: threading.Event) -> None:
    connection, _ = listener.accept()
    with connection:
        connection.sendall(b"HTTP/1.1 200 OK\r\n")
        while not stop.wait(0.05):
            try:
                connection.sendall(b"X-Pad: 1\r\n")
            except OSError:
                return


def test_an_answer_without_end_is_cut_off(tmp_path: Path) -> None:
    script = Script((200, {"Content-Length": str(5 << 20)}, b"x" * (5 << 20)))
    with script.serving() as port, client(tmp_path, outgoing(f"http://127.0.0.1:{port}/")) as (sender, _):
        assert sender.deliver("report", DAY, CONTENT).status == 200


def test_an_unknown_host_is_retryable_and_nothing_was_sent(tmp_path: Path) -> None:
    settings = outgoing("http://no-such-host.invalid/", attempts=2)
    with client(tmp_path, settings) as (sender, deliveries):
        with pytest.raises(DeliveryFailed, match=r"host no-such-host\.invalid is unknown .* nothing arrived") as failed:
            sender.deliver("report", DAY, CONTENT)
        assert failed.value.retryable is True
        assert [record.state for record in deliveries.of_asset("report")] == ["pending"]


def test_a_refused_connection_is_retryable_and_nothing_was_sent(tmp_path: Path) -> None:
    settings = outgoing(f"http://127.0.0.1:{steady.ports()}/", attempts=2)
    with client(tmp_path, settings) as (sender, deliveries):
        with pytest.raises(DeliveryFailed, match="nothing arrived"):
            sender.deliver("report", DAY, CONTENT)
        assert [(record.state, record.attempts) for record in deliveries.of_asset("report")] == [("pending", 2)]


def test_an_untrusted_certificate_is_permanent_and_nothing_was_sent(tmp_path: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*_self_signed(tmp_path))
    script = Script(answer(201))
    with (
        script.serving(context) as port,
        client(tmp_path, outgoing(f"https://127.0.0.1:{port}/")) as (sender, deliveries),
    ):
        with pytest.raises(DeliveryRejected, match=r"TLS with 127\.0\.0\.1 failed: .*certificate") as refused:
            sender.deliver("report", DAY, CONTENT)
        assert refused.value.retryable is False
        assert [(record.state, record.attempts) for record in deliveries.of_asset("report")] == [("pending", 1)]
    assert script.requests == []


def test_tls_with_a_server_that_speaks_none_is_permanent(tmp_path: Path) -> None:
    script = Script(answer(201))
    with (
        script.serving() as port,
        client(tmp_path, outgoing(f"https://127.0.0.1:{port}/")) as (sender, _),
        pytest.raises(DeliveryRejected, match="TLS with"),
    ):
        sender.deliver("report", DAY, CONTENT)


def _self_signed(folder: Path) -> tuple[Path, Path]:
    certificate, key = folder / "cert.pem", folder / "key.pem"
    command = (
        "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1"
    )
    try:
        made = subprocess.run([*command.split(), "-keyout", key, "-out", certificate], capture_output=True, check=False)
    except FileNotFoundError:
        pytest.skip("openssl is not installed")
    assert made.returncode == 0, made.stderr
    return certificate, key


@pytest.mark.parametrize("status", [201, 400, 500])
def test_no_log_line_and_no_message_shows_a_secret(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, status: int
) -> None:
    caplog.set_level(logging.DEBUG)
    script = Script((status, {}, f"you sent {TOKEN}".encode()))
    message = ""
    with script.serving() as port:
        settings = outgoing(f"http://127.0.0.1:{port}/hook/s3cr3t?key=s3cr3t", attempts=2)
        with client(tmp_path, settings) as (sender, deliveries):
            try:
                outcome = sender.deliver("report", DAY, CONTENT)
            except (DeliveryFailed, DeliveryRejected) as failed:
                message = str(failed)
            [record] = deliveries.of_asset("report")
    shown = caplog.text + message + repr(record)
    assert record.content_hash in caplog.text
    assert "s3cr3t" not in shown
    assert TOKEN not in shown
    assert status != 201 or outcome.posted


def test_content_with_a_field_of_ours_is_refused(tmp_path: Path) -> None:
    with (
        client(tmp_path, outgoing("http://127.0.0.1:1/")) as (sender, _),
        pytest.raises(DeliveryRejected, match="supersedes"),
    ):
        sender.deliver("report", DAY, {"supersedes": 1})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object()])
def test_content_that_is_not_json_is_refused_before_anything_is_recorded(tmp_path: Path, value: object) -> None:
    with client(tmp_path, outgoing("http://127.0.0.1:1/")) as (sender, deliveries):
        with pytest.raises(DeliveryRejected, match="not JSON"):
            sender.deliver("report", DAY, {"x": value})
        assert deliveries.of_asset("report") == []


def test_endpoints_are_told_apart_without_showing_their_paths() -> None:
    names = {endpoint_name(f"https://example.org:444/{path}") for path in ("a", "b")}
    assert len(names) == 2
    assert all(name.startswith("https://example.org:444#") and len(name) == 36 for name in names)
