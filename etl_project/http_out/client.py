"""The client for outgoing requests: one effect for one content, however often it is called or killed.

Belongs here: the key, the attempts, and what each outcome means for the run. Does not belong here: which content is
posted (`assets`), how it is recorded (`records`).

The key follows draft-ietf-httpapi-idempotency-key-header: a quoted string that depends on the endpoint, the asset, the
day and the body alone. A receiver that honours it has one effect for a key; one that ignores it gets at least one.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import logging
import socket
import ssl
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from etl_project import faults, utc
from etl_project.failures import Outage, Permanent, Transient
from etl_project.http_out import patience
from etl_project.http_out.records import Deliveries, DeliveryRecord, State
from etl_project.http_out.settings import Outgoing

# Loaded to post: every command and every run loads this module with the definitions, and few of them post.
if TYPE_CHECKING:
    import httpx2

_LARGEST_ANSWER = 1 << 20
_SHOWN_OF_ANSWER = 300
_SHORTEST_REQUEST_SECONDS = 1.0
"""Less time than this is none: what such a request fails of hides what was wrong with the ones before."""


class DeliveryRejected(Permanent):
    """The receiver refused the request or cannot be trusted. Retrying does not help before a person changes that."""

    arrived = False
    status: int | None = None


class DeliveryFailed(Transient):
    """No confirmation came. Retrying helps, and posts under the same key."""


class ReceiverSilent(DeliveryFailed, Outage):
    """The receiver confirmed none of the last deliveries, so this one was not posted. Retrying helps, later."""


@dataclass(frozen=True)
class DeliveryOutcome:
    """What is known after a delivery: `posted` is False when an earlier call had already been confirmed."""

    key: str
    content_hash: str
    supersedes: str | None
    status: int | None
    attempts: int
    posted: bool


@dataclass(frozen=True)
class _Answer:
    status: int
    digest: str
    text: str
    retry_after: float | None


class _TryAgain(Exception):
    """This attempt brought no outcome; another may."""

    def __init__(self, reason: str, *, arrived: bool, status: int | None = None, wait: float | None = None) -> None:
        super().__init__(reason)
        self.arrived = arrived
        self.status = status
        self.wait = wait


class DeliveryClient:
    """Posts contents to the one endpoint of its settings, recording every delivery."""

    def __init__(self, settings: Outgoing, deliveries: Deliveries, log: logging.Logger) -> None:
        self.endpoint = endpoint_name(settings.url)
        self._settings = settings
        self._deliveries = deliveries
        self._log = log
        self._opened_at = utc.now()
        # httpx2 logs every address at INFO, and an address may be a secret (webhooks).
        logging.getLogger("httpx2").setLevel(logging.WARNING)

    def deliver(self, asset: str, day: date, content: Mapping[str, Any], *, patient: bool = False) -> DeliveryOutcome:
        """Make `content` the receiver's last word on this day of the asset, with at most one effect.

        What was confirmed before is not posted again; what a crash left open is posted again under the same key.
        Changed content gets a new key and names the one before in the body's field `supersedes`. With `patient`, what
        failed a short while ago fails again unposted (see `patience`): right for runs that nobody started by hand.

        Raises DeliveryRejected (retrying does not help) and DeliveryFailed (it does). A kill at any point leaves a
        record from which the next call goes on.
        """
        if "supersedes" in content:
            raise DeliveryRejected(f"{asset} {day}: the content has a field `supersedes` of its own; rename that.")
        try:
            content_hash = hashlib.sha256(canonical_json(content)).hexdigest()
        except (TypeError, ValueError) as error:
            raise DeliveryRejected(f"{asset} {day}: the content is not JSON ({error}); convert it first.") from error
        delivery = self._deliveries.plan(
            self.endpoint, asset, day, content_hash, lambda old: self._key(asset, day, content, old)
        )
        faults.reach("delivery.planned")
        if delivery.state == "sent":
            self._log.info("%s: already confirmed with %s, not posted again", _about(delivery), delivery.status)
            return _outcome(delivery, delivery.status, delivery.attempts, posted=False)
        self._hold(delivery, patient=patient)
        try:
            return self._post(delivery, _body(content, delivery.supersedes))
        except DeliveryRejected as refused:
            self._deliveries.fail(delivery.key, "refused", str(refused))
            raise
        except DeliveryFailed as failed:
            self._deliveries.fail(delivery.key, "unconfirmed", str(failed))
            raise

    def _hold(self, delivery: DeliveryRecord, *, patient: bool) -> None:
        """Raise as the last call did where it is too early for another one, or the receiver answers nobody."""
        now = utc.now()
        if patient and delivery.failed_at is not None:
            until = patience.wait_until(delivery.failures, datetime.fromisoformat(delivery.failed_at))
            if now < until:
                kind = DeliveryRejected if delivery.failure == "refused" else DeliveryFailed
                raise kind(f"{delivery.problem} {_not_before(until)}")
        since = datetime.min.replace(tzinfo=UTC) if patient else self._opened_at
        silent = self._deliveries.unconfirmed_since_the_last_confirmation(self.endpoint, since)
        if len(silent) < patience.SILENT_AFTER:
            return
        until = patience.wait_until(max(one.failures for one in silent), datetime.fromisoformat(_last(silent)))
        if not patient or now < until:
            raise ReceiverSilent(
                f"{_about(delivery)}: not posted: {len(silent)} others in a row brought no confirmation. "
                f"Retrying helps once the receiver answers. {_not_before(until)} The last of them: {silent[-1].problem}"
            )

    def _key(self, asset: str, day: date, content: Mapping[str, Any], supersedes: str | None) -> str:
        body_hash = hashlib.sha256(_body(content, supersedes)).hexdigest()
        return hashlib.sha256(canonical_json([self._settings.url, asset, day.isoformat(), body_hash])).hexdigest()

    def _post(self, delivery: DeliveryRecord, body: bytes) -> DeliveryOutcome:
        """Attempt until there is an outcome or the time is used up."""
        import stamina  # noqa: PLC0415

        settings = self._settings
        deadline = time.monotonic() + settings.total_seconds
        tries = stamina.retry_context(
            on=lambda error: _pause(error, deadline - self._shortest_request_seconds(), settings.first_wait_seconds),
            attempts=settings.attempts,
            timeout=settings.total_seconds,
            wait_initial=settings.first_wait_seconds,
            wait_max=settings.longest_wait_seconds,
            wait_jitter=settings.first_wait_seconds,
        )
        last: _TryAgain | None = None
        try:
            for attempt in tries:
                with attempt:
                    if last is not None and deadline - time.monotonic() < self._shortest_request_seconds():
                        raise last
                    try:
                        number, state, answer = self._attempt(delivery, body, deadline)
                    except _TryAgain as failed:
                        last = failed
                        raise
        except _TryAgain as failed:
            raise DeliveryFailed(
                f"{_about(delivery)}: no confirmation ({failed}); "
                f"{'it may have arrived' if failed.arrived else 'nothing arrived'}. "
                "Retrying helps and uses the same key."
            ) from failed
        if state != "sent":
            raise DeliveryRejected(
                f"{_about(delivery)}: refused with {answer.status} {self._without_token(answer.text)!r}. "
                "Retrying does not help before the receiver, ETL_DELIVERY_URL or ETL_DELIVERY_TOKEN is changed."
            )
        return _outcome(delivery, answer.status, number, posted=True)

    def _shortest_request_seconds(self) -> float:
        return min(_SHORTEST_REQUEST_SECONDS, self._settings.attempt_seconds)

    def _attempt(self, delivery: DeliveryRecord, body: bytes, deadline: float) -> tuple[int, State, _Answer]:
        """One request, recorded before and after. A refusal counts as such only if nothing may have arrived before."""
        number, before = self._deliveries.start_attempt(delivery.key)
        faults.reach("delivery.before_send")
        limit = min(self._settings.attempt_seconds, deadline - time.monotonic())
        try:
            answer = asyncio.run(self._request(delivery.key, body, limit))
            _refuse_if_no_outcome(answer)
        except (_TryAgain, DeliveryRejected) as failed:
            failed.arrived = failed.arrived or before == "unknown"
            self._deliveries.settle(delivery.key, "unknown" if failed.arrived else "pending", failed.status)
            self._log.warning("%s: attempt %d: %s", _about(delivery), number, failed)
            raise
        faults.reach("delivery.answered")
        state: State = "sent" if answer.status < 300 else ("unknown" if before == "unknown" else "rejected")
        self._deliveries.settle(delivery.key, state, answer.status, answer.digest)
        self._log.info("%s: attempt %d: answered %d", _about(delivery), number, answer.status)
        faults.reach("delivery.recorded")
        return number, state, answer

    async def _request(self, key: str, body: bytes, limit: float) -> _Answer:
        """Send once. Redirects are not followed: they would turn a POST into something else."""
        import httpx2  # noqa: PLC0415

        timeout = httpx2.Timeout(self._settings.read_seconds, connect=self._settings.connect_seconds)
        try:
            # The library's own limits are for each read; a receiver that drips would never reach them.
            async with asyncio.timeout(limit), httpx2.AsyncClient(timeout=timeout, follow_redirects=False) as client:
                request = client.stream("POST", self._settings.url, content=body, headers=self._headers(key, body))
                async with request as response:
                    return await _read(response)
        except TimeoutError:
            raise _TryAgain(f"no answer within {limit:.3g} s", arrived=True) from None
        except httpx2.TransportError as error:
            raise _explained(error, urlsplit(self._settings.url).hostname or "") from error

    def _headers(self, key: str, body: bytes) -> dict[str, str]:
        digest = base64.b64encode(hashlib.sha256(body).digest()).decode()
        headers = {
            "Idempotency-Key": f'"{key}"',
            "Content-Type": "application/json",
            "Content-Digest": f"sha-256=:{digest}:",
        }
        if self._settings.token:
            headers["Authorization"] = f"Bearer {self._settings.token}"
        return headers

    def _without_token(self, text: str) -> str:
        return text.replace(self._settings.token, "***") if self._settings.token else text


def canonical_json(value: object) -> bytes:
    """The one byte string for a value: keys sorted, no spaces, UTF-8. NaN and infinity are refused (ValueError)."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def endpoint_name(url: str) -> str:
    """A name for an address that shows its host alone: the rest of it may be a secret."""
    parts = urlsplit(url)
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{parts.hostname}{port}#{hashlib.sha256(url.encode()).hexdigest()[:12]}"


