"""DNS questions of those who look for what there is: zone transfers, reverse names, names that do not exist."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from detectors.claim_detector import Address
from detectors.dns_frame import DnsFrame
from detectors.frame import scoped
from detectors.hashing import combine
from detectors.index import I64
from detectors.mixing import U64
from detectors.name_guesses import HOST_NAME, SERVICE_NAME, guess_of

_PTR, _IXFR, _AXFR = 12, 251, 252
_NOERROR, _NXDOMAIN = 0, 3
_ADDRESSES = (1, 28)
TRANSFER, REVERSE, SERVICE, HOST = "zone_transfer", "reverse_walk", "service_names", "host_names"
GUESSES = {SERVICE_NAME: SERVICE, HOST_NAME: HOST}


class Question(NamedTuple):
    """One client's question for one name; ``answered``: with records."""

    sign: str
    client: Address
    server: Address
    name: str
    answered: bool


def telling(frame: DnsFrame) -> I64:
    """Return the rows of questions that are asked by who looks for what there is, in log order.

    Clients that answer questions themselves are left out.
    """
    rows = frame.subjects
    kind, code = frame.columns.values("qtype")[rows], frame.columns.values("rcode")[rows]
    asking = frame.columns.values("query_bytes")[rows] > 0
    transfer = (kind == _AXFR) | (kind == _IXFR)
    missing = (code == _NXDOMAIN) & np.isin(kind, _ADDRESSES) & asking
    missing &= frame.book.guess[frame.name[rows]] > 0
    chosen: I64 = rows[transfer | ((kind == _PTR) & asking) | missing]
    return chosen


def questions(frame: DnsFrame, rows: I64) -> Iterator[Question]:
    """Return what the given rows, of ``telling``, ask."""
    kind, code = (frame.columns.values(name)[rows].tolist() for name in ("qtype", "rcode"))
    records = frame.columns.values("records")[rows].tolist()
    names = frame.words.take(pa.array(frame.word[rows])).to_pylist()
    ends = [frame.addresses[of[rows]].view(">u8").reshape(-1, 2).tolist() for of in (frame.client, frame.server)]
    for row, (type_, name, client, server) in enumerate(zip(kind, names, *ends, strict=True)):
        sign = TRANSFER if type_ in (_AXFR, _IXFR) else REVERSE if type_ == _PTR else GUESSES[guess_of(name)]
        yield Question(sign, (client[0], client[1]), (server[0], server[1]), name, code[row] == 0 and records[row] > 0)


def question_keys(frame: DnsFrame, rows: I64) -> U64:
    """Return keys, the same for rows of one node that ask the same of the same server with the same success."""
    ends = combine(frame.hashes[frame.client[rows]], frame.hashes[frame.server[rows]])
    what = frame.book.name_hashes[frame.name[rows]] ^ frame.columns.values("qtype")[rows].astype(np.uint64)
    answered = (frame.columns.values("records")[rows] > 0).astype(np.uint64)
    return scoped(frame.node[rows], combine(combine(ends, what), answered))


def is_guess(frame: DnsFrame, rows: I64) -> npt.NDArray[np.bool_]:
    """Tell which of the rows, of ``telling``, ask for a guessed name, and not for a zone or a reverse name."""
    guesses: npt.NDArray[np.bool_] = np.isin(frame.columns.values("qtype")[rows], _ADDRESSES)
    return guesses


def guess_keys(frame: DnsFrame, rows: I64) -> U64:
    """Return keys, the same for guessed names that one client of a node asked for within one scope."""
    name = frame.name[rows]
    scope = combine(frame.book.scope_hashes[name], frame.book.guess[name].astype(np.uint64))
    return scoped(frame.node[rows], combine(frame.hashes[frame.client[rows]], scope))


def reverse_place(name: str) -> tuple[str, int] | None:
    """Return the network that a reverse name lies in, and its number there (8 bits); none where it is no address."""
    labels = name.split(".")
    try:
        if len(labels) == 6 and name.endswith(".in-addr.arpa"):
            return ".".join(labels[1:]), int(labels[0])
        if len(labels) == 34 and name.endswith(".ip6.arpa"):
            return ".".join(labels[2:]), int(labels[1] + labels[0], 16)
    except ValueError:
        return None
    return None
