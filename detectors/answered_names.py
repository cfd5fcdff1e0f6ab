"""The name that an address was the answer for: what to call hosts that no inventory names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from detectors.address_names import AddressNames, address_keys
from detectors.index import positions
from detectors.names import ZONE_BYTES
from detectors.round_frames import RoundFrames
from schemas.finding import Finding

_ADDRESSES = 1024  # a node, about 110 bytes each
_LIFETIME = 3600  # s; connections outlive the answers that they were made by


class AnsweredNames:
    """Of each node, the addresses that its clients were told lately, and the name asked for, its last 96 bytes.

    Several names may share an address and anybody may own a name; the one told last is kept. So it is a hint for
    people and no identity.
    """

    state_version: ClassVar[int] = 1

    def __init__(self) -> None:
        self._names: dict[int, AddressNames] = {}

    def observe(self, frames: RoundFrames) -> None:
        """Take in the answers of a round."""
        dns, (rows, told) = frames.questions, frames.told
        if dns is None or not len(rows):
            return
        texts = np.array([text.encode()[-ZONE_BYTES:] for text in dns.words.to_pylist()], f"S{ZONE_BYTES}")
        nodes, ticks, asked = dns.node[rows], dns.tick[rows], texts[dns.word[rows]]
        for node in np.unique(nodes).tolist():
            own = positions(nodes == node)
            names = self._names.setdefault(node, AddressNames(_ADDRESSES, _LIFETIME))
            names.add(int(ticks[own[0]]), told[own], asked[own])

    def named(self, node: int, findings: Sequence[Finding]) -> list[Finding]:
        """Return a node's findings with the names of addresses of which nothing else is known."""
        names = self._names.get(node)
        return list(findings) if names is None else [_named(names, finding) for finding in findings]

    def snapshot(self) -> dict[str, Any]:
        """Return the state."""
        return {"names": {str(node): names.snapshot() for node, names in sorted(self._names.items())}}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take in what ``snapshot`` gave."""
        for node, entries in state["names"].items():
            self._names[int(node)] = names = AddressNames(_ADDRESSES, _LIFETIME)
            names.restore(entries)


def _named(names: AddressNames, finding: Finding) -> Finding:
    sides = {"attackers": finding.attackers, "victims": finding.victims}
    nameless = [e.ip for side in sides.values() for e in side if e.ip and e.identity == "unknown"]
    told = dict(zip(nameless, names.find(finding.tick, address_keys(nameless)), strict=True)) if nameless else {}
    if not any(told.values()):
        return finding
    named = {
        side: tuple(e.model_copy(update={"dns_name": told[e.ip]}) if told.get(e.ip) else e for e in ends)
        for side, ends in sides.items()
    }
    return finding.model_copy(update=named)
