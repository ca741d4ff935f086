"""Settings of HTTP in: every environment variable of the receiver, validated when loaded; and how such are read.

Belongs here: reading and checking the environment. Does not belong here: any request or file. Secrets are kept out of
`repr`, and of a receiver's tokens only the digests are kept at all.
"""

from __future__ import annotations

import hashlib
import os
import re
import ssl
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from difflib import get_close_matches

from etl_project.http_in.signatures import (
    HEADER_PATTERN,
    KEY_HEADER,
    SECRET_VARIABLE,
    SIGNATURE_VARIABLE,
    Signature,
    signature_of,
)
from etl_project.settings import SettingsError

SOURCE_PATTERN = r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}"
"""What a source may be called in a URL: one plain folder name."""

_TOKEN_VARIABLE = "ETL_RECEIVER_TOKEN_"
_SOURCES_VARIABLE = "ETL_RECEIVER_SOURCES_"
_KEY_HEADER_VARIABLE = "ETL_RECEIVER_KEY_HEADER_"
_KEY_FIELD_VARIABLE = "ETL_RECEIVER_KEY_FIELD_"
_TLS_VARIABLES = ("ETL_RECEIVER_TLS_CERTIFICATE", "ETL_RECEIVER_TLS_KEY")
_OF_A_CLIENT = (
    _TOKEN_VARIABLE,
    _SOURCES_VARIABLE,
    _KEY_HEADER_VARIABLE,
    _KEY_FIELD_VARIABLE,
    SECRET_VARIABLE,
    SIGNATURE_VARIABLE,
)
_OF_ALL = tuple(
    f"ETL_RECEIVER_{name}"
    for name in ("HOST", "PORT", "MAX_BYTES", "IDLE_SECONDS", "UPLOAD_SECONDS", "MAX_UPLOADS", "KEY_DAYS")
)
_SHORTEST_TOKEN = 16


@dataclass(frozen=True)
class Sender:
    """One sender: its name scopes its keys, its token is known by digest, its sources are all it may write to.

    A sender of webhooks has a `signature` instead of a token. Its key comes from `key_header`, or from the field at
    `key_field`, name by name, in the JSON that it sends.
    """

    name: str
    token_digest: bytes = field(repr=False)
    sources: frozenset[str]
    key_header: str = KEY_HEADER
    key_field: tuple[str, ...] = ()
    signature: Signature | None = None


@dataclass(frozen=True)
class Tls:
    """The files, in PEM, of the certificate (with those between it and its root) and of its key."""

    certificate: str
    key: str


@dataclass(frozen=True)
class Receiver:
    """Who may send what, how much and how slowly. Times are seconds, sizes bytes."""

    clients: tuple[Sender, ...]
    host: str = "127.0.0.1"
    port: int = 8085
    tls: Tls | None = None
    max_bytes: int = 1 << 30
    idle_seconds: float = 30.0
    upload_seconds: float = 900.0
    max_uploads: int = 512
    keys_kept: timedelta = timedelta(days=7)
    lease_seconds: float = 30.0


def receiver(environ: Mapping[str, str] | None = None) -> Receiver:
    """Settings of the receiver. At least one client has to be named: nothing is ever accepted without a token.

    Raises SettingsError (retrying does not help) with one line that names the variable and what would do.
    """
    env = os.environ if environ is None else environ
    refuse_misspelt(env, "ETL_RECEIVER_", _known(env))
    return Receiver(
        clients=_clients(env),
        host=env.get("ETL_RECEIVER_HOST") or "127.0.0.1",
        port=whole(env, "ETL_RECEIVER_PORT", 8085, most=65535),
        tls=_tls(env),
        max_bytes=whole(env, "ETL_RECEIVER_MAX_BYTES", 1 << 30),
        idle_seconds=number(env, "ETL_RECEIVER_IDLE_SECONDS", 30.0),
        upload_seconds=number(env, "ETL_RECEIVER_UPLOAD_SECONDS", 900.0),
        max_uploads=whole(env, "ETL_RECEIVER_MAX_UPLOADS", 512),
        keys_kept=timedelta(days=whole(env, "ETL_RECEIVER_KEY_DAYS", 7, most=3650)),
    )


def token_digest(token: str) -> bytes:
    """The digest by which a token is compared: equal length always, so the comparison tells nothing by its time."""
    return hashlib.sha256(token.encode()).digest()


def refuse_misspelt(env: Mapping[str, str], prefix: str, known: Collection[str]) -> None:
    """Raise SettingsError for a variable with this prefix that is none of those known: it would be passed over."""
    for name in sorted(set(env) - set(known)):
        if name.startswith(prefix):
            near = get_close_matches(name, known, 1)
            hint = f"did you mean {near[0]}?" if near else "see docs/http.md for those that are."
            raise SettingsError(f"{name} is no setting, or its client has no token and no secret; {hint}")


def _known(env: Mapping[str, str]) -> set[str]:
    clients = _names_of_clients(env)
    return {variable + client for variable in _OF_A_CLIENT for client in clients} | {*_OF_ALL, *_TLS_VARIABLES}


def _names_of_clients(env: Mapping[str, str]) -> list[str]:
    found = {
        name.removeprefix(variable)
        for name in env
        for variable in (_TOKEN_VARIABLE, SECRET_VARIABLE)
        if name.startswith(variable)
    }
    return sorted(found)


