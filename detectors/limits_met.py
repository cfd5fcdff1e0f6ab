"""Findings about ourselves: what a source leaves unseen, and what full tables refused."""

from __future__ import annotations

from collections.abc import Sequence

from detectors.assembly import ClosedTick
from detectors.base import Detector
from schemas.events import Capability
from schemas.finding import Evidence, Finding

BLIND = "detector_blind"
SHED = "state_shed"
# A node's interfaces and sockets are told by a source of their own, never by one that sees packets or flows:
# there its absence is no shortcoming to be told of.
_ELSEWHERE = Capability.HOST


def blind_finding(detectors: Sequence[Detector], tick: ClosedTick, node: str) -> list[Finding]:
    """Return one finding that names the detectors which a node's source leaves blind; none if it sees all."""
    seen = Capability(tick.capabilities)
    blind = [d for d in detectors if d.meta.needs & ~seen & ~_ELSEWHERE]
    if not blind:
        return []
    names = sorted({d.meta.id for d in blind})
    finding = Finding(
        detector=BLIND, kind=BLIND, title="Source cannot show all attacks", severity="info", confidence=1.0,
        tick=tick.tick, started=tick.tick, node=node, subject=node,
        evidence=(Evidence(name="blind_detectors", value=len(names), unit="detectors"),),
        summary=f"the source of node {node} leaves {', '.join(names)} blind", spoofable=False,
        data_quality=tick.quality.model_copy(update={"notes": tuple(sorted({d.meta.blind for d in blind}))}),
        response=None, quiet=60,
    )  # fmt: skip
    return [finding]


def shed_finding(tick: int, node: str, shed: int) -> Finding:
    """Return the finding that says that full tables refused keys in this tick."""
    return Finding(
        detector=SHED, kind=SHED, title="State is full", severity="low", confidence=1.0, tick=tick, started=tick,
        node=node, subject=node, evidence=(Evidence(name="shed", value=shed, limit=0, unit="keys and elements"),),
        summary=f"full tables refused {shed:,} keys and elements: what they belong to is not watched now",
        spoofable=True, response=None, quiet=60,
    )  # fmt: skip
