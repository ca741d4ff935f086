"""Decoders: the one that a source names, ready to be used.

Belongs here: choosing, framed JSON, and functions of one's own. Does not belong here: what a registry says
(`registry`), single encodings (`avro`, `protobuf`).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import Any

from etl_project.kafka import decoder_names, extra, json_text
from etl_project.kafka.decode import Decoded, Decoder, Poison, json_object
from etl_project.kafka.json_text import NoJson
from etl_project.kafka.subscription import Subscription
from etl_project.kafka.wire_format import unframed


def of(subscription: Subscription) -> Decoder:
    """The decoder of the source.

    Raises SettingsError (retrying does not help) where it needs a registry and the environment names none, and
    MissingExtra where its libraries are not installed.
    """
    if subscription.decoder == "json":
        return json_object
    if subscription.decoder == "json-schema":
        return framed_json
    if subscription.decoder in decoder_names.WITH_REGISTRY:
        return _with_registry(subscription.decoder)
    return own(decoder_names.function(subscription.decoder))


def framed_json(value: bytes) -> Decoded:
    """JSON behind the five bytes of a schema registry. The schema itself is not asked for: what a row is, says the
    contract, and the text is landed as it was sent."""
    return json_object(unframed(value).payload)


def own(function: Callable[[bytes], Any]) -> Decoder:
    """A decoder of a function from the bytes of a value to a dictionary (None for null).

    What it raises for bytes that it cannot read (ValueError, KeyError, IndexError, struct.error) makes a dead letter;
    anything else is a fault of the function, and ends the landing.
    """

    def decoder(value: bytes) -> Decoded:
        try:
            fields = function(value)
        except (ValueError, LookupError, struct.error) as error:
            raise Poison(f"the decoder says {type(error).__name__}: {error}") from None
        return encoded(fields)

    return decoder


def encoded(fields: Any) -> Decoded:
    """Decoded values as the text that is landed, and as what is in it. Raises Poison for what JSON cannot say."""
    if fields is None:
        return None
    if not isinstance(fields, Mapping):
        raise Poison(f"the decoder gives {type(fields).__name__}, no object with fields")
    try:
        text = json_text.written(fields)
    except NoJson as error:
        raise Poison(str(error)) from None
    return json_object(text)


def _with_registry(name: str) -> Decoder:
    # Who has no registry needs none of its libraries.
    extra.require_registry()
    from etl_project.kafka import registry  # noqa: PLC0415

    schemas = registry.connected()
    if name == "avro":
        from etl_project.kafka.avro import AvroDecoder  # noqa: PLC0415

        reader: Callable[[bytes], Any] = AvroDecoder(schemas).fields
    else:
        from etl_project.kafka.protobuf import ProtobufDecoder  # noqa: PLC0415

        reader = ProtobufDecoder(schemas).fields
    return lambda value: encoded(reader(value))
