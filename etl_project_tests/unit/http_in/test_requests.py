"""Heads and bodies: what is read out of them, and what is refused."""

from __future__ import annotations

import base64
import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import Headers

from etl_project.http_in import bodies, requests
from etl_project.http_in.problems import Problem
from etl_project.http_in.settings import Sender, token_digest


def headers(**values: str) -> Headers:
    return Headers({name.replace("_", "-"): value for name, value in values.items()})


@pytest.mark.parametrize(
    ("text", "key"), [('"a"', "a"), ('" x!~ "', " x!~ "), (r'"a\"b\\c"', 'a"b\\c'), (' "a" ', "a")]
)
def test_a_quoted_key_is_read(text: str, key: str) -> None:
    assert requests.idempotency_key(headers(idempotency_key=text)) == key


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a b",
        "a,b",
        "a;p=1",
        "a@b",
        "x" * 256,
        '""',
        '"a',
        'a"',
        '"a"b"',
        '"a\\x"',
        '"\u00fc"',
        '"a\n"',
        '"a";p=1',
        f'"{"x" * 256}"',
        '"a", "b"',
    ],
)
def test_a_malformed_key_is_refused(text: str) -> None:
    with pytest.raises(Problem) as refused:
        requests.idempotency_key(headers(idempotency_key=text))
    assert (refused.value.status, refused.value.kind) == (400, "key-malformed")


@pytest.mark.parametrize("text", ["a", "8e03978e-40d5", "order:7/1", "'a'", "x" * 255])
def test_a_token_without_quotes_is_the_key_that_it_would_be_in_quotes(text: str) -> None:
    assert requests.idempotency_key(headers(idempotency_key=text)) == text
    assert requests.idempotency_key(headers(idempotency_key=f'"{text}"')) == text


def test_a_missing_and_a_doubled_key_are_refused() -> None:
    with pytest.raises(Problem, match="needs an Idempotency-Key"):
        requests.idempotency_key(headers())
    with pytest.raises(Problem, match="one string"):
        requests.idempotency_key(Headers(raw=[(b"idempotency-key", b'"a"'), (b"idempotency-key", b'"a"')]))


@pytest.mark.parametrize("name", ["a", "orders-2026-01-01.csv", "A_b.c-d", "x" * 200, "2026-01-01.csv.gz"])
def test_plain_names_are_taken(name: str) -> None:
    assert requests.file_name(name) == name


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../a", "a/b", "a\\b", ".hidden", "a.tmp", "a.part", "a.swp", "a~", "a b", "a\n", "\u00fc", "a\0"],
)
def test_odd_names_are_refused(name: str) -> None:
    with pytest.raises(Problem) as refused:
        requests.file_name(name)
    assert refused.value.status == 400


def test_a_name_that_is_too_long_is_refused() -> None:
    with pytest.raises(Problem, match="200 at most"):
        requests.file_name("x" * 201)


@given(st.text())
def test_no_name_that_is_taken_leaves_its_folder_or_hides_from_the_scan(name: str) -> None:
    try:
        taken = requests.file_name(name)
    except Problem:
        return
    assert taken.isascii()
    assert not set(taken) & set("/\\\0")
    assert not taken.startswith(".")


def test_a_token_is_compared_whole_and_every_client_is_looked_at() -> None:
    clients = [Sender(name, token_digest(name * 20), frozenset({"orders"})) for name in "abc"]
    for name in "abc":
        assert requests.authenticate(headers(authorization=f"Bearer {name * 20}"), clients).name == name
    for wrong in (
        "",
        "Bearer ",
        f"Basic {'a' * 20}",
        f"Bearer {'a' * 19}",
        f"Bearer {'a' * 21}",
        "Bearer \u00fc",
        "a" * 20,
    ):
        with pytest.raises(Problem) as refused:
            requests.authenticate(headers(authorization=wrong), clients)
        assert refused.value.status == 401
        assert refused.value.headers["WWW-Authenticate"].startswith("Bearer")


def digest(body: bytes, algorithm: str = "sha-256") -> str:
    value = hashlib.new(algorithm.replace("-", ""), body).digest()
    return f"{algorithm}=:{base64.b64encode(value).decode()}:"


@pytest.mark.parametrize("sent", [digest(b"x"), digest(b"x", "sha-512"), f"md5=:AAAA:, {digest(b'x')}"])
def test_a_digest_that_fits_is_accepted_and_another_refused(sent: str) -> None:
    expected = requests.content_digest(headers(content_digest=sent))
    checks = bodies.Checks(expected, None)
    checks.feed(b"x")
    assert checks.finish() == hashlib.sha256(b"x").hexdigest()
    checks = bodies.Checks(expected, None)
    checks.feed(b"y")
    with pytest.raises(Problem, match="Content-Digest"):
        checks.finish()


