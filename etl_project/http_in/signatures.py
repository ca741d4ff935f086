"""Signatures: how a sender of webhooks proves that a body is its own.

Belongs here: the schemes, their settings and the check. Does not belong here: reading the body, keys (`requests`).

All schemes are an HMAC with SHA-256 over the body as it was sent, with a secret that both sides know:

    X-Hub-Signature-256=hex     the named header holds it in hex (`sha256=` before it or not), as GitHub sends it
    X-Shopify-Hmac-Sha256=base64    the same in base64
    stripe                      Stripe-Signature: t=<time>,v1=<hex>, over "<time>.<body>"
    standard                    standardwebhooks.com: webhook-id, -timestamp, -signature: v1,<base64>, over all three

The last two sign the time as well, so that nobody can send an old message again: five minutes are allowed.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from etl_project.settings import SettingsError

KEY_HEADER = "idempotency-key"
HEADER_PATTERN = r"[A-Za-z0-9!#$%&'*+.^_`|~-]+"
SECRET_VARIABLE = "ETL_RECEIVER_SECRET_"
SIGNATURE_VARIABLE = "ETL_RECEIVER_SIGNATURE_"
_SHORTEST_SECRET = 16
_TOLERANCE_SECONDS = 300
_STANDARD_PREFIX = "whsec_"


@dataclass(frozen=True)
class Signature:
    """One scheme with its secret. `scheme`: hex, base64, stripe or standard; `header` holds the signature."""

    scheme: str
    header: str
    secret: bytes = field(repr=False)

    @property
    def usual_key(self) -> tuple[str, tuple[str, ...]]:
        """Where such senders have what is the same when they send a message again: a header, or a path of fields."""
        if self.scheme == "stripe":
            return KEY_HEADER, ("id",)
        return ("webhook-id" if self.scheme == "standard" else KEY_HEADER), ()

    def fits(self, headers: Mapping[str, str], body: bytes, now: datetime) -> bool:
        """Whether the body is the sender's own, and was signed just now where that is signed. Never raises."""
        given = headers.get(self.header, "")
        if self.scheme == "stripe":
            parts = [part.strip().partition("=") for part in given.split(",")]
            times = [value for name, _, value in parts if name == "t"]
            signed = f"{times[0] if times else ''}.".encode() + body
            return self._recent(times, now) and self._any([value for name, _, value in parts if name == "v1"], signed)
        if self.scheme == "standard":
            times = [headers.get("webhook-timestamp", "")]
            signed = f"{headers.get('webhook-id', '')}.{times[0]}.".encode() + body
            versions = [part.partition(",") for part in given.split(" ")]
            return self._recent(times, now) and self._any(
                [value for name, _, value in versions if name == "v1"], signed
            )
        return self._any([given.strip().removeprefix("sha256=")], body)

    def _recent(self, times: list[str], now: datetime) -> bool:
        return (
            len(times) == 1
            and re.fullmatch(r"[0-9]{1,12}", times[0]) is not None
            and abs(now.timestamp() - int(times[0])) <= _TOLERANCE_SECONDS
        )

    def _any(self, given: list[str], signed: bytes) -> bool:
        right = hmac.new(self.secret, signed, hashlib.sha256).digest()
        return any(hmac.compare_digest(self._decoded(text), right) for text in given)

    def _decoded(self, text: str) -> bytes:
        try:
            if self.scheme in ("hex", "stripe"):
                return bytes.fromhex(text)
            return base64.b64decode(text, validate=True)
        except (ValueError, binascii.Error):
            return b""


def signature_of(env: Mapping[str, str], client: str) -> Signature | None:
    """The signature that a client's settings ask for, None where it has none.

    Raises SettingsError (retrying does not help) with one line that names the variable and what would do.
    """
    secret, text = env.get(SECRET_VARIABLE + client), env.get(SIGNATURE_VARIABLE + client)
    if not secret and not text:
        return None
    if not text:
        raise SettingsError(f"{SIGNATURE_VARIABLE}{client} is missing; say how it signs, {_EXAMPLES}.")
    if len(secret or "") < _SHORTEST_SECRET:
        raise SettingsError(
            f"{SECRET_VARIABLE}{client} needs the secret that the sender signs with, {_SHORTEST_SECRET} characters at "
            "least; the sender shows it where the webhook is set up."
        )
    header, equals, encoding = text.partition("=")
    if text == "stripe":
        return Signature("stripe", "stripe-signature", (secret or "").encode())
    if text == "standard":
        return Signature("standard", "webhook-signature", _standard_secret(client, secret or ""))
    if not equals or encoding not in ("hex", "base64") or not re.fullmatch(HEADER_PATTERN, header):
        raise SettingsError(f"{SIGNATURE_VARIABLE}{client}={text!r} is no way to sign; write {_EXAMPLES}.")
    return Signature(encoding, header.lower(), (secret or "").encode())


_EXAMPLES = "like X-Hub-Signature-256=hex, X-Shopify-Hmac-Sha256=base64, stripe or standard"


def _standard_secret(client: str, text: str) -> bytes:
    try:
        return base64.b64decode(text.removeprefix(_STANDARD_PREFIX), validate=True)
    except (ValueError, binascii.Error):
        raise SettingsError(
            f"{SECRET_VARIABLE}{client} is no secret of standard webhooks; it is base64 after {_STANDARD_PREFIX}."
        ) from None
