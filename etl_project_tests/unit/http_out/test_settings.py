"""Settings of HTTP out are refused at load, in one line, and never show a secret."""

from __future__ import annotations

import pytest

from etl_project.http_out import settings
from etl_project.settings import SettingsError

TOKEN = "a-token-of-some-length"


def test_without_an_address_nothing_is_delivered() -> None:
    assert settings.outgoing({}) is None
    assert settings.outgoing({"ETL_DELIVERY_TOKEN": TOKEN}) is None


@pytest.mark.parametrize(
    "url",
    [
        "plain.test",
        "ftp://files.test",
        "https:///path",
        "https://a b",
        "http://[::1",
        "http://h:99999",
        "https://user:s3cr3t@h/",
    ],
)
def test_an_unusable_address_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(SettingsError, match="ETL_DELIVERY_URL") as refused:
        settings.outgoing({"ETL_DELIVERY_URL": url})
    assert url not in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("token", ["two words", "line\nbreak", "gr\u00fcn"])
def test_a_token_that_cannot_travel_is_refused_without_showing_it(token: str) -> None:
    with pytest.raises(SettingsError, match="ETL_DELIVERY_TOKEN") as refused:
        settings.outgoing({"ETL_DELIVERY_URL": "https://example.org", "ETL_DELIVERY_TOKEN": token})
    assert token not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ETL_DELIVERY_TOTAL_SECONDS", "soon"),
        ("ETL_DELIVERY_TOTAL_SECONDS", "0"),
        ("ETL_DELIVERY_CONNECT_SECONDS", "nan"),
        ("ETL_DELIVERY_READ_SECONDS", "inf"),
        ("ETL_DELIVERY_ATTEMPTS", "0"),
        ("ETL_DELIVERY_ATTEMPTS", "2.5"),
    ],
)
def test_an_odd_number_is_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"{name}='{value}'"):
        settings.outgoing({"ETL_DELIVERY_URL": "https://example.org", name: value})


def test_a_misspelt_variable_is_refused_even_where_nothing_would_be_delivered() -> None:
    with pytest.raises(SettingsError, match=r"ETL_DELIVERY_ULR is no setting.*did you mean ETL_DELIVERY_URL\?"):
        settings.outgoing({"ETL_DELIVERY_ULR": "https://example.org"})


def test_no_secret_shows_in_a_repr() -> None:
    sending = settings.outgoing({"ETL_DELIVERY_URL": "https://example.org/hook/s3cr3t", "ETL_DELIVERY_TOKEN": TOKEN})
    assert TOKEN not in repr(sending)
    assert "s3cr3t" not in repr(sending)
