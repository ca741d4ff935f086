"""Where the broker is and how to log in: from the environment, and never shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from etl_project.kafka import settings
from etl_project.settings import SettingsError


def load(path: Path | None = None, bootstrap: str = "one:9092,two:9092") -> settings.Broker:
    return settings.load({"ETL_KAFKA_BOOTSTRAP": bootstrap, **({"ETL_KAFKA_CONFIG": str(path)} if path else {})})


def test_without_a_broker_there_is_one_line_that_names_the_variable() -> None:
    assert not settings.is_configured({"ETL_KAFKA_BOOTSTRAP": ""})
    with pytest.raises(SettingsError, match=r"^ETL_KAFKA_BOOTSTRAP is not set; name the brokers, like localhost:9092"):
        settings.load({})


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.properties", "# login\n\nsecurity.protocol = SASL_SSL\nsasl.password=a=b c\n"),
        ("a.json", '{"security.protocol": "SASL_SSL", "sasl.password": "a=b c"}'),
    ],
)
def test_options_come_from_a_file_and_are_not_shown(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    broker = load(tmp_path / name)
    assert broker.options == {"security.protocol": "SASL_SSL", "sasl.password": "a=b c"}
    assert "a=b c" not in repr(broker)


def test_numbers_and_booleans_in_json_are_taken_as_they_are_written(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"session.timeout.ms": 6000, "socket.keepalive.enable": true}')
    assert load(tmp_path / "a.json").options == {"session.timeout.ms": "6000", "socket.keepalive.enable": "true"}


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("a.properties", "ok=1\nhush hush\n", "line 2 is not NAME=VALUE"),
        ("a.properties", "=hush\n", "line 1 is not NAME=VALUE"),
        ("a.json", '["hush"]', "is no JSON object"),
        ("a.json", "{hush", "is no JSON object"),
        ("a.properties", "enable.auto.commit=true\nsasl.password=hush", "sets enable.auto.commit, which the landing"),
        ("a.properties", "isolation.level=hush\ngroup.id=x", "sets group.id, isolation.level"),
    ],
)
def test_a_file_that_cannot_be_used_is_one_line_without_what_it_says(
    name: str, text: str, reason: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(SettingsError) as raised:
        load(tmp_path / name)
    assert reason in str(raised.value)
    assert "hush" not in str(raised.value)


def test_a_file_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read: No such file or directory"):
        load(tmp_path / "none")
