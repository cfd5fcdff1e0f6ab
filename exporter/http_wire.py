"""Heads of HTTP/1 messages (RFC 9110, RFC 9112): what a row may say about them, and how long the body is."""

from __future__ import annotations

import re
from dataclasses import dataclass

from exporter.wire_text import host, text
from schemas.events import MAX_TEXT

# RFC 9110 section 9.3, RFC 5789, WebDAV (RFC 4918). Each ends in the space that follows it.
METHODS = tuple(
    f"{word} ".encode()
    for word in (
        "GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "CONNECT", "TRACE", "PROPFIND", "PROPPATCH",
        "MKCOL", "COPY", "MOVE", "LOCK", "UNLOCK", "REPORT", "SEARCH",
    )
)  # fmt: skip
_CREDENTIAL_HEADERS = frozenset({
    b"authorization", b"proxy-authorization", b"cookie", b"x-api-key", b"api-key", b"x-auth-token", b"x-access-token",
    b"x-csrf-token", b"x-vault-token", b"x-amz-security-token", b"private-token",
})  # fmt: skip
_CREDENTIAL_FIELDS = frozenset({
    b"password", b"passwd", b"pass", b"pwd", b"passphrase", b"secret", b"client_secret", b"api_key", b"apikey",
    b"access_token", b"refresh_token", b"auth_token", b"token",
})  # fmt: skip
_FORM = b"application/x-www-form-urlencoded"
_DIGITS = re.compile(rb"[0-9]+")
# Identifiers such as hashes, UUIDs and tokens are longer than words of a language usually are.
_LONG_WORD = 24
_MAX_SEGMENTS = 16
_MAX_FIELDS = 64
_STATUS = re.compile(rb"HTTP/1\.[0-9] ([1-5][0-9]{2})(?![0-9])")
_REQUEST_LINE = re.compile(rb"(?:%s)[^ ]+ HTTP/1\.[0-9]\r?" % b"|".join(METHODS))
# A longer first line is not looked at for its end; servers refuse it too.
_LONGEST_LINE = 8192
_END = re.compile(rb"\r?\n\r?\n")


class MalformedHttp(ValueError):
    """Bytes that are no HTTP/1 message."""


@dataclass(frozen=True)
class RequestHead:
    """What a request says.

    Attributes:
        method: the method.
        host: Host header, else the target's authority.
        path_shape: path with digits and long words folded, query field names without values.
        credentials: a header or query field carries credentials.
        body: bytes of the body; None where only its chunks say.
        form: the body is a form, whose fields may carry credentials.
    """

    method: str
    host: str
    path_shape: str
    credentials: bool
    body: int | None
    form: bool


@dataclass(frozen=True)
class ResponseHead:
    """What an answer says: status, and bytes of the body; None where its chunks or the connection's end say."""

    status: int
    body: int | None


def head_end(data: bytearray, checked: int) -> int:
    """Return where the head in ``data`` ends, looked for from ``checked`` on; -1 while it goes on."""
    found = _END.search(data, max(0, checked - 3))
    return found.end() if found else -1


def may_be_request(data: bytes | bytearray) -> bool:
    """Tell whether bytes can be the beginning of a request: its line as far as it came, or a part of it."""
    line, newline, _ = data[:_LONGEST_LINE].partition(b"\n")
    if newline:
        return _REQUEST_LINE.fullmatch(line) is not None
    return any(line.startswith(method) or method.startswith(line) for method in METHODS)


def read_request(head: bytes) -> RequestHead:
    """Read a request head up to its end, or as far as it came.

    Raises:
        MalformedHttp: it does not begin with a method, or its first line is no request line of HTTP/1.
    """
    if not may_be_request(head):
        raise MalformedHttp
    line, fields = _split(head)
    method, space, rest = line.partition(b" ")
    if not space:
        raise MalformedHttp
    target = rest.partition(b" ")[0]
    authority, path, query = _target(method, target)
    given = _first(fields, b"host")
    credentials = any(name in _CREDENTIAL_HEADERS and value for name, value in fields)
    credentials |= b"@" in authority or has_credentials(query)
    shown = given if given is not None else authority.rpartition(b"@")[2]
    form = (_first(fields, b"content-type") or b"").lower().startswith(_FORM)
    return RequestHead(
        method.decode("ascii"), host(shown), _path_shape(path, query), credentials, _body(fields, 0), form
    )


def read_response(head: bytes, method: str) -> ResponseHead:
    """Read an answer's head, or its beginning, to a request with this method.

    Raises:
        MalformedHttp: the first line is no status line of HTTP/1.
    """
    found = _STATUS.match(head)
    if found is None:
        raise MalformedHttp
    status = int(found[1])
    # RFC 9112 section 6.3.
    empty = method == "HEAD" or status < 200 or status in (204, 304)
    return ResponseHead(status, 0 if empty else _body(_split(head)[1], None))


def has_credentials(form: bytes) -> bool:
    """Tell whether one of the first fields of a form or query is named like a secret and not empty."""
    for part in form.split(b"&", _MAX_FIELDS)[:_MAX_FIELDS]:
        name, _, value = part.partition(b"=")
        if value and name.lower() in _CREDENTIAL_FIELDS:
            return True
    return False


def _split(head: bytes) -> tuple[bytes, list[tuple[bytes, bytes]]]:
    line, *rest = head.split(b"\n")
    fields = []
    for text_line in rest:
        name, colon, value = text_line.partition(b":")
        if colon:
            fields.append((name.strip().lower(), value.strip()))
    return line.rstrip(b"\r"), fields


def _first(fields: list[tuple[bytes, bytes]], wanted: bytes) -> bytes | None:
    return next((value for name, value in fields if name == wanted), None)


def _body(fields: list[tuple[bytes, bytes]], unsaid: int | None) -> int | None:
    if _first(fields, b"transfer-encoding") is not None:
        return None
    length = _first(fields, b"content-length")
    if length is None:
        return unsaid
    # Sequence numbers wrap at 2**32; a longer body is not followed.
    return int(length) if length.isdigit() and len(length) <= 9 else None


def _target(method: bytes, target: bytes) -> tuple[bytes, bytes, bytes]:
    """Return authority, path and query of a request target (RFC 9112 section 3.2)."""
    if method == b"CONNECT":
        return target, b"", b""
    authority = b""
    if b"://" in target[:16]:
        rest = target.partition(b"://")[2]
        cut = min(at for at in (rest.find(b"/"), rest.find(b"?"), len(rest)) if at >= 0)
        authority, target = rest[:cut], rest[cut:]
    path, _, query = target.partition(b"#")[0].partition(b"?")
    return authority, path, query


def _path_shape(path: bytes, query: bytes) -> str:
    """Return the shape; a query part without ``=`` is a value and left out."""
    segments = path.split(b"/", _MAX_SEGMENTS + 1)
    shown = "/".join(_folded(segment) for segment in segments[: _MAX_SEGMENTS + 1])
    if len(segments) > _MAX_SEGMENTS + 1:
        shown += "/*"
    names = [part.partition(b"=")[0] for part in query.split(b"&", _MAX_FIELDS)[:_MAX_FIELDS] if b"=" in part]
    if names:
        shown += "?" + "&".join(f"{_folded(name)}=" for name in names)
    return shown[:MAX_TEXT]


def _folded(word: bytes) -> str:
    if len(word) > _LONG_WORD:
        return "*"
    return text(_DIGITS.sub(b"0", word))
