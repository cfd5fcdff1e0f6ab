"""Horizontal sweep: one source tries one service on many hosts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from detectors.base import Detector, DetectorConfig, KeyView, Meta, TickView, confidence
from detectors.features import Distinct, Feature, Sum
from detectors.frame import ICMP, ICMPV6, UDP
from detectors.index import I64, positions
from detectors.statement import PROTOCOLS, attacker, by_source, count, victims
from schemas.events import Capability
from schemas.finding import Evidence, Finding


class HostSweepConfig(DetectorConfig):
    """Limits of ``host_sweep``."""

    tcp_hosts: Annotated[int, Field(ge=1)] = Field(
        20, description="hosts that one source may try on one TCP port without a conversation (count)"
    )
    udp_hosts: Annotated[int, Field(ge=1)] = Field(
        25, description="the same for UDP (count); higher, as peer discovery leaves many packets unanswered"
    )
    icmp_hosts: Annotated[int, Field(ge=1)] = Field(
        12, description="hosts that one source may ping (count); answered pings count too"
    )
    window: Annotated[int, Field(ge=12)] = Field(300, description="s")


class HostSweep(Detector):
    """Fires for a source above a protocol's limit; all services it sweeps in a tick are one finding."""

    meta = Meta(
        id="host_sweep",
        title="Host sweep",
        stage=1,
        severity="medium",
        techniques=("T1018", "T1046"),
        needs=Capability.PORTS | Capability.ATTEMPTS,
        blind="sweeps are not seen: the source does not report unanswered attempts",
        response="quarantine_pod",
    )
    Config: ClassVar[type[DetectorConfig]] = HostSweepConfig
    config: HostSweepConfig

    def features(self) -> Sequence[Feature]:
        """Hosts tried per service."""
        window = self.config.window
        self._hosts = Feature(
            "unique_hosts_contacted", "sweep", window, Distinct("host", "probes", "conversed"), "hosts"
        )
        self._probes = Feature("probes", "sweep", window, Sum("probes"), "flows")
        self._established = Feature("established", "sweep", window, Sum("established"), "flows")
        return self._hosts, self._probes, self._established

    def evaluate(self, view: TickView) -> list[Finding]:
        """Return one finding per sweeping source."""
        keys = view.space("sweep")
        if keys is None:
            return []
        hosts = keys.value(self._hosts)
        limits = self._limits(keys.column("proto"))
        rows = positions((hosts > limits) & keys.can_see(self.meta.needs))
        return [self._finding(view, keys, group, hosts, limits) for group in by_source(keys, rows, hosts)]

    def _limits(self, proto: I64) -> I64:
        config = self.config
        echo = (proto == ICMP) | (proto == ICMPV6)
        return np.where(echo, config.icmp_hosts, np.where(proto == UDP, config.udp_hosts, config.tcp_hosts))

    def _finding(self, view: TickView, keys: KeyView, rows: list[int], hosts: I64,
                 limits: I64) -> Finding:  # fmt: skip
        top = rows[0]
        tick, node, most, limit = int(keys.ticks[top]), keys.node(top), int(hosts[top]), int(limits[top])
        proto, port = int(keys.column("proto")[top]), int(keys.column("port")[top])
        name = PROTOCOLS[proto]
        source, own = attacker(view, keys, top)
        established = int(keys.value(self._established)[rows].sum())
        kind = {"ICMP": "icmp_sweep", "UDP": "udp_scan"}.get(name, "port_scan_horizontal")
        service = "by ICMP" if name == "ICMP" else f"on {name} port {port}"
        more = "" if len(rows) == 1 else f" (and {len(rows) - 1} more services)"
        return Finding(
            detector=self.meta.id, kind=kind, title=self.meta.title, severity=self.meta.severity,
            confidence=confidence(most, limit), tick=tick,
            started=max(int(keys.since()[rows].min()), tick - self.config.window), node=node,
            subject=f"{source.ip}@{node}/{name}", attackers=(source,), victims=victims(view, keys, rows),
            techniques=self.meta.techniques,
            evidence=(
                Evidence(name="unique_hosts_contacted", value=most, limit=limit, unit="hosts",
                         window=self.config.window),
                Evidence(name="probes", value=int(keys.value(self._probes)[rows].sum()), unit="flows",
                         window=self.config.window),
                Evidence(name="services", value=len(rows), unit="services", window=self.config.window),
            ),
            summary=f"{count(most)} hosts tried {service}{more} within {self.config.window} s, limit {limit}",
            spoofable=not own and (established == 0 or name != "TCP"),
            data_quality=view.quality[node], response=self.meta.response, quiet=60,
        )  # fmt: skip
