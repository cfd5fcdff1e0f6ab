"""What findings about floods of packets have in common."""

from __future__ import annotations

from dataclasses import dataclass

from detectors.base import KeyView, Meta, TickView, confidence
from detectors.entered import entered
from detectors.statement import count
from schemas.finding import MAX_ENDPOINTS, Evidence, Finding, Severity

# A flood this many times above its limit is one whatever the victim's habit may be: ten is a decade.
_UNMISTAKABLE = 10
# Distinct senders in one second from which naming some of them says nothing: they are forged or a botnet.
_CROWD = 20


@dataclass(frozen=True)
class PacketFlood:
    """What was counted of one victim."""

    what: str  # in words
    name: str  # of the evidence
    value: int
    limit: int
    window: int  # s
    senders: int  # distinct ones by second, summed over the window
    usual: float  # packets per window
    known: bool  # the victim's habit is
    protocol: str
    port: int | None


def flood_finding(meta: Meta, view: TickView, keys: KeyView, row: int, flood: PacketFlood) -> Finding:
    """Return the finding about one flooded victim."""
    tick, ip = int(keys.ticks[row]), keys.address("dst", row)
    sure = flood.known or flood.value > _UNMISTAKABLE * flood.limit
    severity: Severity = meta.severity if sure else "medium"
    top = view.top_senders(bytes(keys.column("dst")[row]))
    named = top[:MAX_ENDPOINTS] if flood.senders <= _CROWD * flood.window else []
    by = entered(view, bytes(keys.column("dst")[row]), tick, flood.window, flood.value, [src for src, _ in top])
    habit = f"usually {count(flood.usual)}" if flood.known else "its usual rate is not known yet"
    where = f"; mostly to port {flood.port}" if flood.port else ""
    mean = -(-flood.senders // flood.window)
    senders = f"about {count(mean)} senders" if mean > 1 else "one sender"
    evidence = [
        Evidence(name=flood.name, value=flood.value, limit=flood.limit, unit="packets", window=flood.window),
        Evidence(name="senders", value=flood.senders, unit="senders by second", window=flood.window),
    ]
    if flood.known:
        evidence.append(Evidence(name="usual", value=round(flood.usual, 1), unit="packets", window=flood.window))
    evidence += by.evidence
    return Finding(
        detector=meta.id, kind=meta.id, title=meta.title, severity=severity,
        confidence=confidence(flood.value, flood.limit), tick=tick,
        started=max(int(keys.since()[row]), tick - flood.window), node="", subject=ip,
        attackers=by.attackers([view.endpoint(src, tick) for src, _ in named]),
        victims=(view.endpoint(ip, tick, port=flood.port, protocol=flood.protocol),), techniques=meta.techniques,
        evidence=tuple(evidence),
        summary=f"{count(flood.value)} {flood.what} to {ip} within {flood.window} s, limit {count(flood.limit)}, "
                f"{habit}, from {senders} a second{where}{by.words}",
        # No packet of it needs an answer, so any address will do; only an interface proves who sent it.
        spoofable=not by.proven, data_quality=view.quality[""], response=meta.response, quiet=60,
    )  # fmt: skip
