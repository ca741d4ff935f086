"""Values in other encodings than JSON, behind the bytes of a schema registry: a row, a dead letter, or a stop."""

from __future__ import annotations

import json
import struct
import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from confluent_kafka.serialization import MessageField, SerializationContext

from etl_project.kafka import decoders
from etl_project.kafka.decode import Decoder, MessageReader, Poison
from etl_project.kafka.subscription import Subscription
from etl_project.settings import SettingsError
from etl_project_tests import schema_registry
from etl_project_tests.kafka_broker import FIRST_MS, subscription
from etl_project_tests.schema_registry import RegistryServer

DAY = date(2025, 3, 10)
ORDER = {
    "type": "record",
    "name": "Order",
    "fields": [
        {"name": "id", "type": "long"},
        {"name": "amount", "type": {"type": "bytes", "logicalType": "decimal", "precision": 20, "scale": 3}},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "day", "type": {"type": "int", "logicalType": "date"}},
        {"name": "note", "type": ["null", "string"], "default": None},
        {"name": "raw", "type": "bytes"},
        {"name": "items", "type": {"type": "array", "items": "string"}},
    ],
}
VALUE = {
    "id": 2**53 + 1,
    "amount": Decimal("12345678901234567.100"),
    "at": datetime(2025, 3, 10, 1, 2, 3, tzinfo=UTC),
    "day": DAY,
    "note": "ö",
    "raw": b"\xff\x00",
    "items": ["a", "b"],
}


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[RegistryServer]:
    pytest.importorskip("fastavro")
    pytest.importorskip("authlib")
    with schema_registry.running() as server:
        monkeypatch.setenv("ETL_SCHEMA_REGISTRY_URL", server.url)
        monkeypatch.delenv("ETL_SCHEMA_REGISTRY_CONFIG", raising=False)
        yield server


def decoder(name: str) -> Decoder:
    return decoders.of(subscription("t", decoder=name))


def text_of(found: Any) -> str:
    assert found is not None
    assert json.loads(found[0]).keys() == found[1].keys()
    return bytes(found[0]).decode()


def avro(server: RegistryServer, value: Any, schema: dict[str, Any] = ORDER) -> bytes:
    """The bytes that Confluent's own serializer sends."""
    client = import_module("confluent_kafka.schema_registry").SchemaRegistryClient({"url": server.url})
    serializer = import_module("confluent_kafka.schema_registry.avro").AvroSerializer(client, json.dumps(schema))
    return bytes(serializer(value, SerializationContext("orders", MessageField.VALUE)))


def test_avro_of_confluents_serializer_is_landed_with_every_digit(registry: RegistryServer) -> None:
    value = avro(registry, VALUE)
    read = decoder("avro")
    assert text_of(read(value)) == (
        '{"id":9007199254740993,"amount":12345678901234567.100,"at":"2025-03-10T01:02:03Z","day":"2025-03-10",'
        '"note":"ö","raw":"base64:/wA=","items":["a","b"]}'
    )
    assert [read(value), read(value)] == [read(value)] * 2
    assert len([one for one in registry.asked if one.startswith("GET /schemas/")]) == 1, "a schema is asked for once"


def test_avro_may_refer_to_other_schemas(registry: RegistryServer) -> None:
    point = {"type": "record", "name": "Point", "namespace": "geo", "fields": [{"name": "x", "type": "int"}]}
    registry.register_avro("point", point)
    shape = {"type": "record", "name": "Shape", "fields": [{"name": "at", "type": "geo.Point"}]}
    reference = {"name": "geo.Point", "subject": "point", "version": 1}
    number = registry.register_avro("shape", shape, [reference])
    assert text_of(decoder("avro")(struct.pack(">bI", 0, number) + b"\x06")) == '{"at":{"x":3}}'


