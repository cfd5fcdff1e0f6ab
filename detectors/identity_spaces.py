"""The inputs of key spaces by identity, which rules ask for with ``by``: those of single addresses put together."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import numpy.typing as npt

from detectors.dns_frame import DnsFrame
from detectors.frame import FlowFrame, scoped
from detectors.grouping import Grouping
from detectors.identity_keys import By, IdentityKeys
from detectors.index import I64, positions
from detectors.keying import Finer, SpaceInput
from detectors.mixing import U64
from detectors.spaces import IDENTITY_SPACES

Array = npt.NDArray[Any]


def flow_identity_inputs(frame: FlowFrame, wanted: Collection[str], keys: IdentityKeys) -> dict[str, SpaceInput]:
    """Return the inputs of the wanted spaces of sources by identity."""
    asked = {name: by for name, (base, by) in IDENTITY_SPACES.items() if base == "source" and name in wanted}
    if not asked:
        return {}
    members = positions(~frame.copy)
    ends = Grouping(members, [frame.place, frame.src])
    return {name: _sources(frame, members, ends, by, keys) for name, by in asked.items()}


def dns_identity_inputs(frame: DnsFrame, wanted: Collection[str], keys: IdentityKeys) -> dict[str, SpaceInput]:
    """Return the inputs of the wanted spaces of DNS clients by identity."""
    asked = {name: by for name, (base, by) in IDENTITY_SPACES.items() if base == "dns_client" and name in wanted}
    if not asked:
        return {}
    ends = Grouping(frame.subjects, [frame.node, frame.client])
    return {name: _clients(frame, ends, by, keys) for name, by in asked.items()}


def _coded(ends: Grouping, addresses: Array, ticks: I64, by: By, keys: IdentityKeys) -> tuple[I64, U64, Array]:
    """Return the code of each member's identity (by position, as large as needed), and of each code hash and text."""
    hashes, texts = keys.of(by, addresses, ticks)
    kinds = Grouping.equal(hashes)
    code = np.zeros(int(ends.members.max(initial=-1)) + 1, np.int64)
    code[ends.members] = kinds.number[ends.number]
    return code, hashes[kinds.first], texts[kinds.first]


def _sources(frame: FlowFrame, members: I64, ends: Grouping, by: By, keys: IdentityKeys) -> SpaceInput:
    first = ends.first
    code, hashes, texts = _coded(ends, frame.addresses[frame.src[first]], frame.tick[first], by, keys)
    grouping = Grouping(members, [frame.place, code])

    def hosts(members: I64) -> tuple[Grouping, U64]:
        finer = Grouping(members, [frame.place, code, frame.dst])
        return finer, frame.hashes[frame.dst[finer.first]]

    def ports(members: I64) -> tuple[Grouping, U64]:
        finer = Grouping(members, [frame.place, code, frame.service])
        return finer, frame.service[finer.first].astype(np.uint64)

    return _input(frame, grouping, code, (hashes, texts), {"host": hosts, "port": ports})


def _clients(frame: DnsFrame, ends: Grouping, by: By, keys: IdentityKeys) -> SpaceInput:
    first = ends.first
    code, hashes, texts = _coded(ends, frame.addresses[frame.client[first]], frame.tick[first], by, keys)
    grouping = Grouping(frame.subjects, [frame.node, code])

    def names(members: I64) -> tuple[Grouping, U64]:
        finer = Grouping(members, [frame.node, code, frame.name])
        return finer, frame.book.name_hashes[frame.name[finer.first]]

    return _input(frame, grouping, code, (hashes, texts), {"name": names})


def _input(frame: FlowFrame | DnsFrame, grouping: Grouping, code: I64, told: tuple[U64, Array],
           finer: dict[str, Finer]) -> SpaceInput:  # fmt: skip
    hashes, texts = told
    at = code[grouping.first]

    def identity(rows: I64) -> dict[str, Array]:
        return {"who": texts[at[rows]]}

    return SpaceInput(scoped(frame.node[grouping.first], hashes[at]), grouping, frame, identity, finer)
