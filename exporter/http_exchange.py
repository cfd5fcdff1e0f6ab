"""Requests of one connection and the answers to them, in order, to one row each."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

from exporter.byte_stream import ByteStream
from exporter.http_wire import (
    MalformedHttp,
    RequestHead,
    has_credentials,
    head_end,
    may_be_request,
    read_request,
    read_response,
)
from exporter.settings import HeadSettings
from exporter.tls_exchange import Ends

Row = tuple[Any, ...]

_SECOND = 1_000_000_000
# Requests without an answer on one connection; no client has so many on the way.
_MAX_PENDING = 64
# Bytes of a form that are looked through for credentials.
_FORM_BYTES = 2048
_NEVER = 1 << 62


@dataclass
class _Asked:
    """A request whose head has ended; ``told``: its row has left."""

    time: int
    due: int
    head: RequestHead
    credentials: bool
    told: bool = False


class HttpExchange:
    """Takes packets of one flow, gives a row per request.

    Attributes:
        due: ns, when something is reported at the latest.
        done: nothing is waited for; a later request begins anew.
        malformed: never; what does not read like HTTP is another protocol.
        cut: bytes were missing because the capture had cut them off.
        accounted: bytes held when its owner last counted them.
        rows: rows that are complete.
    """

    kind = "http"

    def __init__(self, ends: Ends, client: int, time: int, settings: HeadSettings) -> None:
        self._ends, self._client, self._settings = ends, client, settings
        self._streams = (ByteStream(), ByteStream())
        self._request, self._response = bytearray(), bytearray()
        self._checked = 0
        self._begun = time  # first byte of the head in ``_request``
        self._heard = time
        self._form = self._after_form = 0  # bytes of a form still to be looked at, and of the body behind them
        self._given_up = False
        self._head_wait = settings.head_seconds * _SECOND
        self._asked: deque[_Asked] = deque()
        self.done = self.malformed = self.cut = False
        self.accounted = 0
        self.rows: list[Row] = []

    @property
    def due(self) -> int:
        """The earliest time-out."""
        times = [asked.due for asked in self._asked if not asked.told][:1]
        if self._partial:
            times.append(self._begun + self._head_wait)
        if self._stuck:
            times.append(self._heard + self._head_wait)
        return min(times, default=_NEVER)

    @property
    def held(self) -> int:
        """Bytes held."""
        return sum(stream.held for stream in self._streams) + len(self._request) + len(self._response)

    @property
    def _partial(self) -> bool:
        return bool(self._request) and not self._given_up and not self._form

    @property
    def _stuck(self) -> bool:
        """The client's next bytes wait behind a gap."""
        return self._streams[self._client].waiting and not self._given_up

    def wants(self, side: int, sequence: int, size: int) -> bool:
        """Tell whether a packet is worth looking at; one that begins a head always is."""
        return self._streams[side].wants(sequence, size)

    def take(self, side: int, sequence: int, size: int, data: bytes, time: int, starts: bool) -> None:
        """Take a packet's payload; ``starts``: it begins like a message."""
        stream = self._streams[side]
        if stream.next is None:
            if not starts:
                return
            stream.next = sequence
        self._heard = time
        stream.take(sequence, size, data, time)
        while (found := stream.pop()) is not None:
            if side == self._client:
                self._take_request(*found)
            else:
                self._take_response(found[0])
        if stream.broken:
            self._lose(side, stream.cut)
        self._settle()

    def _take_request(self, data: bytes, time: int) -> None:
        """Take the client's next bytes; several requests may stand in them."""
        while data and not self._given_up:
            if self._form:
                data = self._take_form(data)
                continue
            if not self._request:
                data = data.lstrip(b"\r\n")  # RFC 9112 section 2.2
                self._begun = time
            self._request += data
            end = head_end(self._request, self._checked)
            if end < 0:
                self._go_on()
                return
            head, data = bytes(self._request[:end]), bytes(self._request[end:])
            self._request.clear()
            self._checked = 0
            data = self._read_head(head, data, time)

    def _go_on(self) -> None:
        """Wait for the rest of a head, unless it is none or too long."""
        known = self._request.find(b"\n", 0, self._checked) >= 0
        self._checked = len(self._request)
        if not known and not may_be_request(self._request):
            self._request.clear()
            self._given_up = True
        elif self._checked > self._settings.http_bytes:
            self._incomplete()

    def _read_head(self, head: bytes, rest: bytes, time: int) -> bytes:
        """Note a whole head; returns what follows its body in ``rest``."""
        try:
            request = read_request(head)
        except MalformedHttp:
            self._given_up = True
            return b""
        if len(self._asked) >= _MAX_PENDING:
            self._tell(self._asked.popleft(), 0)
        wait = self._settings.answer_seconds * _SECOND
        self._asked.append(_Asked(self._begun, time + wait, request, request.credentials))
        if request.body is None:
            # Chunks are not walked; the next packet that begins like a request is one.
            self._streams[self._client].next = None
            return b""
        self._form = min(request.body, _FORM_BYTES) if request.form and not request.credentials else 0
        self._after_form = request.body - self._form
        return rest if self._form else self._pass(rest, self._after_form)

    def _take_form(self, data: bytes) -> bytes:
        part = data[: self._form]
        self._request += part
        self._form -= len(part)
        if self._form:
            return b""
        if self._asked:  # else it was answered before its form was there
            self._asked[-1].credentials |= has_credentials(bytes(self._request))
        self._request.clear()
        return self._pass(data[len(part) :], self._after_form)

    def _pass(self, rest: bytes, count: int) -> bytes:
        if count > len(rest):
            self._streams[self._client].skip(count - len(rest))
        return rest[count:]

    def _take_response(self, data: bytes) -> None:
        """Take the server's next bytes; several answers may stand in them."""
        stream = self._streams[1 - self._client]
        while data:
            self._response += data
            end = head_end(self._response, 0)
            whole = end >= 0
            if not whole and len(self._response) <= self._settings.http_bytes and not stream.broken:
                return
            head = bytes(self._response[: end if whole else None])
            data = bytes(self._response[end:]) if whole else b""
            self._response.clear()
            if not self._asked:
                stream.next = None
                return
            try:
                answer = read_response(head, self._asked[0].head.method)
            except MalformedHttp:
                stream.next = None
                return
            if self._answered(answer.status) or answer.body is None or not whole:
                stream.next = None
                return
            if answer.body > len(data):
                stream.skip(answer.body - len(data))
            data = data[answer.body :]

    def _answered(self, status: int) -> bool:
        """Give the status to the oldest request; returns whether the connection is no longer HTTP."""
        if 100 <= status < 200 and status != 101:  # more follows
            return False
        asked = self._asked.popleft()
        self._tell(asked, status)
        if status == 101 or (asked.head.method == "CONNECT" and 200 <= status < 300):
            self._given_up = True
            self._request.clear()
            return True
        return False

    def _tell(self, asked: _Asked, status: int) -> None:
        if asked.told:
            return
        asked.told = True
        self._row(asked.time, asked.head, status, True, asked.credentials)

    def _row(self, time: int, head: RequestHead, status: int, complete: bool, credentials: bool) -> None:
        self.rows.append((
            self._ends.flow_id, time, *self._ends.columns(self._client), head.method, head.host, head.path_shape,
            status, complete, credentials,
        ))  # fmt: skip

    def _incomplete(self) -> None:
        """Report a head that does not end; the client is not listened to any more."""
        if self._partial and not self._streams[self._client].waiting:
            try:
                head = read_request(bytes(self._request))
                self._row(self._begun, head, 0, False, head.credentials)
            except MalformedHttp:
                pass
        self._request.clear()
        self._given_up = True

    def _lose(self, side: int, cut: bool) -> None:
        """Bytes are missing: what was begun cannot be read to its end."""
        if side == self._client:
            self.cut |= cut and self._partial
            self._request.clear()
            self._form, self._given_up = 0, True

    def finish(self, side: int, sequence: int) -> None:
        """Take a FIN that stands behind byte ``sequence``."""
        if self._streams[side].next not in (None, sequence):
            return  # bytes before it are on their way
        if side == self._client:
            self._incomplete()
        else:
            self.end()
        self._settle()

    def expire(self, now: int) -> None:
        """Report what is over at ``now`` (ns); a late answer is still given to its own request."""
        stuck = self._stuck and self._heard + self._head_wait <= now
        if stuck or (self._partial and self._begun + self._head_wait <= now):
            self._incomplete()
        for asked in self._asked:
            if asked.due <= now:
                self._tell(asked, 0)
        if all(asked.told for asked in self._asked):
            self._asked.clear()
        self._settle()

    def end(self) -> None:
        """Report everything."""
        self._incomplete()
        while self._asked:
            self._tell(self._asked.popleft(), 0)
        self.done = True

    def _settle(self) -> None:
        """Be done when nothing is waited for: no head, no form, no body in between, no answer."""
        following = self._streams[self._client]
        idle = self._given_up or (not self._request and not self._form and not following.waiting)
        self.done |= idle and not self._asked
