"""Settings of HTTP in are refused at load, in one line, and never show a secret."""

from __future__ import annotations

import pytest

from etl_project.http_in import settings
from etl_project.settings import SettingsError

TOKEN = "a-token-of-some-length"
SHOP = {
    "ETL_RECEIVER_SECRET_SHOP": TOKEN,
    "ETL_RECEIVER_SIGNATURE_SHOP": "X-Hub-Signature-256=hex",
    "ETL_RECEIVER_SOURCES_SHOP": "events",
}
CLIENT = {"ETL_RECEIVER_TOKEN_ACME": TOKEN, "ETL_RECEIVER_SOURCES_ACME": "orders, payments"}


def test_clients_are_read_with_their_sources() -> None:
    loaded = settings.receiver(CLIENT)
    assert [(client.name, client.sources) for client in loaded.clients] == [("acme", {"orders", "payments"})]
    assert loaded.host == "127.0.0.1"


def test_no_secret_shows_in_a_repr() -> None:
    assert TOKEN not in repr(settings.receiver(CLIENT))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"ETL_RECEIVER_TOKEN_ACME": "short"}, "ETL_RECEIVER_TOKEN_ACME needs"),
        ({"ETL_RECEIVER_TOKEN_": TOKEN}, "ETL_RECEIVER_TOKEN_<CLIENT> needs"),
        ({"ETL_RECEIVER_SOURCES_ACME": ""}, "ETL_RECEIVER_SOURCES_ACME=''"),
        ({"ETL_RECEIVER_SOURCES_ACME": "../etc"}, "ETL_RECEIVER_SOURCES_ACME"),
        ({"ETL_RECEIVER_TOKEN_B": TOKEN, "ETL_RECEIVER_SOURCES_B": "x"}, "the same token"),
        ({"ETL_RECEIVER_TOKEN_acme": TOKEN + "2", "ETL_RECEIVER_SOURCES_acme": "x"}, "differ only in case"),
        ({"ETL_RECEIVER_KEY_HEADER_ACME": "X Key"}, "ETL_RECEIVER_KEY_HEADER_ACME='X Key'"),
        ({"ETL_RECEIVER_KEY_FIELD_ACME": "id"}, "ETL_RECEIVER_KEY_FIELD_ACME='id' is for webhooks"),
        ({"ETL_RECEIVER_SECRET_ACME": TOKEN}, "ETL_RECEIVER_SIGNATURE_ACME is missing"),
        (
            {"ETL_RECEIVER_SECRET_ACME": TOKEN, "ETL_RECEIVER_SIGNATURE_ACME": "stripe"},
            "ETL_RECEIVER_TOKEN_ACME and ETL_RECEIVER_SECRET_ACME are both set",
        ),
        (SHOP | {"ETL_RECEIVER_SECRET_SHOP": "short"}, "ETL_RECEIVER_SECRET_SHOP needs"),
        (SHOP | {"ETL_RECEIVER_SIGNATURE_SHOP": "md5"}, "ETL_RECEIVER_SIGNATURE_SHOP='md5' is no way to sign"),
        (SHOP | {"ETL_RECEIVER_SIGNATURE_SHOP": "X-Y=md5"}, "ETL_RECEIVER_SIGNATURE_SHOP='X-Y=md5'"),
        (SHOP | {"ETL_RECEIVER_SIGNATURE_SHOP": "standard"}, "ETL_RECEIVER_SECRET_SHOP is no secret of standard"),
        (SHOP | {"ETL_RECEIVER_KEY_FIELD_SHOP": "a..b"}, "ETL_RECEIVER_KEY_FIELD_SHOP='a..b'"),
        ({"ETL_RECEIVER_TLS_KEY": "/no/such"}, "ETL_RECEIVER_TLS_CERTIFICATE=''"),
        ({"ETL_RECEIVER_TLS_CERTIFICATE": "/no/such"}, "ETL_RECEIVER_TLS_CERTIFICATE='/no/such'"),
        (
            {"ETL_RECEIVER_TLS_CERTIFICATE": __file__, "ETL_RECEIVER_TLS_KEY": __file__},
            "ETL_RECEIVER_TLS_CERTIFICATE and ETL_RECEIVER_TLS_KEY do not fit together",
        ),
        (
            {"ETL_RECEIVER_SOURCES_ACNE": "x"},
            "ETL_RECEIVER_SOURCES_ACNE is no setting, or its client has no token",
        ),
        ({"ETL_RECEIVER_MAX_BYTE": "1"}, "did you mean ETL_RECEIVER_MAX_BYTES?"),
        ({"ETL_RECEIVER_TLS_CERT": "1"}, "ETL_RECEIVER_TLS_CERT is no setting"),
        ({"ETL_RECEIVER_SIGNATURE_ACNE": "stripe"}, "ETL_RECEIVER_SIGNATURE_ACNE is no setting"),
        ({"ETL_RECEIVER_PORT": "70000"}, "ETL_RECEIVER_PORT='70000'"),
        ({"ETL_RECEIVER_MAX_BYTES": "1GB"}, "ETL_RECEIVER_MAX_BYTES='1GB'"),
        ({"ETL_RECEIVER_IDLE_SECONDS": "-1"}, "ETL_RECEIVER_IDLE_SECONDS='-1'"),
    ],
)
def test_a_receiver_that_cannot_be_safe_is_refused(changes: dict[str, str], expected: str) -> None:
    with pytest.raises(SettingsError) as refused:
        settings.receiver(CLIENT | changes)
    assert expected in str(refused.value)
    assert TOKEN not in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_sender_of_webhooks_needs_no_token_and_has_its_keys_where_such_senders_have_them() -> None:
    usual = {"stripe": ("idempotency-key", ("id",)), "standard": ("webhook-id", ()), "X-Y=hex": ("idempotency-key", ())}
    for scheme, place in usual.items():
        secret = {"ETL_RECEIVER_SECRET_SHOP": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}
        [client] = settings.receiver(SHOP | secret | {"ETL_RECEIVER_SIGNATURE_SHOP": scheme}).clients
        assert (client.key_header, client.key_field) == place
        assert "MfKQ" not in repr(client)
    [client] = settings.receiver(SHOP | {"ETL_RECEIVER_KEY_FIELD_SHOP": "data.id"}).clients
    assert client.key_field == ("data", "id")
    [client] = settings.receiver(SHOP | {"ETL_RECEIVER_KEY_HEADER_SHOP": "X-GitHub-Delivery"}).clients
    assert client.key_header == "x-github-delivery"


def test_a_receiver_without_clients_is_refused() -> None:
    with pytest.raises(SettingsError, match="ETL_RECEIVER_TOKEN_<CLIENT>"):
        settings.receiver({})