@pytest.mark.parametrize(
    "sent", ["x", "md5=:AAAA:", "sha-256=", "sha-256=::", "sha-256=:AAAA:", "sha-256=:!:", "sha-256=AAAA"]
)
def test_a_digest_that_cannot_be_checked_is_refused(sent: str) -> None:
    with pytest.raises(Problem) as refused:
        requests.content_digest(headers(content_digest=sent))
    assert refused.value.status == 400


def test_an_announced_size_is_checked_before_the_body() -> None:
    assert requests.announced_size(headers(content_length="10"), 10) == 10
    assert requests.announced_size(headers(), 10) is None
    with pytest.raises(Problem) as refused:
        requests.announced_size(headers(content_length="11"), 10)
    assert refused.value.status == 413
    with pytest.raises(Problem, match="Content-Encoding"):
        requests.announced_size(headers(content_encoding="gzip"), 10)
    with pytest.raises(Problem, match="Content-Range"):
        requests.announced_size(headers(content_range="bytes 0-1/2"), 10)


@pytest.mark.parametrize("name", ["Content-Encoding", "Content-Range", "Transfer-Encoding"])
def test_no_coding_hides_behind_one_that_is_none(name: str) -> None:
    harmless = "chunked" if name == "Transfer-Encoding" else "Identity"
    twice = [(name.lower().encode(), value.encode()) for value in (harmless, "gzip")]
    for lines in (twice, twice[::-1]):
        with pytest.raises(Problem, match=name):
            requests.announced_size(Headers(raw=lines), 10)
    assert requests.announced_size(Headers(raw=twice[:1]), 10) is None


@pytest.mark.parametrize(
    "days", [["2026-1-1"], ["20260101"], ["2026-02-30"], ["2026-W01-1"], [""], ["2026-01-01", "2026-01-01"]]
)
def test_an_odd_day_is_refused(days: list[str]) -> None:
    with pytest.raises(Problem) as refused:
        requests.day(days)
    assert refused.value.status == 400


def lines(body: bytes, piece: int) -> None:
    check = bodies.JsonLinesCheck()
    for start in range(0, len(body), piece):
        check.feed(body[start : start + piece])
    check.finish()


@given(
    st.lists(st.dictionaries(st.text(), st.none() | st.booleans() | st.integers() | st.text()), min_size=1, max_size=5),
    st.integers(min_value=1, max_value=40),
    st.sampled_from(["", "\n"]),
)
def test_json_lines_are_accepted_however_they_are_cut(rows: list[dict[str, object]], piece: int, end: str) -> None:
    lines(("\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + end).encode(), piece)


@pytest.mark.parametrize("piece", [1, 3, 1 << 20])
@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", "There is no line"),
        (b"\n", "Line 1 is not JSON"),
        (b"{}\n\n{}", "Line 2 is not JSON"),
        (b"{}\n[]", "Line 2 is not a JSON object"),
        (b'{"a": NaN}', "Line 1 is not JSON"),
        (b"{}\n{", "Line 2 is not JSON"),
        (b'{"a": "\xff"}', "Line 1 is not JSON"),
        ("{}".encode("utf-16"), "Line 1 is not JSON"),
        (b"\xef\xbb\xbf{}", "Line 1 is not JSON"),
        (b"[" * 5000, "Line 1 is not JSON"),
        (b'{"a":' + b"1" * 5000 + b"}", "Line 1 is not JSON"),
    ],
)
def test_a_bad_line_is_named(body: bytes, expected: str, piece: int) -> None:
    with pytest.raises(Problem, match=expected) as refused:
        lines(body, piece)
    assert refused.value.status == 400


@pytest.mark.parametrize("body", [b"x" * (bodies.LONGEST_LINE + 1), b"x" * (bodies.LONGEST_LINE + 1) + b"\n"])
def test_a_line_without_end_is_refused(body: bytes) -> None:
    with pytest.raises(Problem, match="Line 1 is longer"):
        lines(body, 65536)


@given(
    rows=st.lists(st.dictionaries(st.text(max_size=3), st.integers() | st.text(max_size=3)), min_size=1, max_size=4),
    piece=st.integers(1, 9),
    end=st.sampled_from(["", "\n", "\r\n"]),
)
def test_equal_lines_under_two_keys_are_stored_as_two_files_that_say_the_same(
    rows: list[dict[str, object]], piece: int, end: str
) -> None:
    body = ((end or "\n").join(json.dumps(row) for row in rows) + end).encode()
    stored = set()
    for unique in ("0123456789abcdef", "fedcba9876543210"):
        apart = bodies.ToldApart(unique)
        told = b"".join(apart.feed(body[at : at + piece]) for at in range(0, len(body), piece)) + apart.finish()
        assert told.endswith(b"\n") and [json.loads(line) for line in told.split(b"\n")[:-1]] == rows
        stored.add(told)
    assert len(stored) == 2
