"""Unauthorised access: what policy denied again and again, and strangers at services labelled sensitive."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, NamedTuple

import numpy as np
from pydantic import Field

from detectors.base import DetectorConfig, Meta, TickView, confidence
from detectors.claim_detector import Address, ClaimDetector, address_text
from detectors.flow_destinations import bound_for
from detectors.flow_rows import FlowRows
from detectors.frame import SCTP, TCP, UDP
from detectors.grouping import Grouping
from detectors.hashing import combine
from detectors.index import I64
from detectors.ledger import Entry, Key
from detectors.mixing import hash_text
from detectors.recent_sums import add_recent
from detectors.round_frames import RoundFrames
from detectors.statement import PROTOCOLS
from schemas.events import Capability, FlowMark, Verdict
from schemas.finding import Endpoint, Evidence, Finding, Severity
from schemas.inventory import InventoryObject

_SERVICES = 64  # different services that one source was denied, remembered
_PAIRS = 1024  # of one node's tick


class _Try(NamedTuple):
    """One source at one service in one tick."""

    source: Address
    target: Address
    proto: int
    port: int
    denied: int  # flows that policy denied; 0: it was established


@dataclass
class _Denied(Entry):
    """One source: ``[bucket, denied flows]`` of the window, and the services lately asked, the latest last."""

    buckets: list[list[int]] = field(default_factory=list)
    services: list[list[int]] = field(default_factory=list)  # [tick, high, low, protocol, port]


@dataclass
class _Visit(Entry):
    """One visitor of one sensitive workload: when it was last told, s since epoch; 0: it belongs there."""

    told: int = 0


class UnauthorisedAccessConfig(DetectorConfig):
    """Limits of ``unauthorised_access``."""

    denied: Annotated[int, Field(ge=1)] = Field(
        10, description="flows of one source that policy denied within the window (count)"
    )
    services: Annotated[int, Field(ge=1, le=_SERVICES)] = Field(
        3, description="different services denied to it above which somebody tries doors; a client that was cut off "
                       "retries one"
    )  # fmt: skip
    window: Annotated[int, Field(ge=12)] = Field(300, description="s")
    label: Annotated[str, Field(min_length=1, max_length=317)] = Field(
        "sluicegate.io/sensitive", description="label of pods whose services only their own namespace may use"
    )
    learning: Annotated[int, Field(ge=0)] = Field(
        86_400, description="s after a sensitive workload was first used in which neighbours are learned as its users"
    )
    again: Annotated[int, Field(ge=3600)] = Field(86_400, description="s after which a stranger is told again")
    memory: Annotated[int, Field(ge=86_400)] = Field(
        30 * 86_400, description="s for which users are remembered; a monthly job comes back within"
    )


class UnauthorisedAccess(ClaimDetector):
    """Fires per source that policy denies, and per stranger at a sensitive workload.

    A stranger is a workload of another namespace, an address that nobody knows, or, once a workload's users are
    learned, a neighbour that never used it. Nodes (probes, translated addresses) and scrapers are none.
    """

    meta = Meta(
        id="unauthorised_access",
        title="Unauthorised access",
        stage=1,
        severity="medium",
        techniques=("T1078", "T1210"),
        needs=Capability.PORTS,
        blind="unauthorised access is not seen: the source does not report ports",
        response="block_ingress_source",
    )
    Config: ClassVar[type[DetectorConfig]] = UnauthorisedAccessConfig
    config: UnauthorisedAccessConfig

    def __init__(self, config: DetectorConfig | None = None) -> None:
        super().__init__(config)
        self._denied = self.ledger("denied", _Denied, 2048, self.config.window)
        self._visits = self.ledger("visits", _Visit, 4096, self.config.memory)
        self._known = self.ledger("known", Entry, 1024, self.config.memory)
        self._rows: list[tuple[FlowRows, str, int, int, I64]] = []  # what ``evaluate`` picks the sensitive ones from

    def observe(self, frames: RoundFrames) -> None:
        """Take in what policy denied; keep what was established until the inventory is at hand."""
        rows = frames.flow
        if rows is None:
            return
        transport = (rows.proto == TCP) | (rows.proto == UDP) | (rows.proto == SCTP)
        denied = rows.own & (rows.numbers("verdict") == Verdict.DENIED) & transport
        for node, tick, at in rows.ticks(denied):
            tries = self._tries(rows, node, at, True)
            self._noted += [(frames.names[node], node, tick, each) for each in tries]
        if frames.identities.labelled(self.config.label):
            for node, tick, at in rows.ticks(rows.own & rows.marked(FlowMark.ESTABLISHED) & transport & ~denied):
                self._rows.append((rows, frames.names[node], node, tick, at))

    def _tries(self, rows: FlowRows, node: int, at: I64, denied: bool) -> list[_Try]:
        ends = rows.ends(at)
        service = rows.proto[at].astype(np.uint64) << np.uint64(16) | rows.dst_port[at].astype(np.uint64)
        groups = Grouping.equal(combine(combine(combine(ends[0], ends[1]), combine(ends[2], ends[3])), service))
        self.skip(node, len(groups) - _PAIRS)
        first, count = groups.first[:_PAIRS], groups.sizes()[:_PAIRS] * denied
        columns = [*(e[first].tolist() for e in ends), service[first].tolist(), count.tolist()]
        return [_Try((a, b), (c, d), s >> 16, s & 0xFFFF, n) for a, b, c, d, s, n in zip(*columns, strict=True)]

    def evaluate(self, view: TickView) -> list[Finding]:
        """Return findings for what was denied, and for strangers at what the inventory labels."""
        kept, self._rows = self._rows, []
        sensitive = view.identities.labelled(self.config.label)
        for rows, name, node, tick, at in kept if sensitive else ():
            chosen = bound_for(rows, at, sensitive)
            if len(chosen):
                self._noted += [(name, node, tick, each) for each in self._tries(rows, node, chosen, False)]
        return super().evaluate(view)

    def judge(self, view: TickView, noted: Any) -> list[Finding]:
        """Return the finding about one source at one service, if any."""
        name, node, tick, each = noted
        return self._judge_denied(view, name, node, tick, each) if each.denied else (
            self._judge_visit(view, name, node, tick, each))  # fmt: skip

    def _judge_denied(self, view: TickView, name: str, node: int, tick: int, each: _Try) -> list[Finding]:
        config = self.config
        entry = self._denied.touch(node, each.source, tick)
        (denied,) = add_recent(entry.buckets, tick, config.window, (each.denied,))
        service = [*each.target, each.proto, each.port]
        recent = [s for s in entry.services if s[1:] != service and s[0] > tick - config.window]
        entry.services = [*recent, [tick, *service]][-_SERVICES:]
        if denied <= config.denied:
            return []
        doors = len(entry.services)
        severity: Severity = "medium" if doors > config.services else "low"
        source = address_text(each.source)
        targets = tuple(
            view.endpoint(address_text(s[1:3]), tick, port=s[4], protocol=PROTOCOLS[s[3]])
            for s in reversed(entry.services[-20:])
        )
        return [self._finding(
            view, name, tick, max(entry.since, tick - config.window), severity, confidence(denied, config.denied),
            f"{source}@{name}/denied", source, targets,
            (
                Evidence(name="denied_flows", value=denied, limit=config.denied, unit="flows", window=config.window),
                Evidence(name="denied_services", value=doors, limit=config.services, unit="services",
                         window=config.window),
            ),
            f"policy denied {denied} flows of {source} within {config.window} s, limit {config.denied}, to {doors} "
            f"different services, limit {config.services}",
            spoofable=True,
        )]  # fmt: skip

    def _judge_visit(self, view: TickView, name: str, node: int, tick: int, each: _Try) -> list[Finding]:
        config = self.config
        target = view.identities.find(address_text(each.target), tick)
        if target is None or target.labels.get(config.label, "false") == "false":
            return []
        source = address_text(each.source)
        visitor = view.endpoint(source, tick)
        if {"monitoring_scraper", "shared", "vulnerability_scanner"} & set(visitor.roles):
            return []
        owner = hash_text(f"{target.namespace}/{target.workload or target.name}")
        known = self._known.touch(node, (owner,), tick)
        who = hash_text(f"{visitor.namespace}/{visitor.workload}") if visitor.workload else hash_text(source)
        neighbour = visitor.identity == "known" and visitor.namespace == target.namespace
        if not self._is_stranger(node, tick, (owner, who), neighbour, tick - known.since >= config.learning):
            return []
        place = f"namespace {visitor.namespace}" if visitor.identity == "known" else "an address that nobody knows"
        return [self._finding(
            view, name, tick, tick, "medium", 0.6, f"{source}@{name}/{_name(target)}", source,
            (view.endpoint(address_text(each.target), tick, port=each.port, protocol=PROTOCOLS[each.proto]),),
            (Evidence(name="strangers", value=1, limit=0, unit="at a sensitive workload"),),
            f"{source} ({place}) opened a connection to {_name(target)} port {each.port}, which is labelled "
            f"{config.label}, and is {'a neighbour that never used it' if neighbour else 'none of its namespace'}",
            spoofable=False,
        )]  # fmt: skip

    def _is_stranger(self, node: int, tick: int, key: Key, neighbour: bool, learned: bool) -> bool:
        visit = self._visits.get(node, key, tick)
        if neighbour and (not learned or (visit is not None and visit.told == 0)):
            self._visits.touch(node, key, tick)
            return False
        if visit is not None and visit.told and tick - visit.told < self.config.again:
            return False
        self._visits.touch(node, key, tick).told = tick
        return True

    def _finding(self, view: TickView, node: str, tick: int, started: int, severity: Severity, sure: float,
                 subject: str, source: str, victims: tuple[Endpoint, ...], evidence: tuple[Evidence, ...],
                 summary: str, spoofable: bool) -> Finding:  # fmt: skip
        return Finding(
            detector=self.meta.id, kind=self.meta.id, title=self.meta.title, severity=severity, confidence=sure,
            tick=tick, started=started, node=node, subject=subject, attackers=(view.endpoint(source, tick),),
            victims=victims, techniques=self.meta.techniques, evidence=evidence, summary=summary, spoofable=spoofable,
            data_quality=view.quality[node], response=self.meta.response, quiet=300,
        )  # fmt: skip


def _name(item: InventoryObject) -> str:
    return f"{item.namespace}/{item.workload or item.name}"
