"""Requests: what the head of an incoming request says, checked before a byte of its body is read.

Belongs here: parsing and refusing headers, names and tokens. Does not belong here: reading bodies (`bodies`), keys
that were seen before (`claims`).
"""

from __future__ import annotations

import base64
import binascii
import hmac
import re
from collections.abc import Iterable
from datetime import date

from starlette.datastructures import Headers

from etl_project import utc
from etl_project.http_in.problems import Problem
from etl_project.http_in.settings import Sender, token_digest
from etl_project.http_in.signatures import KEY_HEADER

NAME_PATTERN = r"[A-Za-z0-9]([A-Za-z0-9._-]{0,198}[A-Za-z0-9])?"
"""What a file may be called: one plain name of letters, digits, dot, dash and underscore, 1 to 200 characters."""

KEY_PATTERN = r'"([\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\]){1,255}"'
"""A quoted string of RFC 8941, not empty, without parameters: the draft defines none."""

LONGEST_KEY = 255
BARE_KEY_PATTERN = r"[A-Za-z0-9!#$%&'*+.^_`|~:/-]{1,255}"
"""A token of RFC 8941, for senders that leave the quotes out."""

_VISIBLE = r"[\x21\x23-\x7e]{1,255}"
_DAY_PATTERN = r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
_UNFINISHED = (".tmp", ".swp", ".part")
_JSON_LINES = ("application/x-ndjson", "application/jsonl", "application/json")
_DIGESTS = {"sha-256": 32, "sha-512": 64}


