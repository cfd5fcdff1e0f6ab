"""Long connection: a workload holds one connection to the outside for hours."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, NamedTuple

import numpy as np
from pydantic import Field

from detectors.base import DetectorConfig, Meta, TickView, confidence
from detectors.claim_detector import Address, ClaimDetector, address_text
from detectors.daily_most import DAY, DAYS, DailyMost
from detectors.flow_rows import FlowRows
from detectors.frame import TCP, UDP
from detectors.index import I64, positions
from detectors.ledger import Entry
from detectors.mixing import hash_text
from detectors.outside import is_outside
from detectors.round_frames import RoundFrames
from detectors.row_frame import row_keys
from detectors.statement import PROTOCOLS
from schemas.events import Capability
from schemas.finding import Endpoint, Evidence, Finding, Severity
from schemas.roles import SHARED

_SECOND = 1_000_000_000
_EPHEMERAL = 32768  # from which on clients' ports are; servers that are reached outside listen below
_MANY = SHARED - {"shared"}  # pass on what others send
_REMEMBERED = 8  # callers of one service
_REMOTE = {"ssh": "SSH", "rdp": "RDP"}  # by first bytes, on any port
# Remote control and tunnels by port: SSH, Telnet, OpenVPN, L2TP, PPTP, RDP, IKE and its NAT traversal, VNC, WireGuard.
_REMOTE_PORTS = {
    22: "SSH", 23: "Telnet", 500: "IKE", 1194: "OpenVPN", 1701: "L2TP", 1723: "PPTP", 3389: "RDP", 4500: "IPsec",
    5900: "VNC", 51820: "WireGuard",
}  # fmt: skip


class _Held(NamedTuple):
    """The longest connection of one source to one service outside that was alive in a tick."""

    source: Address
    destination: Address
    port: int
    proto: int
    seconds: int
    app: str


@dataclass
class _Service(Entry):
    """Who holds long connections to one service outside: hashes of workloads or addresses."""

    callers: list[int] = field(default_factory=list)


class LongConnectionConfig(DetectorConfig):
    """Limits of ``long_connection``."""

    duration: Annotated[int, Field(ge=60)] = Field(
        14_400, description="s that one connection to an address outside may last; a working session ends before"
    )
    usual_factor: Annotated[float, Field(gt=1)] = Field(
        2.0, description="times the longest that the workload held on this port on any earlier day"
    )
    callers: Annotated[int, Field(ge=1, le=_REMEMBERED)] = Field(
        3, description="workloads of a node (count) above which a service that they hold connections to is popular"
    )
    quiet_ports: tuple[Annotated[int, Field(ge=1, le=65535)], ...] = Field(
        (53, 123, 179, 853), description="ports of DNS, NTP and BGP, whose connections last by design; not judged"
    )


class LongConnection(ClaimDetector):
    """Fires per source and service outside, while the connection is alive.

    Inside a cluster pools, streams and watches last for days, so only connections to the outside are judged, and
    a workload that holds them every day is held to its own days.
    """

    meta = Meta(
        id="long_connection",
        title="Long connection",
        stage=1,
        severity="medium",
        techniques=("T1071", "T1572"),
        needs=Capability.PORTS | Capability.REVERSE | Capability.EXACT_TIME,
        blind="long connections are not seen: the source does not report when a flow began, or both of its directions",
        response="block_egress_destination",
    )
    Config: ClassVar[type[DetectorConfig]] = LongConnectionConfig
    config: LongConnectionConfig

    def __init__(self, config: DetectorConfig | None = None) -> None:
        super().__init__(config)
        self._habits = self.ledger("habits", DailyMost, 2048, DAYS * DAY)
        self._services = self.ledger("services", _Service, 2048, DAYS * DAY)

    def observe(self, frames: RoundFrames) -> None:
        """Take in the rows of connections that are alive and old."""
        flows = frames.flow
        if flows is None:
            return
        old = flows.numbers("end") - flows.numbers("conn_start") > self.config.duration * _SECOND
        if not old.any():
            return
        rows = positions(old)
        rows = rows[self._judged(flows, rows)]
        ends = flows.ends(rows)
        outwards = is_outside(ends[2], ends[3]) & ~is_outside(ends[0], ends[1])
        old[:] = False
        old[rows[outwards]] = True
        for node, tick, mine in flows.ticks(old):
            self._noted.append((frames.names[node], node, tick, self._longest(flows, node, mine)))

    def _judged(self, flows: FlowRows, rows: I64) -> Any:
        """Tell which rows are of conversations whose initiator is known, or plain by its ports."""
        proto, port = flows.proto[rows], flows.dst_port[rows]
        alive = (flows.numbers("src_packets")[rows] > 0) & (flows.numbers("dst_packets")[rows] > 0)
        plain = (port < _EPHEMERAL) & (flows.numbers("src_port")[rows] >= _EPHEMERAL)
        known = flows.numbers("direction_known")[rows] | plain
        alive &= flows.own[rows] & ((proto == TCP) | (proto == UDP)) & known
        return alive & ~np.isin(port, self.config.quiet_ports)

    def _longest(self, flows: FlowRows, node: int, rows: I64) -> list[_Held]:
        seconds = (flows.numbers("end")[rows] - flows.numbers("conn_start")[rows]) // _SECOND
        number, words = flows.words_of("app", rows)
        columns = [*flows.ends(rows), flows.dst_port[rows], flows.proto[rows]]
        order = np.argsort(-seconds, kind="stable")
        _, first = np.unique(row_keys(columns, order), return_index=True)
        chosen = self.head(node, order[np.sort(first)])
        values = zip(*(c[chosen].tolist() for c in (*columns, seconds, number)), strict=True)
        return [_Held((a, b), (c, d), port, proto, life, words[app]) for a, b, c, d, port, proto, life, app in values]

    def judge(self, view: TickView, noted: Any) -> list[Finding]:
        """Return the findings about one node's tick."""
        name, node, tick, held = noted
        found = [self._judge_one(view, name, node, tick, one) for one in held]
        return [finding for finding in found if finding is not None]

    def _judge_one(self, view: TickView, name: str, node: int, tick: int, held: _Held) -> Finding | None:
        config = self.config
        destination = address_text(held.destination)
        if view.identities.role(destination, tick) in ("internal", "shared"):
            return None
        by = view.endpoint(address_text(held.source), tick)
        if _MANY.intersection(by.roles):
            return None
        who = hash_text(f"{by.namespace}/{by.workload}") if by.workload and by.namespace else hash_text(by.ip)
        service = self._services.touch(node, (*held.destination, held.port, held.proto), tick)
        if who not in service.callers and len(service.callers) < _REMEMBERED:
            service.callers.append(who)
        habit = self._habits.touch(node, (who, held.port, held.proto), tick)
        usual = habit.usual(tick // DAY)
        habit.learn(tick // DAY, held.seconds)
        limit = max(config.duration, int(config.usual_factor * usual))
        if held.seconds <= limit or len(service.callers) > config.callers:
            return None
        return self._finding(view, (name, tick), by, held, (limit, usual, len(service.callers)))

    def _finding(self, view: TickView, at: tuple[str, int], by: Endpoint, held: _Held,
                 told: tuple[int, int, int]) -> Finding:  # fmt: skip
        (name, tick), (limit, usual, callers) = at, told
        protocol = PROTOCOLS[held.proto]
        to = view.endpoint(address_text(held.destination), tick, port=held.port, protocol=protocol)
        remote = _REMOTE.get(held.app) or ("" if held.app else _REMOTE_PORTS.get(held.port, ""))
        # Many stand behind a node's address, and nodes are administered and joined by tunnels.
        severity: Severity = self.meta.severity if remote and "shared" not in by.roles else "low"
        habit = f"at most {_hours(usual)} on earlier days" if usual else "no long ones on earlier days"
        return Finding(
            detector=self.meta.id, kind=self.meta.id, title=self.meta.title, severity=severity,
            confidence=confidence(held.seconds, limit), tick=tick, started=tick - held.seconds, node=name,
            subject=f"{by.ip}@{name}/{to.ip}:{held.port}/{protocol}", attackers=(by,), victims=(to,),
            techniques=self.meta.techniques,
            evidence=(
                Evidence(name="duration", value=held.seconds, limit=limit, unit="s"),
                Evidence(name="usual_duration", value=usual, unit="s"),
                Evidence(name="callers", value=callers, limit=None, unit="workloads with long connections to it"),
            ),
            summary=f"{by.ip} has held one connection{f' of {remote}' if remote else ''} to {to.ip}:{held.port} for "
                    f"{_hours(held.seconds)}, limit {_hours(limit)}; the workload's habit on this port: {habit}",
            # Packets went both ways for hours.
            spoofable=False, data_quality=view.quality[name],
            response=self.meta.response if severity != "low" else None, quiet=300,
        )  # fmt: skip


def _hours(seconds: int) -> str:
    return f"{seconds / 3600:.1f} h"
