"""DNS flood: names made up below one zone until its servers drown, or simply far too many questions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from detectors.base import Detector, DetectorConfig, KeyView, Meta, TickView, confidence
from detectors.features import Distinct, Feature, Sum
from detectors.index import I64, positions
from detectors.statement import count
from schemas.events import Capability
from schemas.finding import MAX_ENDPOINTS, Endpoint, Evidence, Finding


class DnsFloodConfig(DetectorConfig):
    """Limits of ``dns_flood``."""

    names: Annotated[int, Field(ge=1)] = Field(
        1000, description="distinct names below one zone that do not exist, asked on one node within the window (count)"
    )
    failed_share: Annotated[float, Field(gt=0, le=1)] = Field(
        0.8, description="share of the zone's questions that failed; a crawler finds most of what it asks for"
    )
    own_zones: tuple[str, ...] = Field(
        ("cluster.local",), description="zones of search paths: every name outside is asked below them first, and fails"
    )
    queries: Annotated[int, Field(ge=1)] = Field(
        15_000, description="questions of one client within the window (count): 500 a second, whatever they ask"
    )
    window: Annotated[int, Field(ge=12)] = Field(30, description="s")


class DnsFlood(Detector):
    """Fires per (node, zone) for made-up names, and per client for a mass of questions.

    A client that answers queries itself only forwards and is never the subject.
    """

    meta = Meta(
        id="dns_flood",
        title="DNS flood",
        stage=1,
        severity="high",
        techniques=("T1498.001", "T1499.002"),
        needs=Capability.DNS | Capability.DNS_ANSWERS,
        blind="DNS floods are not seen: the source does not report answers to DNS queries",
        response=None,
    )
    Config: ClassVar[type[DetectorConfig]] = DnsFloodConfig
    config: DnsFloodConfig

    def features(self) -> Sequence[Feature]:
        """Names that failed and questions, per zone; questions per client."""
        window = self.config.window
        names = Distinct("name", "failures", cap=1 << 12)
        self._names = Feature("failed_dns_names", "dns_zone", window, names, "names")
        self._failures = Feature("dns_failures", "dns_zone", window, Sum("failures"), "queries")
        self._asked = Feature("dns_queries", "dns_zone", window, Sum("queries"), "queries")
        self._queries = Feature("dns_queries", "dns_client", window, Sum("queries"), "queries")
        return self._names, self._failures, self._asked, self._queries

    def evaluate(self, view: TickView) -> list[Finding]:
        """Return one finding per flooded zone of a node and one per flooding client."""
        zones, clients = view.space("dns_zone"), view.space("dns_client")
        found = self._of_zones(view, zones) if zones is not None else []
        if clients is not None:
            queries = clients.value(self._queries)
            many = (queries > self.config.queries) & clients.can_see(self.meta.needs)
            found += [self._of_client(view, clients, row, int(queries[row])) for row in positions(many).tolist()]
        return sorted(found, key=lambda f: (f.tick, f.subject))

    def _of_zones(self, view: TickView, keys: KeyView) -> list[Finding]:
        config = self.config
        names = np.where(keys.can_see(self.meta.needs), keys.value(self._names), 0)
        nodes = keys.node_numbers
        if (np.bincount(nodes, names)[nodes] <= config.names).all():
            return []
        zone = keys.column("zone")
        own = np.isin(zone, [name.encode() for name in config.own_zones])
        failing = positions((names > 0) & ~own)
        failures, asked = keys.value(self._failures), keys.value(self._asked)
        # What one node's clients ask of one zone is looked at together; other nodes are another round's.
        parts: dict[tuple[int, bytes], list[int]] = {}
        for row in failing[np.argsort(-names[failing], kind="stable")].tolist():
            parts.setdefault((int(nodes[row]), bytes(zone[row])), []).append(row)
        found = []
        for rows in parts.values():
            at = np.array(rows)
            if names[at].sum() > config.names and failures[at].sum() >= config.failed_share * asked[at].sum():
                found.append(self._of_zone(view, keys, at, int(names[at].sum())))
        return found

    def _of_zone(self, view: TickView, keys: KeyView, rows: I64, names: int) -> Finding:
        first = int(rows[0])
        node, zone = keys.node(first), bytes(keys.column("zone")[first]).decode("ascii", "replace")
        clients = sorted({keys.address("client", int(row)) for row in rows})
        failures, asked = int(keys.value(self._failures)[rows].sum()), int(keys.value(self._asked)[rows].sum())
        evidence = (
            Evidence(name="failed_dns_names", value=names, limit=self.config.names, unit="names",
                     window=self.config.window),
            Evidence(name="dns_failures", value=failures, unit="queries", window=self.config.window),
            Evidence(name="dns_queries", value=asked, unit="queries", window=self.config.window),
        )  # fmt: skip
        summary = (f"{count(names)} distinct names below {zone!r} asked in vain within {self.config.window} s, limit "
                   f"{count(self.config.names)}, {failures / max(asked, 1):.0%} of {count(asked)} questions failed, by "
                   f"{len(clients)} clients on node {node}")  # fmt: skip
        return self._finding(
            view, keys, rows, f"{zone}@{node}", confidence(names, self.config.names), evidence, summary
        )

    def _of_client(self, view: TickView, keys: KeyView, row: int, queries: int) -> Finding:
        node, client = keys.node(row), keys.address("client", row)
        evidence = (Evidence(name="dns_queries", value=queries, limit=self.config.queries, unit="queries",
                             window=self.config.window),)  # fmt: skip
        summary = (f"{count(queries)} questions by {client} within {self.config.window} s, limit "
                   f"{count(self.config.queries)}")  # fmt: skip
        sure = confidence(queries, self.config.queries)
        return self._finding(view, keys, np.array([row]), f"{client}@{node}", sure, evidence, summary)

    def _finding(self, view: TickView, keys: KeyView, rows: I64, subject: str, sure: float,
                 evidence: tuple[Evidence, ...], summary: str) -> Finding:  # fmt: skip
        first = int(rows[0])
        tick, node = int(keys.ticks[first]), keys.node(first)
        return Finding(
            detector=self.meta.id, kind=self.meta.id, title=self.meta.title, severity=self.meta.severity,
            confidence=sure, tick=tick, started=max(int(keys.since()[rows].min()), tick - self.config.window),
            node=node, subject=subject, attackers=_ends(view, keys, rows, "client"),
            victims=_ends(view, keys, rows, "server"), techniques=self.meta.techniques, evidence=evidence,
            summary=summary,
            # A question over UDP may bear any address.
            spoofable=True, data_quality=view.quality[node], response=self.meta.response, quiet=60,
        )  # fmt: skip


def _ends(view: TickView, keys: KeyView, rows: I64, column: str) -> tuple[Endpoint, ...]:
    if column not in keys.table.space.columns:
        return ()
    addresses = list(dict.fromkeys(keys.address(column, int(row)) for row in rows))[:MAX_ENDPOINTS]
    return tuple(view.endpoint(ip, int(keys.ticks[rows[0]])) for ip in addresses)
