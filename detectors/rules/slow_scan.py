"""Slow scan: one source tries ports over hours, so few at a time that no shorter window sees them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import Field

from detectors.base import DetectorConfig, Meta, TickView, confidence
from detectors.claim_detector import ClaimDetector, address_text
from detectors.flow_rows import FlowRows
from detectors.frame import TCP, UDP, scoped
from detectors.grouping import Grouping
from detectors.index import I64, positions
from detectors.kernels.tries import FIRST, PORT, SIZE, add_tries, suspects
from detectors.round_frames import RoundFrames
from detectors.statement import count
from schemas.events import Capability, FlowMark
from schemas.finding import MAX_ENDPOINTS, Evidence, Finding, Severity
from schemas.roles import SHARED

_SLOT = 300  # s, the window of the fast detectors
_CALM = 32  # failed tries of one host in one tick
_KEPT = 64  # failed tries kept per source, the last ones
# Ports that traceroute sends to, one after the other, to hosts that are not meant to answer there.
_TRACEROUTE = (33434, 33625)
_CONFIDENT: dict[Severity, float] = {"medium": 0.6, "low": 0.3}


class SlowScanConfig(DetectorConfig):
    """Limits of ``slow_scan``."""

    ports: Annotated[int, Field(ge=1)] = Field(
        10, description="ports of one host that one source may try in vain within the window (count)"
    )
    targets: Annotated[int, Field(ge=1, lt=_KEPT)] = Field(
        40, description="hosts and ports together that it may try (count); raises a low alert, as rollouts leave some"
    )
    slots: Annotated[int, Field(ge=2)] = Field(
        4, description="spans of 5 min in which such tries began (count); faster scans have detectors of their own"
    )
    per_slot: Annotated[int, Field(ge=1)] = Field(
        10, description="tries of one source that count in one span of 5 min (count); with more of one host none does"
    )
    window: Annotated[int, Field(ge=600)] = Field(86_400, description="s; a working day and a night")


class SlowScan(ClaimDetector):
    """Fires per source, when a try fails that is more than a host's or the day's share."""

    meta = Meta(
        id="slow_scan",
        title="Slow scan",
        stage=1,
        severity="medium",
        techniques=("T1046", "T1595.001"),
        needs=Capability.PORTS | Capability.ATTEMPTS,
        blind="slow scans are not seen: the source does not report unanswered attempts with ports",
        response="quarantine_pod",
    )
    Config: ClassVar[type[DetectorConfig]] = SlowScanConfig
    config: SlowScanConfig
    state_version: ClassVar[int] = 2

    def __init__(self, config: DetectorConfig | None = None) -> None:
        super().__init__(config)
        self._tries = self.remembered("tries", 1024, self.config.window, FIRST + SIZE * _KEPT)

    def observe(self, frames: RoundFrames) -> None:
        """Take in tries that were refused or not answered."""
        flows = frames.flow
        if flows is None:
            return
        failed = (flows.marked(FlowMark.REFUSED) | flows.marked(FlowMark.UNANSWERED)) & flows.own
        if not failed.any():
            return
        port, udp = flows.dst_port, flows.proto == UDP
        walk = (port >= _TRACEROUTE[0]) & (port <= _TRACEROUTE[1])
        # The answer to a question that passed before the capture began looks like a try of an ephemeral port.
        failed &= (flows.proto == TCP) | (udp & ~walk & flows.numbers("direction_known"))
        rows = positions(failed)
        rows = rows[self._calm(flows, rows)]
        rows = self.heads(flows.node_of(rows), rows)
        self._take(flows, frames.names, rows)

    def _calm(self, flows: FlowRows, rows: I64) -> npt.NDArray[np.bool_]:
        """Tell which rows are of hosts with so few failures on a node that it is no flood, fast scan or outage."""
        host = Grouping.equal(scoped(flows.node_of(rows), flows.responder_keys(rows)))
        calm: npt.NDArray[np.bool_] = host.sizes()[host.number] <= _CALM
        return calm

    def _take(self, flows: FlowRows, names: Sequence[str], rows: I64) -> None:
        """Take in tries, and note sources that may have tried too much."""
        config, nodes, ticks = self.config, flows.node_of(rows), flows.tick_of(rows)
        ends = [half.view(np.int64) for half in flows.ends(rows)]
        slots, _ = self._tries.take(scoped(nodes, flows.initiator_keys(rows)), nodes, ticks)
        values = self._tries.values
        tries = add_tries(values, slots, np.stack(ends[2:], axis=1), flows.dst_port[rows].astype(np.int64), ticks,
                          (config.per_slot, _SLOT, config.window))  # fmt: skip
        limits = (config.slots, config.ports, config.targets, _SLOT)
        # A source is judged by what it had tried when a try was last taken in, though the next may show it is fast.
        for at in suspects(values, slots, tries, limits).tolist():
            source = (int(ends[0].view(np.uint64)[at]), int(ends[1].view(np.uint64)[at]))
            tried = _tried(values[slots[at], FIRST : FIRST + SIZE * int(tries[at])])
            self._noted.append((names[int(nodes[at])], int(ticks[at]), source, tried))

    def judge(self, view: TickView, noted: Any) -> list[Finding]:
        """Return the finding about one source, where it tried too much."""
        name, tick, source, tried = noted
        config = self.config
        per_host = Counter((t[0], t[1]) for t in tried)
        host, ports = max(per_host.items(), key=lambda item: (item[1], item[0]))
        on_host = [t for t in tried if (t[0], t[1]) == host]
        vertical = ports > config.ports and len({t[3] // _SLOT for t in on_host}) >= config.slots
        if not vertical and len(tried) <= config.targets:
            return []
        who = view.endpoint(address_text(source), tick)
        if SHARED.intersection(who.roles) or "monitoring_scraper" in who.roles:
            return []
        severity: Severity = "medium" if vertical else "low"
        value, limit = (ports, config.ports) if vertical else (len(tried), config.targets)
        began = min(t[3] for t in (on_host if vertical else tried))
        hosts = [host] if vertical else sorted(per_host, key=lambda h: (-per_host[h], h))[:MAX_ENDPOINTS]
        what = f"ports of {address_text(host)}" if vertical else f"ports of {len(per_host)} hosts"
        return [Finding(
            detector=self.meta.id, kind=self.meta.id, title=self.meta.title, severity=severity,
            confidence=confidence(value, limit) if vertical else _CONFIDENT[severity], tick=tick, started=began,
            node=name, subject=f"{who.ip}@{name}", attackers=(who,),
            victims=tuple(view.endpoint(address_text(h), tick) for h in hosts), techniques=self.meta.techniques,
            evidence=(
                Evidence(name="slow_tries", value=value, limit=limit, unit="ports", window=config.window),
                Evidence(name="hosts", value=len(per_host), unit="hosts", window=config.window),
                Evidence(name="duration", value=tick - began, unit="s"),
            ),
            summary=f"{count(value)} {what} tried in vain within {tick - began} s, a few at a time, limit {limit}",
            spoofable=True, data_quality=view.quality[name],
            response=self.meta.response if vertical else None, quiet=3600,
        )]  # fmt: skip


def _tried(values: I64) -> list[list[int]]:
    """Return tries as ``upper and lower half of the host, port, tick``."""
    rows = values.reshape(-1, SIZE)
    halves = np.ascontiguousarray(rows[:, :2]).view(np.uint64).tolist()
    return [[*host, when & PORT, when >> 16] for host, when in zip(halves, rows[:, 2].tolist(), strict=True)]
