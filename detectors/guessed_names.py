"""DNS questions of those who look for what there is: zone transfers, reverse names, names that do not exist."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from detectors.claim_detector import Address
from detectors.dns_frame import DnsFrame
from detectors.frame import scoped
from detectors.hashing import U64, combine
from detectors.index import I64
from detectors.names import ZONE

_PTR, _IXFR, _AXFR = 12, 251, 252
_NOERROR, _NXDOMAIN = 0, 3
_ADDRESSES = (1, 28)
TRANSFER, REVERSE, SERVICE, HOST = "zone_transfer", "reverse_walk", "service_names", "host_names"

# A Service's name in full (Kubernetes DNS specification, 2.2). A search path makes such names of other hosts too, with
# a top-level domain where the namespace stands: those are left out.
_SERVICE = r"^[a-z]([-a-z0-9]*[a-z0-9])?\.[a-z][-a-z0-9]{2,}\.svc\..+$"
_SEARCHED = r"^[^.]+\.(com|net|org|edu|gov|mil|int|info|biz|name|arpa|local)\.svc\."
# One label in front of a registered zone; longer ones are hashes and keys, all digits are addresses of block lists.
_HOST = r"^[a-z0-9_-]{1,24}\." + ZONE
_NUMBER = r"^[0-9]+\."


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
    if missing.any():
        missing[missing] = _guesses(frame, rows[missing])
    chosen: I64 = rows[transfer | ((kind == _PTR) & asking) | missing]
    return chosen


def _guesses(frame: DnsFrame, rows: I64) -> npt.NDArray[np.bool_]:
    """Tell which of the rows ask for a name that looks guessed."""
    asked = np.unique(frame.word[rows])
    names = frame.words.take(pa.array(asked))
    service = pc.and_not(pc.match_substring_regex(names, _SERVICE), pc.match_substring_regex(names, _SEARCHED))
    looks: npt.NDArray[np.bool_] = np.zeros(len(frame.words), np.bool_)
    host = pc.and_not(pc.match_substring_regex(names, _HOST), pc.match_substring_regex(names, _NUMBER))
    looks[asked] = pc.or_(service, host).to_numpy(zero_copy_only=False)
    guessed: npt.NDArray[np.bool_] = looks[frame.word[rows]]
    return guessed


def questions(frame: DnsFrame, rows: I64) -> Iterator[Question]:
    """Return what the given rows, of ``telling``, ask."""
    kind, code = (frame.columns.values(name)[rows].tolist() for name in ("qtype", "rcode"))
    records = frame.columns.values("records")[rows].tolist()
    names = frame.words.take(pa.array(frame.word[rows])).to_pylist()
    ends = [frame.addresses[of[rows]].view(">u8").reshape(-1, 2).tolist() for of in (frame.client, frame.server)]
    for row, (type_, name, client, server) in enumerate(zip(kind, names, *ends, strict=True)):
        sign = TRANSFER if type_ in (_AXFR, _IXFR) else REVERSE if type_ == _PTR else _sign(name)
        yield Question(sign, (client[0], client[1]), (server[0], server[1]), name, code[row] == 0 and records[row] > 0)


def _sign(name: str) -> str:
    return SERVICE if name.split(".", 3)[2:3] == ["svc"] else HOST


def question_keys(frame: DnsFrame, rows: I64) -> U64:
    """Return keys, the same for rows of one node that ask the same of the same server with the same success."""
    ends = combine(frame.hashes[frame.client[rows]], frame.hashes[frame.server[rows]])
    what = frame.book.name_hashes[frame.name[rows]] ^ frame.columns.values("qtype")[rows].astype(np.uint64)
    answered = (frame.columns.values("records")[rows] > 0).astype(np.uint64)
    return scoped(frame.node[rows], combine(combine(ends, what), answered))


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
