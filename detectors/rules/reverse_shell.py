"""Reverse shell: a workload calls out, and who is called gives the orders."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import Field

from detectors.base import DetectorConfig, Meta, TickView, confidence
from detectors.claim_detector import ClaimDetector, address_text
from detectors.frame import TCP
from detectors.index import I64
from detectors.ledger import Entry
from detectors.round_frames import RoundFrames
from detectors.row_frame import RowFrame
from detectors.statement import count
from schemas.events import Capability, PayloadSide
from schemas.finding import Evidence, Finding, Severity

# Whose servers greet first, by their protocols: FTP, SSH, Telnet, SMTP, POP, NNTP, IMAP, LMTP, submission, rsync,
# MySQL and its X protocol, NATS and its cluster ports, ManageSieve, VNC.
_GREETERS = (
    20, 21, 22, 23, 24, 25, 110, 119, 143, 465, 587, 873, 990, 993, 995, 2121, 2222, 2525, 3306, 33060, 4190, 4222,
    6222, 7422, *range(5900, 5911),
)  # fmt: skip
_ROWS_PER_TICK = 1024
_REMEMBERED = 8  # sources of one server


@dataclass
class _Shell(Entry):
    """One connection whose responder spoke first."""

    sent: int = 0  # payload bytes by the initiator
    received: int = 0
    pauses: int = 0


@dataclass
class _Server(Entry):
    """Who called a server that speaks first, as halves of addresses."""

    callers: list[list[int]] = field(default_factory=list)


class ReverseShellConfig(DetectorConfig):
    """Limits of ``reverse_shell``."""

    pauses: Annotated[int, Field(ge=1)] = Field(
        2, description="quiet gaps of a second or more in one connection (count); people read before they type on"
    )
    callers: Annotated[int, Field(ge=1, le=_REMEMBERED)] = Field(
        2, description="sources of one server that speaks first (count); what more of them call is a service"
    )
    greeters: tuple[Annotated[int, Field(ge=1, le=65535)], ...] = Field(
        _GREETERS, description="TCP ports whose servers speak first by their protocol; not judged"
    )
    memory: Annotated[int, Field(ge=120)] = Field(
        86_400, description="s that a connection and a server's callers are remembered after their last row"
    )


class ReverseShell(ClaimDetector):
    """Fires per connection.

    In hardly any protocol does the server speak first; those that do have known ports or are recognised by their
    first bytes. A connection whose called side sends first, and that pauses as people do, is a shell that was given
    away.
    """

    meta = Meta(
        id="reverse_shell",
        title="Reverse shell",
        stage=1,
        severity="high",
        techniques=("T1059", "T1571"),
        needs=Capability.PAYLOAD | Capability.REVERSE | Capability.PORTS | Capability.BURSTS,
        blind="reverse shells are not seen: the source does not report who sent payload first, or pauses in a flow",
        response="quarantine_pod",
    )
    Config: ClassVar[type[DetectorConfig]] = ReverseShellConfig
    config: ReverseShellConfig

    def __init__(self, config: DetectorConfig | None = None) -> None:
        super().__init__(config)
        self._shells = self.ledger("shells", _Shell, 2048, self.config.memory)
        self._servers = self.ledger("servers", _Server, 2048, self.config.memory)

    def observe(self, frames: RoundFrames) -> None:
        """Take in rows of connections whose responder spoke first."""
        flow = frames.flow
        if flow is None:
            return
        chosen = flow.numbers("first_payload") == PayloadSide.RESPONDER
        if chosen.any():
            chosen &= self._odd(flow)
            for node, tick, rows in flow.ticks(chosen):
                self.skip(node, len(rows) - _ROWS_PER_TICK)
                self._tick(flow, frames.names[node], node, tick, rows[:_ROWS_PER_TICK])

    def _odd(self, flow: RowFrame) -> npt.NDArray[np.bool_]:
        """Tell which rows are of TCP connections seen from their start, to no port and of no protocol that greets."""
        number, words = flow.texts("app")
        unknown = np.array([word == "" for word in words], np.bool_)[number]
        odd: npt.NDArray[np.bool_] = unknown & (flow.numbers("proto") == TCP) & flow.numbers("direction_known")
        return odd & ~np.isin(flow.numbers("dst_port"), self.config.greeters)

    def _tick(self, flow: RowFrame, name: str, node: int, tick: int, rows: I64) -> None:
        names = ("flow_id", "dst_port", "src_payload", "dst_payload", "bursts")
        columns = [*flow.addresses("src"), *flow.addresses("dst"), *(flow.numbers(n) for n in names)]
        found: dict[int, Any] = {}
        for s_high, s_low, d_high, d_low, flow_id, port, sent, received, bursts in zip(
            *(c[rows].tolist() for c in columns), strict=True
        ):
            source, server = (s_high, s_low), (d_high, d_low)
            shell = self._shells.touch(node, (flow_id,), tick)
            shell.sent, shell.received = shell.sent + sent, shell.received + received
            shell.pauses += bursts
            callers = self._servers.touch(node, (*server, port), tick).callers
            if list(source) not in callers and len(callers) < _REMEMBERED:
                callers.append(list(source))
            if shell.sent and shell.received and shell.pauses > self.config.pauses:
                found[flow_id] = (name, tick, source, server, port, shell, callers)
        self._noted += [item for item in found.values() if len(item[-1]) <= self.config.callers]

    def judge(self, view: TickView, noted: Any) -> list[Finding]:
        """Return the finding about one connection."""
        node, tick, source, server, port, shell, callers = noted
        by = view.endpoint(address_text(source), tick)
        to = view.endpoint(address_text(server), tick, port=port, protocol="TCP")
        # Between known endpoints of the cluster a protocol of one's own that greets is likelier than a shell.
        severity: Severity = self.meta.severity if to.identity == "unknown" else "low"
        limit = self.config.pauses
        return [Finding(
            detector=self.meta.id, kind=self.meta.id, title=self.meta.title, severity=severity,
            confidence=confidence(shell.pauses, limit), tick=tick, started=shell.since, node=node,
            subject=f"{by.ip}/{to.ip}:{port}@{node}", attackers=(by,), victims=(to,),
            techniques=self.meta.techniques,
            evidence=(
                Evidence(name="pauses", value=shell.pauses, limit=limit, unit="gaps of 1 s or more"),
                Evidence(name="orders", value=shell.received, unit="bytes"),
                Evidence(name="replies", value=shell.sent, unit="bytes"),
                Evidence(name="callers", value=len(callers), unit="sources"),
            ),
            summary=f"{by.ip} called {to.ip}:{port}, which spoke first and sent {count(shell.received)} bytes with "
                    f"{count(shell.pauses)} pauses, limit {limit}; {count(shell.sent)} bytes went back",
            # Payload went both ways: the addresses are their own.
            spoofable=False, data_quality=view.quality[node], response=self.meta.response, quiet=180,
        )]  # fmt: skip
