"""Mesh bypass: plain traffic to a port that the mesh should carry under mutual TLS."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, NamedTuple

import numpy as np
from pydantic import Field

from detectors.base import DetectorConfig, Meta, TickView
from detectors.claim_detector import Address, ClaimDetector, address_text
from detectors.flow_destinations import bound_for
from detectors.flow_rows import FlowRows
from detectors.frame import TCP
from detectors.index import I64
from detectors.ledger import Entry
from detectors.round_frames import RoundFrames
from schemas.events import Capability, FlowMark
from schemas.finding import Evidence, Finding

_ALL = "all"


class _Use(NamedTuple):
    """One client that spoke plainly with one port in one tick; ``app`` is the guess of what it spoke."""

    client: Address
    server: Address
    port: int
    app: str


@dataclass
class _Told(Entry):
    """Client, server and port: when it was last told, s since epoch."""

    told: int = 0


class MeshBypassConfig(DetectorConfig):
    """Limits of ``mesh_bypass``."""

    label: Annotated[str, Field(min_length=1, max_length=317)] = Field(
        "sluicegate.io/mtls-ports", description="label of pods whose ports the mesh protects; its value is port "
                                                "numbers joined by '_' or '.', or 'all'"
    )  # fmt: skip
    again: Annotated[int, Field(ge=60)] = Field(
        3600, description="s after which one client and port are told again; one bypass makes many connections"
    )


class MeshBypass(ClaimDetector):
    """Fires per client, server and port that exchanged payload without TLS where the inventory says mutual TLS.

    Nodes are left out: kubelet probes come from them in clear.
    """

    meta = Meta(
        id="mesh_bypass",
        title="Mesh bypass",
        stage=1,
        severity="medium",
        techniques=("T1599", "T1040"),
        needs=Capability.PORTS | Capability.PAYLOAD,
        blind="plain traffic past the mesh is not seen: the source does not report payload",
        response=None,
    )
    Config: ClassVar[type[DetectorConfig]] = MeshBypassConfig
    config: MeshBypassConfig

    def __init__(self, config: DetectorConfig | None = None) -> None:
        super().__init__(config)
        self._pairs = self.ledger("pairs", _Told, 4096, self.config.again)
        self._rows: list[tuple[FlowRows, str, int, int, I64]] = []  # what ``evaluate`` picks the protected ones from

    def observe(self, frames: RoundFrames) -> None:
        """Keep conversations until the inventory is at hand."""
        rows = frames.flow
        if rows is None:
            return
        # Payload both ways is told once in a flow's life.
        talked = rows.own & rows.marked(FlowMark.EXCHANGED) & (rows.proto == TCP)
        for node, tick, at in rows.ticks(talked):
            self._rows.append((rows, frames.names[node], node, tick, at))

    def evaluate(self, view: TickView) -> list[Finding]:
        """Return findings for plain conversations with protected pods."""
        kept, self._rows = self._rows, []
        protected = view.identities.labelled(self.config.label)
        for rows, name, node, tick, at in kept if protected else ():
            chosen = bound_for(rows, at, protected)
            if not len(chosen):
                continue
            ends, port = rows.ends(chosen), rows.dst_port[chosen]
            number, apps = rows.words_of("app", chosen)
            first = self.pieces((*ends, port, number), node, np.arange(len(chosen)))
            for a, b, c, d, p, n in zip(*(x[first].tolist() for x in (*ends, port, number)), strict=True):
                self._noted.append((name, node, tick, _Use((a, b), (c, d), p, apps[n])))
        return super().evaluate(view)

    def judge(self, view: TickView, noted: Any) -> list[Finding]:
        """Return the finding about one client and port, unless it spoke TLS or was told lately."""
        name, node, tick, use = noted
        client, server = address_text(use.client), address_text(use.server)
        item = view.identities.find(server, tick)
        if use.app == "tls" or item is None or not _protects(item.labels.get(self.config.label, ""), use.port):
            return []
        who = view.endpoint(client, tick)
        if "shared" in who.roles:
            return []
        key = (*use.client, *use.server, use.port)
        known = self._pairs.get(node, key, tick)
        if known is not None and tick - known.told < self.config.again:
            return []
        self._pairs.touch(node, key, tick).told = tick
        return [Finding(
            detector=self.meta.id, kind=self.meta.id, title=self.meta.title, severity=self.meta.severity,
            confidence=0.8 if use.app else 0.6, tick=tick, started=tick, node=name,
            subject=f"{client}@{name}/{server}:{use.port}", attackers=(who,),
            victims=(view.endpoint(server, tick, port=use.port, protocol="TCP"),), techniques=self.meta.techniques,
            evidence=(Evidence(name="plain_conversations", value=1, limit=0, unit="in this second"),),
            summary=f"{client} speaks {use.app or 'something that is not TLS'} with {server} port {use.port}, which "
                    f"{self.config.label} says the mesh protects: its sidecar is bypassed, or the server takes plain "
                    f"traffic; require mutual TLS there",
            spoofable=False, data_quality=view.quality[name], response=self.meta.response, quiet=600,
        )]  # fmt: skip


def _protects(value: str, port: int) -> bool:
    return value == _ALL or str(port) in value.replace(".", "_").split("_")
