"""Findings about ourselves: what a source leaves unseen, who fell silent, and what full tables refused."""

from __future__ import annotations

from collections.abc import Sequence

from detectors.assembly import ClosedTick
from detectors.base import Detector
from schemas.events import Capability
from schemas.finding import DataQuality, Evidence, Finding
from schemas.rollups import RollupHeader

BLIND = "detector_blind"
SHED = "state_shed"
SILENT = "exporter_silent"
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
    notes = (*tick.quality.notes, *sorted({d.meta.blind for d in blind}))
    finding = Finding(
        detector=BLIND, kind=BLIND, title="Source cannot show all attacks", severity="info", confidence=1.0,
        tick=tick.tick, started=tick.tick, node=node, subject=node,
        evidence=(Evidence(name="blind_detectors", value=len(names), unit="detectors"),),
        summary=f"the source of node {node} leaves {', '.join(names)} blind", spoofable=False,
        data_quality=tick.quality.model_copy(update={"notes": notes}),
        response=None, quiet=60,
    )  # fmt: skip
    return [finding]


def shed_finding(tick: int, node: str, shed: int, deferred: int) -> Finding:
    """Return the finding that says what crowded tables did not take in this tick."""
    refused = f"refused {shed:,} keys and elements, which are not watched now" if shed else ""
    waiting = f"let {deferred:,} new keys wait until they do more" if deferred else ""
    return Finding(
        detector=SHED, kind=SHED, title="State is crowded", severity="low", confidence=1.0, tick=tick, started=tick,
        node=node, subject=node,
        evidence=(
            Evidence(name="shed", value=shed, limit=0, unit="keys and elements"),
            Evidence(name="deferred", value=deferred, limit=0, unit="keys"),
        ),
        summary=f"crowded tables {' and '.join(filter(None, (refused, waiting)))}",
        spoofable=True, response=None, quiet=60,
    )  # fmt: skip


def silent_node_finding(tick: ClosedTick, node: str, silence_s: int) -> Finding:
    """Return the finding that says that a node's exporter is not heard any more, in the first tick it did not say."""
    return _silent(
        tick.tick, node, node, tick.quality, Evidence(name="silence", value=silence_s, limit=silence_s, unit="s"),
        f"nothing came from the exporter of node {node} for {silence_s} s while other nodes were heard; "
        "what happens there is not seen until it speaks again", quiet=1,
    )  # fmt: skip


def silent_sender_finding(tick: int, header: RollupHeader, quality: DataQuality) -> Finding:
    """Return the finding that says that no exporter of an event partition is heard any more."""
    more = header.silent_nodes - len(header.silent)
    names = ", ".join(header.silent) + (f" and {more} more" if more > 0 else "")
    nodes = f"the exporters of {names}" if header.silent else "any exporter"
    return _silent(
        tick, "", f"events.v1/{header.sender}", quality,
        Evidence(name="silent_nodes", value=header.silent_nodes, unit="nodes"),
        f"nothing came from {nodes}, all of event partition {header.sender}; "
        "what happens there is not seen until they speak again", quiet=60,
    )  # fmt: skip


def _silent(
    tick: int, node: str, subject: str, quality: DataQuality, evidence: Evidence, summary: str, *, quiet: int
) -> Finding:
    # Who stops the watcher first is not seen at what comes next (ATT&CK: disable or modify tools).
    return Finding(
        detector=SILENT, kind=SILENT, title="Exporter fell silent", severity="medium", confidence=0.5, tick=tick,
        started=tick, node=node, subject=subject, techniques=("T1562.001",), evidence=(evidence,), summary=summary,
        spoofable=False, data_quality=quality, response=None, quiet=quiet,
    )  # fmt: skip