@pytest.mark.parametrize(
    ("spoilt", "reason"),
    [
        (lambda value: value[:-1], "not Avro of schema 1"),
        (lambda value: value + b"\0", "bytes are left behind the value"),
        (lambda value: b"\0\0\0\0\x63" + value[5:], "schema 99 is not in the registry"),
        (lambda value: b'{"id": 1}', r"no schema registry framing.*7b22696422.*`decoder: json`"),
        (lambda value: b"", "nothing"),
    ],
)
def test_what_is_no_avro_is_a_dead_letter_with_its_reason(registry: RegistryServer, spoilt: Any, reason: str) -> None:
    value = avro(registry, VALUE)
    with pytest.raises(Poison, match=reason):
        decoder("avro")(spoilt(value))


def test_a_number_that_json_does_not_have_is_a_dead_letter(registry: RegistryServer) -> None:
    schema = {"type": "record", "name": "N", "fields": [{"name": "x", "type": "double"}]}
    with pytest.raises(Poison, match="nan is no JSON"):
        decoder("avro")(avro(registry, {"x": float("nan")}, schema))
    assert text_of(decoder("avro")(avro(registry, {"x": 0.1}, schema))) == '{"x":0.1}'


@pytest.mark.parametrize(("status", "error"), [(500, "RegistryAway"), (429, "RegistryAway"), (401, "RegistryRefuses")])
def test_a_registry_that_does_not_answer_makes_no_dead_letter_of_any_message(
    registry: RegistryServer, status: int, error: str
) -> None:
    schemas = import_module("etl_project.kafka.registry")
    value = avro(registry, VALUE)
    registry.status = status
    with pytest.raises(getattr(schemas, error), match=rf"HTTP {status}.*Nothing of the batch was committed"):
        decoder("avro")(value)


def test_a_registry_that_is_not_there_is_said_to_be_away(registry: RegistryServer, monkeypatch: Any) -> None:
    value = avro(registry, VALUE)
    monkeypatch.setenv("ETL_SCHEMA_REGISTRY_URL", "http://127.0.0.1:9")
    with pytest.raises(import_module("etl_project.kafka.registry").RegistryAway, match="Is it up"):
        decoder("avro")(value)


def descriptor() -> Any:
    """A file with two types, one inside the other, of which the last field is an instant."""
    descriptor_pb2 = import_module("google.protobuf.descriptor_pb2")
    file = descriptor_pb2.FileDescriptorProto(name="x.proto", package="shop", syntax="proto3")
    file.dependency.append("google/protobuf/timestamp.proto")
    outer = file.message_type.add(name="Order")
    field = descriptor_pb2.FieldDescriptorProto
    outer.field.add(name="id", number=1, type=field.TYPE_INT64, label=field.LABEL_OPTIONAL)
    outer.field.add(name="note_text", number=2, type=field.TYPE_STRING, label=field.LABEL_OPTIONAL)
    outer.field.add(
        name="at", number=3, type=field.TYPE_MESSAGE, type_name=".google.protobuf.Timestamp", label=field.LABEL_OPTIONAL
    )
    inner = outer.nested_type.add(name="Line")
    inner.field.add(name="n", number=1, type=field.TYPE_INT32, label=field.LABEL_OPTIONAL)
    return file


ID_AND_TIME = b"\x08\xac\x02\x1a\x06\x08\x80\x8c\xcb\xbe\x06"
"""id 300, no text, an instant of 2025."""


def test_protobuf_is_read_with_the_types_that_the_registry_describes(registry: RegistryServer) -> None:
    number = registry.register_descriptor("orders-value", descriptor().SerializeToString())
    frame = struct.pack(">bI", 0, number)
    read = decoder("protobuf")
    found = json.loads(text_of(read(frame + b"\0" + ID_AND_TIME)))
    assert (found["id"], found["note_text"], found["at"][:4]) == ("300", "", "2025")
    assert read(frame + b"\x02\x00" + ID_AND_TIME) == read(frame + b"\0" + ID_AND_TIME), "the path [0] written out"
    assert text_of(read(frame + b"\x04\x00\x00" + b"\x08\x07")) == '{"n":7}'