def authenticate(headers: Headers, clients: Iterable[Sender]) -> Sender:
    """The client whose token it is, or 401. Takes the same time whichever token is wrong, and where."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    given = token_digest(token.strip())
    found = [client for client in clients if hmac.compare_digest(client.token_digest, given)]
    if scheme.lower() != "bearer" or not found:
        raise Problem(
            401, "token", "A bearer token of a known client is needed.", {"WWW-Authenticate": 'Bearer realm="etl"'}
        )
    return found[0]


def signing_client(name: str, clients: Iterable[Sender]) -> Sender:
    """The sender of webhooks that has this name in their address, or 401 as for a wrong signature."""
    found = [client for client in clients if client.signature is not None and client.name == name]
    if not found:
        raise unsigned()
    return found[0]


def unsigned() -> Problem:
    """The refusal of what nobody known has signed."""
    return Problem(401, "signature", "The signature of a known sender, made just now over this very body, is needed.")


def allowed_source(client: Sender, source: str) -> str:
    """The source, if this client may write to it; otherwise 403, whether or not it exists."""
    if source not in client.sources:
        raise Problem(403, "source", f"Client {client.name} may not write to this source.")
    return source


def printable_path(path: str) -> None:
    """400 for control characters: the router would drop a line break at the end and take the rest for the name."""
    if not path.isprintable():
        raise Problem(400, "name", f"{path[:200]!r} has characters that no path here has.")


def file_name(text: str) -> str:
    """The name, if it is plain, visible to the scan and stays in its folder; otherwise 400."""
    if not re.fullmatch(NAME_PATTERN, text):
        raise Problem(
            400,
            "name",
            f"{text[:200]!r} is no file name here; letters, digits, '.', '-' and '_' make one, 200 at most.",
        )
    if text.endswith(_UNFINISHED):
        raise Problem(400, "name", f"{text[:200]!r} is a name of unfinished files, which are never read.")
    return text


def idempotency_key(headers: Headers, name: str = KEY_HEADER) -> str:
    """The key in the header of that name, without its quotes; missing, doubled or malformed is 400.

    The draft has it in quotes; a bare token, as many senders have it, is the same key. In a header of another name it
    is whatever is visible there.
    """
    values = headers.getlist(name)
    shown = name.title()
    if not values:
        raise Problem(400, "key-missing", f'This needs an {shown}, like {shown}: "8e03978e-40d5".')
    bare = BARE_KEY_PATTERN if name == KEY_HEADER else _VISIBLE
    value = values[0].strip(" ")
    if len(values) == 1 and re.fullmatch(KEY_PATTERN, value):
        return re.sub(r"\\(.)", r"\1", value[1:-1])
    if len(values) == 1 and re.fullmatch(bare, value):
        return value
    raise Problem(
        400, "key-malformed", f"An {shown} is one string of 1 to 255 ASCII characters, in double quotes or a token."
    )


def key_in_body(document: object, path: tuple[str, ...]) -> str:
    """The key in a field of a JSON body: text or a whole number; anything else is 400."""
    found = document
    for name in path:
        found = found.get(name) if isinstance(found, dict) else None
    if isinstance(found, int) and not isinstance(found, bool):
        found = str(found)
    if not isinstance(found, str) or not 1 <= len(found) <= LONGEST_KEY or not found.isprintable():
        raise Problem(400, "key-missing", f"The field {'.'.join(path)} holds no key of 1 to {LONGEST_KEY} characters.")
    return found


def announced_size(headers: Headers, max_bytes: int) -> int | None:
    """The length that the head announces, None for a chunked body; 413 if it is too large.

    A coding that is not undone here is refused: what would be stored is not what the sender has.
    """
    if any(value.strip().lower() != "chunked" for value in headers.getlist("transfer-encoding")):
        raise Problem(501, "transfer-encoding", "The one Transfer-Encoding that is understood here is chunked.")
    for name in ("content-range", "content-encoding"):
        if any(value.strip().lower() != "identity" for value in headers.getlist(name)):  # A header may come twice.
            raise Problem(400, name, f"{name.title()} is not supported: send the whole file as it is.")
    text = headers.get("content-length")
    if text is None:
        return None
    if int(text) > max_bytes:  # uvicorn has refused anything but digits.
        raise Problem(413, "too-large", f"{text} bytes are announced; at most {max_bytes} are accepted.")
    return int(text)


def content_digest(headers: Headers) -> dict[str, bytes]:
    """The digests of RFC 9530 that the body has to have, by algorithm; none if none is sent.

    Unreadable ones are 400, and so is a header with no algorithm that can be checked here: silence would look checked.
    """
    values = headers.getlist("content-digest")
    digests = {}
    for member in ",".join(values).split(","):
        algorithm, _, value = member.strip().partition("=")
        if algorithm in _DIGESTS:
            digests[algorithm] = _digest(value, _DIGESTS[algorithm])
    if values and not digests:
        raise Problem(
            400, "digest", "Content-Digest names none of sha-256, sha-512.", {"Want-Content-Digest": "sha-256=10"}
        )
    return digests


def json_lines(headers: Headers) -> None:
    """415 unless the body says it is JSON lines, or one JSON object on one line."""
    media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type not in _JSON_LINES:
        raise Problem(415, "media-type", f"JSON lines are expected: one of {', '.join(_JSON_LINES)}.")


def day(texts: list[str]) -> date:
    """The day that the query names, today (UTC) if it names none; anything but one YYYY-MM-DD is 400."""
    if not texts:
        return utc.now().date()
    try:
        if len(texts) > 1 or not re.fullmatch(_DAY_PATTERN, texts[0]):
            raise ValueError
        return utc.day_of(texts[0])
    except ValueError:
        raise Problem(400, "day", "The day is one date, written as YYYY-MM-DD.") from None


def _digest(value: str, size: int) -> bytes:
    try:
        if not (value.startswith(":") and value.endswith(":") and len(value) > 2):
            raise ValueError
        digest = base64.b64decode(value[1:-1], validate=True)
        if len(digest) != size:
            raise ValueError
    except (ValueError, binascii.Error):
        raise Problem(400, "digest", "Content-Digest is malformed; write it as sha-256=:<base64>:.") from None
    return digest
