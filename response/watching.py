"""Which flows a plan means to cut, as stage 1 looks for them on the wire."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal

from response.prove import AttackPair
from schemas.policy.addresses import host_cidr
from schemas.policy.cluster import ClusterView, Pod
from schemas.policy.networkpolicy import PROTOCOLS
from schemas.watch import MAX_PAIRS, MAX_SPARED, WatchPair

_WHOLE = {False: "0.0.0.0/0", True: "::/0"}


def watch_pairs(
    pods: Iterable[str], attack: Iterable[AttackPair], view: ClusterView, isolates: bool, kept: Iterable[str] = ()
) -> tuple[WatchPair, ...]:
    """The pairs of a plan, at most `MAX_PAIRS`.

    Args:
        pods: keys of the pods that it changes.
        attack: what it is about.
        view: the cluster before it.
        isolates: the pods end with nothing allowed; else only the attack is cut.
        kept: addresses that isolated pods may go on talking to.
    """
    if not isolates:
        return tuple(_attacked(pair) for pair in list(attack)[:MAX_PAIRS])
    spared = [host_cidr(ip) for ip in kept]
    found = (pair for pod in map(view.pod, pods) if pod is not None for pair in _isolated(pod, spared))
    return tuple(pair for pair, _ in zip(found, range(MAX_PAIRS), strict=False))


def _attacked(pair: AttackPair) -> WatchPair:
    source, destination = host_cidr(pair.source), host_cidr(pair.destination)
    return WatchPair(source=source, destination=destination, protocol=_protocol(pair.protocol), port=pair.port)


def _isolated(pod: Pod, spared: list[str]) -> Iterator[WatchPair]:
    """A pod's traffic both ways, but for its node: no policy applies between the two, kubelet probes included."""
    left_out = tuple(dict.fromkeys([*(host_cidr(ip) for ip in pod.node_ips), *spared]))[:MAX_SPARED]
    for ip in pod.ips:
        everyone = _WHOLE[":" in ip]
        yield WatchPair(source=host_cidr(ip), destination=everyone, spared=left_out)
        yield WatchPair(source=everyone, destination=host_cidr(ip), spared=left_out)


def _protocol(text: str | None) -> Literal["TCP", "UDP", "SCTP", "ICMP"] | None:
    if text is not None and text.startswith("ICMP"):
        return "ICMP"
    return next((protocol for protocol in PROTOCOLS if protocol == text), None)
