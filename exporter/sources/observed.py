"""What readers of observed packets and directions share: who began, who told it first, and rows from that.

Logs of cluster networks tell each direction of a flow by itself, from both nodes and from several interfaces.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from exporter.chunks import I64
from exporter.flow_marks import ESTABLISHED, OPENED, REFUSED
from exporter.flow_records import FlowRecords
from exporter.record_rows import Values, words
from schemas.addresses import pack
from schemas.events import ADDRESS, FLOW, WORD

Endpoint = tuple[bytes, int]
_REMEMBERED = 131_072  # flows and points of view at once; the longest unused leaves
TCP, UDP, ICMP, ICMP6 = 6, 17, 1, 58
FIN, SYN, RST, ACK = 1, 2, 4, 16
_IDLE = 60_000_000_000  # ns after which a flow that was quiet begins anew, and another point of view may tell it
_QUESTIONS = {(ICMP, 8), (ICMP, 13), (ICMP, 15), (ICMP, 17), (ICMP6, 128)}
_ANSWERS = {(ICMP, 0), (ICMP, 14), (ICMP, 16), (ICMP, 18), (ICMP6, 129)}


@dataclass
class Conversation:
    """What is remembered of a flow: who began, whether that is known, since when, and what was reported already.

    ``sliced``: parts of it were told, so a record about the whole would count them again.
    """

    initiator: Endpoint
    known: bool
    began: int
    last: int
    opened: bool = False
    answered: bool = False
    established: bool = False
    sliced: bool = False


class Conversations:
    """Flows by their endpoints and protocol; at most ``_REMEMBERED``."""

    def __init__(self) -> None:
        self._flows: OrderedDict[tuple[Endpoint, Endpoint, int], Conversation] = OrderedDict()

    def find(
        self, source: Endpoint, target: Endpoint, proto: int, time: int, initiator: Endpoint | None
    ) -> Conversation:
        """Return the flow between two endpoints.

        Args:
            source: who sent.
            target: who received.
            proto: IP protocol.
            time: ns since epoch.
            initiator: who began, where this record shows it; else it is guessed: the lower port answers.
        """
        key = (min(source, target), max(source, target), proto)
        flow = self._flows.get(key)
        if flow is None or time - flow.last > _IDLE:
            guess = source if source[1] >= target[1] else target
            flow = self._flows[key] = Conversation(initiator or guess, initiator is not None, time, time)
        elif initiator is not None and (not flow.known or flow.initiator != initiator):
            flow.initiator, flow.known = initiator, True
        flow.last = max(flow.last, time)
        self._flows.move_to_end(key)
        if len(self._flows) > _REMEMBERED:
            self._flows.popitem(last=False)
        return flow


class PointsOfView:
    """Lets the first point of view that told something tell it again, others not."""

    def __init__(self, quiet: int = _IDLE) -> None:
        self._quiet = quiet
        self._seen: OrderedDict[Any, tuple[Any, int]] = OrderedDict()

    def repeats(self, what: Any, point: Any, time: int) -> bool:
        """Tell whether another point of view told ``what`` less than ``quiet`` ns before or after ``time``."""
        known = self._seen.get(what)
        if known is not None and known[0] != point and abs(time - known[1]) <= self._quiet:
            return True
        self._seen[what] = (point, max(time, known[1]) if known is not None else time)
        self._seen.move_to_end(what)
        if len(self._seen) > _REMEMBERED:
            self._seen.popitem(last=False)
        return False


_packed = lru_cache(maxsize=65_536)(pack)  # the same few addresses come again in every record


def endpoint(address: Any, port: Any) -> Endpoint:
    """Return an endpoint from text and number.

    Raises:
        ValueError: no address, or no port.
    """
    return _packed(address if isinstance(address, str) else ""), whole(port, 65_535)


def whole(value: Any, most: int = 1 << 48) -> int:
    """Return a whole number from 0 to ``most``; absent counts as 0, text of digits as a number.

    Raises:
        ValueError: anything else.
    """
    if value is None:
        return 0
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20:
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
        message = f"{str(value)[:20]!r} is no whole number from 0 to {most}"
        raise ValueError(message)
    return value


def icmp_initiator(source: Endpoint, target: Endpoint, proto: int, kind: int) -> Endpoint | None:
    """Return who asked, where an ICMP message is a question or an answer."""
    if (proto, kind) in _QUESTIONS:
        return source
    return target if (proto, kind) in _ANSWERS else None


def is_question(proto: int, kind: int) -> bool:
    """Tell whether an ICMP message asks for an answer."""
    return (proto, kind) in _QUESTIONS


def new_marks(
    flow: Conversation, proto: int, forward: bool, *, begins: bool, syn_ack: bool, reset: bool, ack: bool
) -> int:
    """Return the marks that a record adds to what is known of its flow, and remember them.

    Args:
        flow: the flow.
        proto: IP protocol.
        forward: the initiator sent.
        begins: it shows the beginning: a SYN, a question of ICMP, anything of UDP.
        syn_ack: it shows a SYN with ACK.
        reset: it shows a RST.
        ack: it shows an ACK.
    """
    marks = 0
    if forward:
        if begins and not flow.opened:
            marks, flow.opened = OPENED, True
    elif proto == TCP:
        flow.answered = flow.answered or syn_ack
        if reset and flow.opened and not flow.answered and not flow.established:
            return REFUSED
    else:
        flow.answered = True
    ready = flow.answered and (proto != TCP or (forward and ack))
    if ready and flow.opened and not flow.established:
        marks, flow.established = marks | ESTABLISHED, True
    return marks


_WORDS = {c.name for c in FLOW if c.dtype == WORD}
_ADDRESSES = {c.name for c in FLOW if c.dtype == ADDRESS}
_FLAGS = {c.name for c in FLOW if c.absent == "never" and str(c.dtype) == "bool"}


def flow_records(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> FlowRecords:
    """Return records from mappings; what a row lacks is absent.

    Args:
        rows: each with ``conn_start``, ``start``, ``end``, ``marks`` and some of ``names``.
        names: columns of flow rows.
    """

    def numbers(name: str) -> I64:
        return np.array([row.get(name, 0) for row in rows], np.int64)

    columns: dict[str, Values] = {}
    for name in names:
        if name in _ADDRESSES:
            columns[name] = words([row[name] for row in rows], ADDRESS)
        elif name in _WORDS:
            columns[name] = words([row.get(name, "") for row in rows], WORD)
        else:
            columns[name] = numbers(name).astype(np.bool_) if name in _FLAGS else numbers(name)
    columns["conn_start"] = numbers("conn_start")
    return FlowRecords(numbers("start"), numbers("end"), numbers("marks"), columns)
