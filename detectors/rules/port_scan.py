"""Vertical port scan: one source tries many ports of one host."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from detectors.base import Detector, DetectorConfig, KeyView, Mask, Meta, TickView, confidence
from detectors.features import Distinct, Feature, Sum
from detectors.frame import scoped
from detectors.grouping import Grouping
from detectors.index import I64, positions
from detectors.mixing import hash_addresses
from detectors.statement import attacker, by_source, count, victims
from schemas.events import Capability
from schemas.finding import Evidence, Finding


class PortScanConfig(DetectorConfig):
    """Limits of ``port_scan``."""

    ports: Annotated[int, Field(ge=1)] = Field(
        10, description="distinct ports of one host that one source may try (count); conversations do not count"
    )
    window: Annotated[int, Field(ge=12)] = Field(300, description="s; spans the pauses of all nmap timings but -T0")
    crowd: Annotated[int, Field(ge=2)] = Field(
        50, description="sources of one victim in one tick (count) from which each may be a spoofed one"
    )
    crowd_factor: Annotated[int, Field(ge=2)] = Field(
        10, description="ports a source must try, as a multiple of the crowd's mean, to stand out of it"
    )


class PortScan(Detector):
    """Fires for a source above the limit; all its victims of a tick are one finding.

    A port counts at its first packet, whatever its flags. It stops counting once the source has exchanged
    payload with it. Spoofed sources of a flood hit random ports too: within a crowd only a source that
    tries many times more ports than the others counts.
    """

    meta = Meta(
        id="port_scan",
        title="Port scan",
        stage=1,
        severity="medium",
        techniques=("T1046",),
        needs=Capability.PORTS | Capability.ATTEMPTS,
        blind="port scans are not seen: the source does not report unanswered attempts with ports",
        response="quarantine_pod",
    )
    Config: ClassVar[type[DetectorConfig]] = PortScanConfig
    config: PortScanConfig

    def features(self) -> Sequence[Feature]:
        """Ports tried, and of what sort the tries were."""
        window = self.config.window
        self._ports = Feature("unique_ports_scanned", "pair", window, Distinct("port", "probes", "conversed"), "ports")
        self._probes = Feature("probes", "pair", window, Sum("probes"), "flows")
        self._udp = Feature("udp_probes", "pair", window, Sum("udp_probes"), "flows")
        self._odd = Feature("odd_probes", "pair", window, Sum("odd_probes"), "flows")
        self._established = Feature("established", "pair", window, Sum("established"), "flows")
        return self._ports, self._probes, self._udp, self._odd, self._established

    def evaluate(self, view: TickView) -> list[Finding]:
        """Return one finding per scanning source."""
        keys = view.space("pair")
        if keys is None:
            return []
        ports = keys.value(self._ports)
        above = (ports > self.config.ports) & keys.can_see(self.meta.needs)
        if not above.any():
            return []
        rows = positions(above)
        rows = rows[self._stands_out(keys, ports)[rows]]
        return [self._finding(view, keys, group, ports) for group in by_source(keys, rows, ports)]

    def _stands_out(self, keys: KeyView, ports: I64) -> Mask:
        """Tell per key whether it is more than one of a crowd towards the same victim."""
        number = Grouping.equal(scoped(keys.node_numbers, hash_addresses(keys.column("dst")))).number
        crowd = np.bincount(number)
        mean = np.bincount(number, weights=ports) / crowd
        return (crowd[number] < self.config.crowd) | (ports > self.config.crowd_factor * mean[number])

    def _finding(self, view: TickView, keys: KeyView, rows: list[int], ports: I64) -> Finding:
        top = rows[0]
        tick, node, most = int(keys.ticks[top]), keys.node(top), int(ports[top])
        probes, udp, odd, established = (
            int(keys.value(f)[rows].sum()) for f in (self._probes, self._udp, self._odd, self._established)
        )
        source, own = attacker(view, keys, top)
        sort = "UDP " if 2 * udp > probes else "unusual TCP " if 2 * odd > probes else ""
        hosts = "" if len(rows) == 1 else f" and {len(rows) - 1} more hosts"
        return Finding(
            detector=self.meta.id, kind="udp_scan" if 2 * udp > probes else "port_scan_vertical",
            title=self.meta.title, severity=self.meta.severity, confidence=confidence(most, self.config.ports),
            tick=tick, started=max(int(keys.since()[rows].min()), tick - self.config.window), node=node,
            subject=f"{source.ip}@{node}", attackers=(source,), victims=victims(view, keys, rows),
            techniques=self.meta.techniques,
            evidence=(
                Evidence(name="unique_ports_scanned", value=most, limit=self.config.ports, unit="ports",
                         window=self.config.window),
                Evidence(name="probes", value=probes, unit="flows", window=self.config.window),
                Evidence(name="hosts", value=len(rows), unit="hosts", window=self.config.window),
            ),
            summary=f"{sort}probes of {count(most)} ports of {keys.address('dst', top)}{hosts} "
                    f"within {self.config.window} s, limit {self.config.ports}",
            # A handshake that completed, or the pod's own interface, ties the packets to their sender.
            spoofable=not own and established == 0,
            data_quality=view.quality[node], response=self.meta.response, quiet=60,
        )  # fmt: skip
