"""Decoder names: what a source may say under `decoder`, checked when it is loaded. Needs no client library.

Belongs here: the words, and finding a function that is named. Does not belong here: decoding (`decoders`).
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterator
from typing import Any

NAMES = ("json", "json-schema", "avro", "protobuf")
WITH_REGISTRY = ("avro", "protobuf")
_FUNCTION = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


class NoSuchDecoder(ValueError):
    """The function cannot be found; the message says why."""


def problems(decoder: str) -> Iterator[str]:
    """What is wrong with the name of a decoder, in words."""
    if decoder in NAMES:
        return
    if not _FUNCTION.fullmatch(decoder):
        names = ", ".join(NAMES)
        yield f"decoder is {decoder!r}; it can be {names}, or a function, like `decoder: mine.decoders:telemetry`"
        return
    try:
        function(decoder)
    except NoSuchDecoder as error:
        yield f"decoder {decoder!r}: {error}"


def function(decoder: str) -> Callable[[bytes], Any]:
    """The function of a decoder that is called module:function. Raises NoSuchDecoder."""
    module, _, name = decoder.partition(":")
    try:
        found = getattr(importlib.import_module(module), name, None)
    except ImportError as error:
        raise NoSuchDecoder(f"{error}; the module must be importable where the project runs") from None
    if not callable(found):
        raise NoSuchDecoder(f"{module} has no function {name}")
    return found  # type: ignore[no-any-return]