def _tls(env: Mapping[str, str]) -> Tls | None:
    certificate, key = (env.get(name) or "" for name in _TLS_VARIABLES)
    if not certificate and not key:
        return None
    for name, path in zip(_TLS_VARIABLES, (certificate, key), strict=True):
        if not path or not os.access(path, os.R_OK) or not os.path.isfile(path):
            raise SettingsError(f"{name}={path!r} is no file that can be read; name one in PEM, or leave both out.")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password=_no_password)
    except (ssl.SSLError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise SettingsError(
            f"{' and '.join(_TLS_VARIABLES)} do not fit together ({reason}); name a certificate and its key, in PEM, "
            "without a password."
        ) from None
    return Tls(certificate, key)


def _no_password() -> str:
    raise ValueError("the key has a password")


def _clients(env: Mapping[str, str]) -> tuple[Sender, ...]:
    names = _names_of_clients(env)
    if not names:
        raise SettingsError(
            f"no client is set up; set {_TOKEN_VARIABLE}<CLIENT> to its token and {_SOURCES_VARIABLE}<CLIENT> "
            "to the sources it may send, like orders,payments."
        )
    clients = tuple(_client(env, name) for name in names)
    tokens = [client.token_digest for client in clients if client.signature is None]
    if len(set(tokens)) < len(tokens):
        raise SettingsError(f"two {_TOKEN_VARIABLE}<CLIENT> hold the same token; give every client its own.")
    if len({client.name for client in clients}) < len(clients):
        raise SettingsError(f"two {_TOKEN_VARIABLE}<CLIENT> differ only in case; name every client once.")
    return clients


def _client(env: Mapping[str, str], name: str) -> Sender:
    signature = signature_of(env, name)
    if signature is not None and env.get(_TOKEN_VARIABLE + name):
        raise SettingsError(
            f"{_TOKEN_VARIABLE}{name} and {SECRET_VARIABLE}{name} are both set; a client has a token or signs, "
            "give the webhooks a client of their own."
        )
    token = header_safe(_TOKEN_VARIABLE + name, env.get(_TOKEN_VARIABLE + name)) or ""
    if not name or (signature is None and len(token) < _SHORTEST_TOKEN):
        raise SettingsError(
            f"{_TOKEN_VARIABLE}{name or '<CLIENT>'} needs a client's name and a token of at least {_SHORTEST_TOKEN} "
            "characters; make one with: python -c 'import secrets; print(secrets.token_urlsafe(32))'"
        )
    text = env.get(_SOURCES_VARIABLE + name, "")
    sources = frozenset(part.strip() for part in text.split(",") if part.strip())
    if not sources or not all(re.fullmatch(SOURCE_PATTERN, source) for source in sources):
        raise SettingsError(
            f"{_SOURCES_VARIABLE}{name}={text!r} does not list sources; write their folder names, like orders,payments."
        )
    digest = token_digest(token) if signature is None else b""
    return Sender(name.lower(), digest, sources, *_place_of_key(env, name, signature), signature)


def _place_of_key(env: Mapping[str, str], name: str, signature: Signature | None) -> tuple[str, tuple[str, ...]]:
    """The header, or the path of fields, that holds a client's keys."""
    header, path = env.get(_KEY_HEADER_VARIABLE + name), env.get(_KEY_FIELD_VARIABLE + name)
    if header and not re.fullmatch(HEADER_PATTERN, header):
        raise SettingsError(
            f"{_KEY_HEADER_VARIABLE}{name}={header!r} is no name of a header; write one, like X-Idempotency-Key."
        )
    fields = tuple((path or "").split(".")) if path else ()
    if path and (header or signature is None or not all(fields)):
        raise SettingsError(
            f"{_KEY_FIELD_VARIABLE}{name}={path!r} is for webhooks ({SECRET_VARIABLE}{name}) without "
            f"{_KEY_HEADER_VARIABLE}{name}, and names a field of their JSON; write it like data.id."
        )
    if signature is not None and not header and not path:
        return signature.usual_key
    return (header or KEY_HEADER).lower(), fields


def header_safe(name: str, text: str | None) -> str | None:
    """The token, if there is one. It travels in a header: visible ASCII only, and never shown in a message."""
    if text and not re.fullmatch(r"[\x21-\x7e]+", text):
        raise SettingsError(f"{name} has characters that cannot travel in a header; use visible ASCII without spaces.")
    return text or None


def number(env: Mapping[str, str], name: str, default: float) -> float:
    """The seconds that a variable holds, more than 0."""
    text = env.get(name) or str(default)
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise SettingsError(f"{name}={text!r} is not a number of seconds above 0; write one, like {default:g}.")
    return number


def whole(env: Mapping[str, str], name: str, default: int, most: int = 1 << 50) -> int:
    """The whole number that a variable holds, from 1 to `most`."""
    text = env.get(name) or str(default)
    if not re.fullmatch(r"[0-9]{1,16}", text) or not 1 <= int(text) <= most:
        raise SettingsError(f"{name}={text!r} is not a whole number from 1 to {most}; write one, like {default}.")
    return int(text)
