"""Lateral movement: machines inside begin to administer others, one after the other or many at once."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar, NamedTuple

import numpy as np
from pydantic import Field

from detectors.arrivals import arrived
from detectors.base import DetectorConfig, Meta, TickView
from detectors.claim_detector import Address, ClaimDetector, address_text
from detectors.frame import TCP
from detectors.index import positions
from detectors.ledger import Entry, Key
from detectors.mixing import hash_text
from detectors.round_frames import RoundFrames
from schemas.events import Capability, FlowMark
from schemas.finding import Endpoint, Evidence, Finding, Severity
from schemas.roles import SHARED

# Ports by which one machine commands another.
_ADMIN = {
    22: "SSH", 23: "Telnet", 135: "RPC", 139: "SMB", 445: "SMB", 2375: "Docker", 2376: "Docker", 3389: "RDP",
    5900: "VNC", 5985: "WinRM", 5986: "WinRM", 10250: "kubelet",
}  # fmt: skip
_DOMAIN = (88, 389)  # Kerberos and LDAP: who answers these is a domain's server, to which everybody speaks
_FOLLOWED = np.zeros(1 << 16, np.bool_)
_FOLLOWED[[*_ADMIN, *_DOMAIN]] = True
_IS_ADMIN = np.zeros(1 << 16, np.bool_)
_IS_ADMIN[list(_ADMIN)] = True
_SMB = np.zeros(1 << 16, np.bool_)
_SMB[[139, 445]] = True
_TOGETHER = 60  # s within which RPC and SMB to one machine are one act
_BESIDE = 10  # s between a program's being written and its being started, either way
_ONE_SIDED = 10  # a file that is written is answered with less than its tenth
_HOSTS = 64  # hosts remembered per source and port
_SEVERITY: dict[str, Severity] = {
    "chain": "high", "fan_out": "medium", "remote_program": "medium", "remote_execution": "medium", "new_edge": "low",
}  # fmt: skip
_CONFIDENCE: dict[Severity, float] = {"high": 0.8, "medium": 0.6, "low": 0.3}


class _Edge(NamedTuple):
    """One admin connection that carried payload both ways."""

    node: int
    name: str  # of the node
    tick: int
    src: Address
    dst: Address
    port: int
    written: bool  # a file was written by it


@dataclass
class _Touched(Entry):
    """A host that somebody began to administer lately: by whom."""

    by: list[int] = field(default_factory=list)
    port: int = 0


@dataclass
class _Hosts(Entry):
    """Hosts that a source has on one admin port: the last new ones as [high, low, tick], and how many in all."""

    fresh: list[list[int]] = field(default_factory=list)
    known: int = 0


@dataclass
class _Together(Entry):
    """Ticks of the last RPC and SMB connection of a pair, and of the last file written."""

    rpc: int = 0
    smb: int = 0
    written: int = 0


class LateralMovementConfig(DetectorConfig):
    """Limits of ``lateral_movement``."""

    learning: Annotated[int, Field(ge=1)] = Field(
        86_400, description="s that a node is watched before an unseen connection is called new; one day of habits"
    )
    memory: Annotated[int, Field(ge=60)] = Field(
        1_209_600, description="s that a connection is remembered after it was last seen; covers weekly jobs"
    )
    chain: Annotated[int, Field(ge=1)] = Field(
        600, description="s within which a machine that was connected to may not begin to connect onwards"
    )
    fan_out: Annotated[int, Field(ge=1)] = Field(
        4, description="new hosts on one admin port within the same time (count); more than the source had before, too"
    )
    program: Annotated[int, Field(ge=1)] = Field(
        40_000,
        description="bytes of payload written by SMB in a second; services for remote commands have 50 kB and more",
    )
    namespaces: tuple[str, ...] = Field(
        ("kube-system",), description="namespaces whose pods administer nodes by profession"
    )


class LateralMovement(ClaimDetector):
    """Fires per source and sign. What is new is told from what a node's machines did before, by workload where known.

    Only connections that carried payload both ways count, between private addresses.
    """

    meta = Meta(
        id="lateral_movement",
        title="Lateral movement",
        stage=1,
        severity="high",
        techniques=("T1021", "T1570"),
        needs=Capability.PORTS | Capability.PAYLOAD | Capability.REVERSE,
        blind="lateral movement is not seen: the source does not report payload bytes both ways",
        response="quarantine_pod",
    )
    Config: ClassVar[type[DetectorConfig]] = LateralMovementConfig
    config: LateralMovementConfig

    def __init__(self, config: DetectorConfig | None = None) -> None:
        super().__init__(config)
        own = self.config
        self._watched = self.ledger("watched", Entry, 8, own.memory)
        self._edges = self.ledger("edges", Entry, 8192, own.memory)
        self._hosts = self.ledger("hosts", _Hosts, 2048, own.memory)
        self._touched = self.ledger("touched", _Touched, 2048, own.chain)
        self._pairs = self.ledger("pairs", _Together, 1024, _TOGETHER)
        self._domain = self.ledger("domain", Entry, 256, own.memory)
        self._installers = self.ledger("installers", Entry, 1024, own.memory)

    def observe(self, frames: RoundFrames) -> None:
        """Take in conversations with admin ports."""
        flows = frames.flow
        if flows is None:
            return
        for node, tick in flows.heard():
            self._watched.touch(node, (0,), tick)
        sent, answered = flows.numbers("src_payload"), flows.numbers("dst_payload")
        written = (sent >= self.config.program) & (answered > 0) & (answered <= sent // _ONE_SIDED)
        written &= _SMB[flows.dst_port]
        talked = (flows.marked(FlowMark.EXCHANGED) | written) & flows.own & _FOLLOWED[flows.dst_port]
        rows = positions(talked)
        if not len(rows):
            return
        rows = rows[flows.is_private(rows)]
        columns = (*flows.ends(rows), flows.dst_port[rows], flows.proto[rows], written[rows])
        nodes = flows.node_of(rows)
        first = self.first_of(columns, nodes)
        given = (nodes[first], flows.tick_of(rows[first]), *(column[first] for column in columns))
        for node, tick, a, b, c, d, port, proto, wrote in zip(*(x.tolist() for x in given), strict=True):
            if port in _DOMAIN:
                self._domain.touch(node, (c, d), tick)
            elif proto == TCP:
                self._noted.append(_Edge(node, frames.names[node], tick, (a, b), (c, d), port, wrote))

    def judge(self, view: TickView, noted: _Edge) -> list[Finding]:
        """Learn one connection, and return what it is a sign of."""
        edge = noted
        source, target = (view.endpoint(address_text(end), edge.tick) for end in (edge.src, edge.dst))
        if SHARED.intersection(source.roles) or "monitoring_scraper" in source.roles:
            return []
        if source.namespace in self.config.namespaces:
            return []
        who = _actor(source, edge.src)
        key = (*who, *_actor(target, edge.dst), edge.port)
        new = self._edges.get(edge.node, key, edge.tick) is None
        self._edges.touch(edge.node, key, edge.tick)
        said = self._signs(edge, who, new, self._since(view, edge, source))
        if new and not SHARED.intersection(target.roles):
            touched = self._touched.touch(edge.node, edge.dst, edge.tick)
            touched.by, touched.port = list(edge.src), edge.port
        if not said:
            return []
        return [self._finding(view, edge, source, target, said)]

    def _since(self, view: TickView, edge: _Edge, source: Endpoint) -> int:
        """Return for how long the source's habits could be seen on this node, s.

        A workload that comes here from another node brings habits that are not known here.
        """
        watched = self._watched.get(edge.node, (0,), edge.tick)
        begun = watched.since if watched is not None else edge.tick
        return edge.tick - max(begun, arrived(view, source, self.config.learning) or 0)

    def _signs(self, edge: _Edge, who: Key, new: bool, since: int) -> dict[str, Evidence]:
        """Return the signs that this connection completes, the gravest first."""
        signs: dict[str, Evidence] = {}
        config = self.config
        touched = self._touched.get(edge.node, edge.src, edge.tick)
        fresh, known = self._fresh(edge, who, new)
        if new and touched is not None and touched.by != list(edge.dst):
            signs["chain"] = Evidence(name="hops", value=2, limit=1, unit="new admin connections", window=config.chain)
        if new and fresh > max(config.fan_out, known):
            signs["fan_out"] = Evidence(name="new_hosts", value=fresh, limit=max(config.fan_out, known), unit="hosts",
                                        window=config.chain)  # fmt: skip
        executes, installs = self._executes(edge), self._installs(edge, who)
        if installs:
            signs["remote_program"] = Evidence(name="program", value=config.program, limit=config.program,
                                               unit="bytes written by SMB beside RPC", window=_BESIDE)  # fmt: skip
        if executes and (new or since <= config.learning):
            signs["remote_execution"] = Evidence(name="admin_services", value=2, limit=1, unit="RPC and SMB together",
                                                 window=_TOGETHER)  # fmt: skip
        if new and since > config.learning:
            signs["new_edge"] = Evidence(name="watched", value=since, limit=config.learning, unit="s without it")
        elif installs:
            # The only sign that does not rest on what is usual here.
            return {"remote_program": signs["remote_program"]}
        elif signs:
            # Nobody knows yet what is usual here.
            signs["watched"] = Evidence(name="watched", value=since, unit="s, too few to know what is usual")
        return signs

    def _fresh(self, edge: _Edge, who: Key, new: bool) -> tuple[int, int]:
        """Return how many new hosts the source has on this port lately, and how many it had before."""
        hosts = self._hosts.touch(edge.node, (*who, edge.port), edge.tick)
        recent = [h for h in hosts.fresh if h[2] > edge.tick - self.config.chain]
        hosts.known += len(hosts.fresh) - len(recent)
        if new and list(edge.dst) not in [h[:2] for h in recent] and len(recent) < _HOSTS:
            recent.append([*edge.dst, edge.tick])
        hosts.fresh = recent
        return len(recent), hosts.known

    def _executes(self, edge: _Edge) -> bool:
        """Tell whether the pair spoke RPC and SMB lately, and the target is no domain's server."""
        if edge.port not in (135, 139, 445):
            return False
        pair = self._pairs.touch(edge.node, (*edge.src, *edge.dst), edge.tick)
        if edge.port == 135:
            pair.rpc = edge.tick
        else:
            pair.smb = edge.tick
            pair.written = edge.tick if edge.written else pair.written
        near = min(pair.rpc, pair.smb) > edge.tick - _TOGETHER
        return near and self._domain.get(edge.node, edge.dst, edge.tick) is None

    def _installs(self, edge: _Edge, who: Key) -> bool:
        """Tell whether a program was written beside RPC, by somebody who has not done so for longer than the learning.

        To a domain's server too: its members write it no files, and fetch policies from it.
        """
        pair = self._pairs.get(edge.node, (*edge.src, *edge.dst), edge.tick)
        if pair is None or min(pair.rpc, pair.written) <= edge.tick - _BESIDE:
            return False
        return edge.tick - self._installers.touch(edge.node, who, edge.tick).since <= self.config.learning

    def _finding(self, view: TickView, edge: _Edge, source: Endpoint, target: Endpoint,
                 signs: dict[str, Evidence]) -> Finding:  # fmt: skip
        sign = next(iter(signs))
        severity: Severity = "low" if "watched" in signs else _SEVERITY[sign]
        touched = self._touched.get(edge.node, edge.src, edge.tick) if sign == "chain" else None
        before = () if touched is None else (view.endpoint(address_text(touched.by), edge.tick),)
        service = f"{_ADMIN[edge.port]} (port {edge.port})"
        what = {
            "chain": f"began to use {service} of {target.ip} within {self.config.chain} s of being reached itself by "
                     f"{before[0].ip if before else ''}",
            "fan_out": f"began to use {service} of {signs[sign].value:.0f} hosts within {self.config.chain} s, limit "
                       f"{signs[sign].limit or 0:.0f}",
            "remote_program": f"wrote a file to {target.ip} and spoke RPC to it within {_BESIDE} s, as tools do that "
                              "run commands elsewhere",
            "remote_execution": f"speaks RPC and SMB to {target.ip}, which serves no domain, within {_TOGETHER} s",
            "new_edge": f"uses {service} of {target.ip}, which it did not in {signs[sign].value:.0f} s before",
        }[sign]  # fmt: skip
        reached = (target.model_copy(update={"port": edge.port, "protocol": "TCP"}),)
        return Finding(
            detector=self.meta.id, kind=self.meta.id, title=self.meta.title, severity=severity,
            confidence=_CONFIDENCE[severity], tick=edge.tick, started=edge.tick if touched is None else touched.since,
            node=edge.name, subject=f"{source.ip}@{edge.name}/{sign}", attackers=(source, *before),
            victims=(*reached, source) if before else reached,
            techniques=self.meta.techniques, evidence=tuple(signs.values()), summary=f"{source.ip} {what}",
            # Payload went both ways, so the address was truly the sender's.
            spoofable=False, data_quality=view.quality[edge.name],
            response=self.meta.response if severity != "low" else None, quiet=600,
        )  # fmt: skip


def _actor(endpoint: Endpoint, address: Address) -> Key:
    """Return what stands for a machine: its workload where one is known, so that replicas share what they learned."""
    if endpoint.workload and endpoint.namespace:
        return hash_text(f"{endpoint.namespace}/{endpoint.workload}"), 0
    return address
