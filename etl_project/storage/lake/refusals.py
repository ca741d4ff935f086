"""Refusals: what an object store's error means for whoever runs a pipeline.

Belongs here: the codes of S3 and what to do about each. All of them are somebody's to put right outside of the data, so
retrying helps once that is done; nothing of the server's text but its code and status is passed on.
"""

from __future__ import annotations

import re

_CODE = re.compile(r"<Code>(\w{1,60})</Code>")
_STATUS = re.compile(r"status code: (\d{3}(?: [A-Z][A-Za-z]+)*)")
_RIGHTS = (
    "The key may not do that: it needs s3:ListBucket on the bucket, and s3:GetObject, s3:PutObject and s3:DeleteObject "
    "below the prefix."
)
_SKEWED = "The clock of this machine is off by more than the server allows: let it follow a time server (NTP)."
_UNKNOWN_KEY = "The server does not know the access key: correct AWS_ACCESS_KEY_ID."
_TOKEN = "The session token is no longer good: get a new one (AWS_SESSION_TOKEN)."
_UNLISTABLE = re.compile(r"invalid path|parsing Path|empty path segment|illegal character sequence", re.IGNORECASE)
_RENAME = (
    "Rename or remove it: it has an empty part (//), . or .. as a part, or a control character (`aws s3 ls` shows it)."
)
_REGION = "The bucket is in another region: set AWS_REGION."
_BY_CODE = {
    "NoSuchBucket": "There is no such bucket: make it, or correct ETL_LAKE or ETL_INCOMING.",
    "AccessDenied": _RIGHTS,
    "AllAccessDisabled": _RIGHTS,
    "AccountProblem": _RIGHTS,
    "SignatureDoesNotMatch": "AWS_SECRET_ACCESS_KEY does not belong to AWS_ACCESS_KEY_ID: correct one of them.",
    "InvalidAccessKeyId": _UNKNOWN_KEY,
    "XAdminUserNotFound": _UNKNOWN_KEY,
    "InvalidClientTokenId": _UNKNOWN_KEY,
    "ExpiredToken": _TOKEN,
    "InvalidToken": _TOKEN,
    "TokenRefreshRequired": _TOKEN,
    "RequestTimeTooSkewed": _SKEWED,
    "RequestExpired": _SKEWED,
    "PermanentRedirect": _REGION,
    "AuthorizationHeaderMalformed": _REGION,
    "IllegalLocationConstraintException": _REGION,
    "NotImplemented": "The server does not know such a request: it has to take PUT with If-None-Match and If-Match.",
    "SlowDown": "It is asked too much: fewer runs at a time are easier on it.",
}
_BY_STATUS = {"401": _UNKNOWN_KEY, "403": _RIGHTS, "301": _REGION, "307": _REGION}


def advice(said: str, outcome: str) -> str:
    """What was found and what to do about it, from an error's text of which nothing else goes on."""
    code, status = _CODE.search(said), _STATUS.search(said)
    if _UNLISTABLE.search(said):
        return _line("some object there has a name that cannot be listed", outcome, _RENAME)
    if "169.254." in said or "credential" in said.lower():
        return _line("no credentials were found", outcome, "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.")
    if code or status:
        found = ", ".join(filter(None, (code and code[1], status and status[1])))
        known = _BY_CODE.get(code[1], "") if code else ""
        return _line(f"the server says {found}", outcome, known or _BY_STATUS.get(status[1][:3] if status else "", ""))
    return _line(
        "it does not answer" if "onnect" in said else "the connection was lost",
        outcome,
        "Look after the server and the network; its address is AWS_ENDPOINT_URL, where it is not Amazon's.",
    )


def _line(found: str, outcome: str, do: str) -> str:
    return f"{found}.{outcome} Retrying helps once the cause is gone.{' ' if do else ''}{do}"
