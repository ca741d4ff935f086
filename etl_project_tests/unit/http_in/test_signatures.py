"""Signatures: the published examples of each scheme fit, and nothing that differs from them does."""

from __future__ import annotations

import base64
import hashlib
import hmac
from datetime import UTC, datetime, timedelta

import pytest

from etl_project.http_in.signatures import Signature

NOW = datetime.fromtimestamp(1614265330, UTC)
GITHUB = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
"""Of the documentation of GitHub's webhooks: secret and body of `test_the_example_of_github_fits`."""
STANDARD = {
    "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
    "webhook-timestamp": "1614265330",
    "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
}
"""Of the specification of standard webhooks."""
BODY = b'{"test": 2432232314}'


def standard() -> Signature:
    return Signature("standard", "webhook-signature", base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"))


def test_the_example_of_github_fits() -> None:
    github = Signature("hex", "x-hub-signature-256", b"It's a Secret to Everybody")
    for text in (GITHUB, f"sha256={GITHUB}"):
        assert github.fits({"x-hub-signature-256": text}, b"Hello, World!", NOW)
        assert not github.fits({"x-hub-signature-256": text}, b"Hello, World?", NOW)
    for text in ("", "sha256=", GITHUB[:-1], GITHUB[:-2], GITHUB[:-1] + "8", "grün", "sha1=" + GITHUB):
        assert not github.fits({"x-hub-signature-256": text}, b"Hello, World!", NOW)
    assert not github.fits({}, b"Hello, World!", NOW)


def test_base64_fits() -> None:
    right = base64.b64encode(hmac.new(b"s", BODY, hashlib.sha256).digest()).decode()
    shop = Signature("base64", "x-shop", b"s")
    assert shop.fits({"x-shop": right}, BODY, NOW)
    for text in ("", "=", right[:-1], right[:-4], "*" + right):
        assert not shop.fits({"x-shop": text}, BODY, NOW)


def test_the_example_of_standard_webhooks_fits_and_belongs_to_its_id_time_and_body() -> None:
    assert standard().fits(STANDARD, BODY, NOW)
    assert standard().fits(
        {**STANDARD, "webhook-signature": f"v1a,x v1,AAAA {STANDARD['webhook-signature']}"}, BODY, NOW
    )
    assert not standard().fits(STANDARD, BODY + b" ", NOW)
    for name, value in (
        ("webhook-id", "other"),
        ("webhook-timestamp", "1614265331"),
        ("webhook-timestamp", ""),
        ("webhook-timestamp", "1e9"),
        ("webhook-signature", "v2,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="),
    ):
        assert not standard().fits({**STANDARD, name: value}, BODY, NOW)


@pytest.mark.parametrize(("seconds", "fits"), [(-301, False), (-299, True), (299, True), (301, False)])
def test_an_old_message_does_not_fit_again(seconds: int, fits: bool) -> None:
    assert standard().fits(STANDARD, BODY, NOW + timedelta(seconds=seconds)) is fits
    stripe = Signature("stripe", "stripe-signature", b"s")
    signed = hmac.new(b"s", b"1614265330." + BODY, hashlib.sha256).hexdigest()
    for text in (f"t=1614265330,v1={signed}", f"t=1614265330, v1=00,v1={signed},v0=x"):
        assert stripe.fits({"stripe-signature": text}, BODY, NOW + timedelta(seconds=seconds)) is fits
    for text in (f"v1={signed}", f"t=1,v1={signed}", f"t=1614265330,t=1614265330,v1={signed}", "t=1614265330", ""):
        assert not stripe.fits({"stripe-signature": text}, BODY, NOW)
