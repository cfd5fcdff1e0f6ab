"""Addresses as what they belong to: keys by pod, workload, namespace, Service or node.

Each distinct address of a frame is looked up once, and not again while the inventory says nothing new about it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt

from detectors.index import I64
from detectors.mixing import U64, hash_text
from schemas.addresses import unpack
from schemas.finding import Endpoint
from schemas.identity import IdentityTable
from schemas.inventory import InventoryObject

By = Literal["pod", "workload", "namespace", "service", "node"]
BYS: tuple[By, ...] = get_args(By)
# No inventory names the address, or what it names has none of the kind. A key of its own: nobody's traffic is lost.
UNKNOWN = "unknown"
TEXT_BYTES = 320  # of a key's text; longer ones are cut, and still told apart
_REMEMBERED = 1 << 15  # addresses by kind of key, about 8 MB


class _Known(NamedTuple):
    begin: int  # ticks from which to before which it holds
    end: int
    text: str


class IdentityKeys:
    """Keys of addresses by what they belong to at a tick; what is remembered never shows in a result."""

    def __init__(self, identities: IdentityTable) -> None:
        self._identities = identities
        self._known: dict[tuple[str, bytes], _Known] = {}
        self._told = -1

    def of(self, by: By, addresses: npt.NDArray[np.uint8], ticks: I64) -> tuple[U64, npt.NDArray[np.bytes_]]:
        """Return a hash and a text for each address.

        Args:
            by: kind of key.
            addresses: uint8, shape (n, 16), each once per tick.
            ticks: at which they are asked for, s since epoch, shape (n,).
        """
        if self._identities.told != self._told or len(self._known) > _REMEMBERED:
            self._told = self._identities.told
            self._known.clear()
        raw = np.ascontiguousarray(addresses).tobytes()
        texts = [self._text(by, raw[16 * n : 16 * n + 16], tick) for n, tick in enumerate(ticks.tolist())]
        hashes = np.array([hash_text(text) for text in texts], np.uint64)
        return hashes, np.array([text.encode()[:TEXT_BYTES] for text in texts], f"S{TEXT_BYTES}")

    def _text(self, by: By, packed: bytes, tick: int) -> str:
        known = self._known.get((by, packed))
        if known is None or not known.begin <= tick < known.end:
            ip = unpack(packed)
            item = self._identities.find(ip, tick)
            # Which Service selects a pod changes with the Services, too.
            span = (tick, tick + 1) if by == "service" and item is not None else self._identities.span(ip, tick)
            text = _READ[by](item, self._identities, tick) if item is not None else ""
            known = self._known[by, packed] = _Known(*span, text or UNKNOWN)
        return known.text


def _pod(item: InventoryObject, _identities: IdentityTable, _tick: int) -> str:
    return f"{item.namespace}/{item.name}" if item.kind == "Pod" else ""


def _workload(item: InventoryObject, _identities: IdentityTable, _tick: int) -> str:
    # A pod that nobody made stands for itself.
    return f"{item.namespace}/{item.workload or f'Pod/{item.name}'}" if item.kind == "Pod" else ""


def _namespace(item: InventoryObject, _identities: IdentityTable, _tick: int) -> str:
    return item.namespace


def _service(item: InventoryObject, identities: IdentityTable, tick: int) -> str:
    if item.kind == "Service":
        return f"{item.namespace}/{item.name}"
    return identities.service_of(item, tick) or ""


def _node(item: InventoryObject, _identities: IdentityTable, _tick: int) -> str:
    return item.name if item.kind == "Node" else item.node


_READ: dict[By, Callable[[InventoryObject, IdentityTable, int], str]] = {
    "pod": _pod, "workload": _workload, "namespace": _namespace, "service": _service, "node": _node,
}  # fmt: skip


def identified(by: By, text: str) -> Endpoint:
    """Return an endpoint without an address that has a key's identity."""
    if text == UNKNOWN:
        return Endpoint(ip="")
    namespace, _, rest = text.partition("/")
    more: dict[By, dict[str, Any]] = {
        "pod": {"namespace": namespace, "pod": rest}, "workload": {"namespace": namespace, "workload": rest},
        "namespace": {"namespace": text}, "service": {"namespace": namespace, "service": text}, "node": {"node": text},
    }  # fmt: skip
    return Endpoint.model_validate({"ip": "", "identity": "known", **more[by]})


def wording(by: By, text: str) -> str:
    """Return a key in words."""
    return f"all addresses without a known {by}" if text == UNKNOWN else f"{by} {text}"
