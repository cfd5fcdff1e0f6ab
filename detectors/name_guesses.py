"""Names that look guessed: of a cluster's services, and of hosts directly below a zone."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from detectors.index import I64, positions
from detectors.mixing import U64, hash_text
from detectors.names import ZONE

SERVICE_NAME, HOST_NAME = 1, 2

# A Service's name in full (Kubernetes DNS specification, 2.2). A search path makes such names of other hosts too, with
# a top-level domain where the namespace stands: those are left out.
_MARK = ".svc."
_SERVICE = r"^[a-z]([-a-z0-9]*[a-z0-9])?\.[a-z][-a-z0-9]{2,}\.svc\..+$"
_SEARCHED = r"^[^.]+\.(com|net|org|edu|gov|mil|int|info|biz|name|arpa|local)\.svc\."
# One label in front of a registered zone; longer ones are hashes and keys, all digits are addresses of block lists.
_HOST = r"^[a-z0-9_-]{1,24}\." + ZONE
_NUMBER = r"^[0-9]+\."


def read_guesses(names: pa.StringArray) -> tuple[I64, U64]:
    """Return which names look guessed, and what they are counted within.

    Args:
        names: lower case, no final dot.

    Returns:
        ``SERVICE_NAME``, ``HOST_NAME`` or 0; hash of the text that `scope_of` gives, 0 where it looks not guessed.
    """
    # One expression after the other, each on what is left: most names are decided by the first.
    within = _where(pc.match_substring(names, _MARK))
    service = _but(names, _matching(names, within, _SERVICE), _SEARCHED)
    host = _but(names, _matching(names, np.arange(len(names)), _HOST), _NUMBER)
    guess, scope = np.zeros(len(names), np.int64), np.zeros(len(names), np.uint64)
    found = np.union1d(service, host)
    for at, name in zip(found.tolist(), names.take(pa.array(found)).to_pylist(), strict=True):
        guess[at], scope[at] = guess_of(name), hash_text(scope_of(name))
    return guess, scope


def guess_of(name: str) -> int:
    """Return ``SERVICE_NAME`` or ``HOST_NAME`` for a name that looks guessed."""
    return SERVICE_NAME if name.split(".", 3)[2:3] == ["svc"] and name.count(".") > 2 else HOST_NAME


def scope_of(name: str) -> str:
    """Return what a name that looks guessed is counted within: the cluster's domain, or the zone."""
    labels = 3 if guess_of(name) == SERVICE_NAME else 1
    return name.split(".", labels)[labels]


def _where(mask: pa.BooleanArray) -> I64:
    return positions(mask.to_numpy(zero_copy_only=False))


def _matching(names: pa.StringArray, rows: I64, pattern: str) -> I64:
    found: I64 = rows[_where(pc.match_substring_regex(names.take(pa.array(rows)), pattern))]
    return found


def _but(names: pa.StringArray, rows: I64, pattern: str) -> I64:
    return np.setdiff1d(rows, _matching(names, rows, pattern))