def test_protobuf_may_import_other_files(registry: RegistryServer) -> None:
    descriptor_pb2 = import_module("google.protobuf.descriptor_pb2")
    registry.register_descriptor("order.proto", descriptor().SerializeToString())
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="y.proto", syntax="proto3", dependency=["order.proto"])
    file.message_type.add(name="Basket").field.add(
        name="order", number=1, type=field.TYPE_MESSAGE, type_name=".shop.Order", label=field.LABEL_OPTIONAL
    )
    reference = {"name": "order.proto", "subject": "order.proto", "version": 1}
    number = registry.register_descriptor("baskets-value", file.SerializeToString(), [reference])
    found = decoder("protobuf")(struct.pack(">bI", 0, number) + b"\0\x0a\x02\x08\x05")
    assert text_of(found) == '{"order":{"id":"5","note_text":""}}'


@pytest.mark.parametrize("payload", ["0008", "80", "06000000", "010801", "020a0801", ""])
def test_what_is_no_protobuf_is_a_dead_letter(registry: RegistryServer, payload: str) -> None:
    number = registry.register_descriptor("orders-value", descriptor().SerializeToString())
    with pytest.raises(Poison, match=r"Protobuf|no message type"):
        decoder("protobuf")(struct.pack(">bI", 0, number) + bytes.fromhex(payload))


def test_json_behind_the_bytes_of_a_registry_is_landed_as_it_was_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ETL_SCHEMA_REGISTRY_URL", raising=False)
    text = b'{"id": 1, "note": "1.10"}'
    assert decoder("json-schema")(b"\0\0\0\0\x2a" + text) == (text, {"id": 1, "note": "1.10"})
    with pytest.raises(Poison, match="plain JSON"):
        decoder("json-schema")(text)


def test_a_source_that_needs_a_registry_says_so_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("fastavro")
    pytest.importorskip("authlib")
    monkeypatch.delenv("ETL_SCHEMA_REGISTRY_URL", raising=False)
    with pytest.raises(SettingsError, match=r"^ETL_SCHEMA_REGISTRY_URL is not set; .*http://localhost:8081\.$"):
        decoder("avro")


@pytest.fixture
def mine() -> Iterator[Any]:
    module: Any = ModuleType("mine_of_the_test")
    sys.modules[module.__name__] = module
    yield module
    del sys.modules[module.__name__]


def of(mine: Any, function: Any) -> Subscription:
    mine.telemetry = function
    return subscription("t", decoder=f"{mine.__name__}:telemetry")


def test_a_function_of_ones_own_decodes(mine: Any) -> None:
    asked = of(mine, lambda value: {"id": struct.unpack(">I", value)[0], "note": None})
    reader = MessageReader(asked, lambda: date(2025, 3, 20), decoders.of(asked))
    assert reader.read(b"\0\0\0\x05", FIRST_MS) == (DAY, b'{"id":5,"note":null}')
    with pytest.raises(Poison, match="the decoder says error: unpack requires"):
        reader.read(b"\0", FIRST_MS)


@pytest.mark.parametrize(("gives", "reason"), [([1], "gives list"), ({"id": {1}}, "type set"), ({1: 2}, "no text")])
def test_what_a_function_gives_must_be_an_object_that_json_can_say(mine: Any, gives: Any, reason: str) -> None:
    with pytest.raises(Poison, match=reason):
        decoders.of(of(mine, lambda value: gives))(b"")


def test_a_fault_of_the_function_itself_is_no_dead_letter(mine: Any) -> None:
    with pytest.raises(AttributeError):
        decoders.of(of(mine, lambda value: value.nothing))(b"")


def test_options_of_the_registry_stand_in_a_file_and_are_not_repeated(
    registry: RegistryServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "registry.properties"
    file.write_text("basic.auth.user.info=USER:hush\nno.such.option=1\n")
    monkeypatch.setenv("ETL_SCHEMA_REGISTRY_CONFIG", str(file))
    with pytest.raises(SettingsError) as refused:
        decoder("avro")
    assert "hush" not in str(refused.value) and str(file) in str(refused.value)
