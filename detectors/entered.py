"""Who sent a flood, by the interfaces of nodes that it entered by: no address proves anything there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from detectors.base import TickView
from detectors.recent_entrances import Entrance
from detectors.statement import count
from schemas.finding import MAX_ENDPOINTS, Endpoint, Evidence

# Pods are the senders where all but this part of what was counted entered by their interfaces. The rest is chance:
# packets of the first second, counted before its end, and others who happened to speak to the victim.
_PROVEN = 0.9
_FORGED = 8  # addresses named per pod


@dataclass(frozen=True)
class Entered:
    """What interfaces say of a flood.

    ``pods`` are behind them, those with the most packets first; ``proven`` that they sent all of it but a rest;
    ``words`` continue a summary, empty where no pod is known.
    """

    pods: tuple[Endpoint, ...] = ()
    proven: bool = False
    evidence: tuple[Evidence, ...] = ()
    words: str = ""

    def attackers(self, claimed: Sequence[Endpoint]) -> tuple[Endpoint, ...]:
        """Return the pods; without proof, then those whose addresses the packets bore."""
        own = {pod.ip for pod in self.pods}
        others = () if self.proven else tuple(end for end in claimed if end.ip not in own)
        return (*self.pods, *others)[:MAX_ENDPOINTS]


def entered(
    view: TickView, dst: bytes, tick: int, window: int, value: int, claimed: Sequence[str]
) -> Entered:  # fmt: skip
    """Return who is behind the interfaces by which a victim was flooded.

    Args:
        view: of the tick.
        dst: packed address of the victim.
        tick: s since epoch.
        window: s that ``value`` was counted over.
        value: packets or connections that prove no sender.
        claimed: source addresses that the packets bore.
    """
    found = view.entrances(dst, tick - window)
    pods: dict[str, tuple[Endpoint, Entrance]] = {}
    known = 0
    for entrance in found:
        pod = view.sender(entrance.node, entrance.interface, tick, told=entrance.pod) if entrance.interface else None
        if pod is not None:
            known += entrance.packets
            pods.setdefault(pod.ip, (pod, entrance))
    if not pods:
        return Entered()
    forged = [ip for ip in dict.fromkeys(claimed) if ip not in pods]
    ends = tuple(_forging(pod, forged) for pod, _ in pods.values())
    total = max(sum(entrance.packets for entrance in found), value)
    first, entrance = next(iter(pods.values()))
    more = f" and {len(pods) - 1} more" if len(pods) > 1 else ""
    return Entered(
        pods=ends[:MAX_ENDPOINTS],
        proven=known >= _PROVEN * total,
        evidence=(Evidence(name="by_interfaces_of_pods", value=known, unit="packets", window=window),),
        words=f"; {count(known)} packets entered by interfaces of pods: {_name(first)} (interface "
              f"{entrance.interface} of {entrance.node}){more}",
    )  # fmt: skip


def _forging(pod: Endpoint, claimed: Sequence[str]) -> Endpoint:
    return pod.model_copy(update={"forged": tuple(claimed[:_FORGED])}) if claimed else pod


def _name(pod: Endpoint) -> str:
    return f"{pod.namespace}/{pod.pod}" if pod.pod else pod.ip