def _body(content: Mapping[str, Any], supersedes: str | None) -> bytes:
    return canonical_json(content if supersedes is None else {**content, "supersedes": supersedes})


def _about(delivery: DeliveryRecord) -> str:
    return (
        f"delivery of {delivery.asset} {delivery.day} to {delivery.endpoint} "
        f"(key {delivery.key[:12]}, input hash {delivery.content_hash})"
    )


def _not_before(until: datetime) -> str:
    return f"It is posted again after {until:%Y-%m-%d %H:%M:%S} UTC, or at once by a run that you start by hand."


def _last(failed: Sequence[DeliveryRecord]) -> str:
    return max(one.failed_at or "" for one in failed)


def _outcome(delivery: DeliveryRecord, status: int | None, attempts: int, *, posted: bool) -> DeliveryOutcome:
    return DeliveryOutcome(delivery.key, delivery.content_hash, delivery.supersedes, status, attempts, posted)


async def _read(response: httpx2.Response) -> _Answer:
    """The answer with the digest of its body; a body without end is cut off, its digest is of what was read."""
    body = bytearray()
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) >= _LARGEST_ANSWER:
            break
    text = body[:_SHOWN_OF_ANSWER].decode(errors="replace")
    return _Answer(response.status_code, hashlib.sha256(body).hexdigest(), text, _retry_after(response.headers))


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that the receiver asks to wait (RFC 9110, 10.2.3: seconds or a date), or None for anything else."""
    text = headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        instant = parsedate_to_datetime(text)
        instant = instant if instant.tzinfo else instant.replace(tzinfo=UTC)
        return max(0.0, (instant - utc.now()).total_seconds())
    except (ValueError, OverflowError):
        return None


def _refuse_if_no_outcome(answer: _Answer) -> None:
    """Raise _TryAgain for what says nothing final.

    408, 425 and 429 say that this request was not handled. 409 says that another one with this key is at work, with
    Retry-After or without (draft-ietf-httpapi-idempotency-key-header, 2.7, asks for none), and 5xx says nothing.
    """
    unhandled = answer.status in (408, 425, 429)
    if unhandled or answer.status == 409 or answer.status >= 500:
        raise _TryAgain(
            f"answered {answer.status}", arrived=not unhandled, status=answer.status, wait=answer.retry_after
        )


def _pause(error: Exception, deadline: float, shortest: float) -> bool | float:
    """Whether to try again (after the usual pause), or after how many seconds; never beyond the deadline."""
    if not isinstance(error, _TryAgain):
        return False
    wait = error.wait if error.wait is not None and error.wait > shortest else 0.0
    return (wait or True) if time.monotonic() + wait < deadline else False


def _explained(error: httpx2.TransportError, host: str) -> _TryAgain | DeliveryRejected:
    """What a failed connection means. Nothing arrived unless the connection stood."""
    import httpx2  # noqa: PLC0415

    causes = list(_causes(error))
    broken_tls = [cause for cause in causes if isinstance(cause, ssl.SSLError)]
    cut_off = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError)
    if isinstance(error, httpx2.ConnectError) and broken_tls and not isinstance(broken_tls[-1], cut_off):
        return DeliveryRejected(
            f"TLS with {host} failed: {broken_tls[-1]}. Nothing was sent. Retrying does not help before the "
            "certificate, the trusted ones of this machine, or ETL_DELIVERY_URL is changed."
        )
    if isinstance(error, httpx2.UnsupportedProtocol | httpx2.LocalProtocolError):
        return DeliveryRejected(f"the request to {host} cannot be sent ({type(error).__name__}); nothing was sent.")
    if any(isinstance(cause, socket.gaierror) for cause in causes):
        return _TryAgain(f"host {host} is unknown here; check ETL_DELIVERY_URL and the network", arrived=False)
    unconnected = isinstance(
        error, httpx2.ConnectError | httpx2.ConnectTimeout | httpx2.PoolTimeout | httpx2.ProxyError
    )
    return _TryAgain(f"{type(error).__name__}: {error}".rstrip(": "), arrived=not unconnected)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
