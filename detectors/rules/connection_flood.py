"""Connection flood: far more new connections to one victim than it usually gets, or than it can answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from detectors.base import Detector, DetectorConfig, KeyView, Meta, TickView, confidence
from detectors.entered import Entered, entered
from detectors.features import Feature, Sum
from detectors.habit import HOUR, habit
from detectors.index import positions
from detectors.statement import count
from schemas.events import Capability
from schemas.finding import MAX_ENDPOINTS, Evidence, Finding, Severity

_HTTP_PORTS = (80, 443, 8000, 8080, 8443)


class ConnectionFloodConfig(DetectorConfig):
    """Limits of ``connection_flood``."""

    connections: Annotated[int, Field(ge=1)] = Field(
        1000, description="new TCP or QUIC connections to one victim within the window (count)"
    )
    window: Annotated[int, Field(ge=12)] = Field(60, description="s")
    usual_factor: Annotated[float, Field(gt=1)] = Field(
        4.0, description="times the victim's own hourly mean; a service that is always busy is not flooded"
    )
    history: Annotated[int, Field(ge=60)] = Field(
        600, description="s for which a victim must be known before its own mean is believed"
    )
    failed_share: Annotated[float, Field(gt=0, le=1)] = Field(
        0.5, description="refused and unanswered share from which the victim's history does not excuse it"
    )
    port_share: Annotated[float, Field(gt=0, le=1)] = Field(
        0.3, description="share of attempts on the busiest ports; a scan spreads over many and is not a flood"
    )


class ConnectionFlood(Detector):
    """Fires per victim, summed over nodes and sources.

    Above the absolute limit and either above a multiple of the victim's own mean of the last hour, or mostly
    failing. Without history the limit alone decides, at medium severity.
    """

    meta = Meta(
        id="connection_flood",
        title="Connection flood",
        stage=2,
        severity="high",
        techniques=("T1498", "T1499"),
        needs=Capability.PORTS,
        blind="connection floods are not seen: the source does not report new connections",
        response="block_ingress_source",
    )
    Config: ClassVar[type[DetectorConfig]] = ConnectionFloodConfig
    config: ConnectionFloodConfig

    def features(self) -> Sequence[Feature]:
        """Attempts now and over the last hour, and how they ended."""
        window = self.config.window
        self._rate = Feature("connection_rate", "victim", window, Sum("attempts"), "connections")
        self._usual = Feature("connection_rate", "victim", HOUR, Sum("attempts"), "connections")
        self._failed = [Feature(m, "victim", window, Sum(m), "connections") for m in ("refused", "unanswered")]
        self._established = Feature("established", "victim", window, Sum("established"), "connections")
        self._port = Feature("top_port_attempts", "victim", window, Sum("top_port_attempts"), "connections")
        return self._rate, self._usual, *self._failed, self._established, self._port

    def evaluate(self, view: TickView) -> list[Finding]:
        """Return one finding per flooded victim."""
        keys = view.space("victim")
        if keys is None:
            return []
        config = self.config
        rate = keys.value(self._rate)
        above = (rate > config.connections) & keys.can_see(self.meta.needs)
        if not above.any():  # what else there is to read is far apart in memory
            return []
        above &= keys.value(self._port) > config.port_share * rate
        if not above.any():
            return []
        before = habit(keys, self._rate, self._usual)
        known, usual = before.known, before.usual
        failed = np.asarray(sum(keys.value(f) for f in self._failed)) / np.maximum(rate, 1)
        excused = (known >= config.history) & (rate <= config.usual_factor * usual) & (failed < config.failed_share)
        rows = positions(above & ~excused)
        return [self._finding(view, keys, int(r), float(usual[r]), float(failed[r]), int(known[r])) for r in rows]

    def _finding(self, view: TickView, keys: KeyView, row: int, usual: float, failed: float, known: int) -> Finding:
        config = self.config
        tick, rate = int(keys.ticks[row]), int(keys.value(self._rate)[row])
        established = int(keys.value(self._established)[row])
        ip, port = keys.address("dst", row), int(keys.extra["top_port"][row])
        sure = known >= config.history or failed >= config.failed_share
        severity: Severity = self.meta.severity if sure else "medium"
        sources = view.top_sources(bytes(keys.column("dst")[row]))
        false = 2 * established < rate
        by = Entered()
        if false:
            unproven = [src for src, _, completed in sources if not completed]
            by = entered(view, bytes(keys.column("dst")[row]), tick, config.window, rate - established, unproven)
        # Who completed handshakes is there beside them.
        real = {src for src, _, completed in sources if completed} if by.proven else set()
        habit = f"usually {count(usual)}" if known >= config.history else "its usual rate is not known yet"
        evidence = [
            Evidence(
                name="connection_rate", value=rate, limit=config.connections, unit="connections", window=config.window
            ),
            Evidence(name="failed_share", value=round(failed, 3), limit=None, unit="", window=config.window),
        ]
        if known >= config.history:
            evidence.append(
                Evidence(name="usual_rate", value=round(usual, 1), unit="connections", window=config.window)
            )
        evidence += by.evidence
        named = [view.endpoint(src, tick) for src, _, _ in sources[:MAX_ENDPOINTS]]
        return Finding(
            detector=self.meta.id, kind="http_flood" if port in _HTTP_PORTS else self.meta.id, title=self.meta.title,
            severity=severity, confidence=confidence(rate, config.connections), tick=tick,
            started=max(int(keys.since()[row]), tick - config.window), node="", subject=ip,
            attackers=(*by.attackers(named), *(end for end in named if end.ip in real))[:MAX_ENDPOINTS],
            victims=(view.endpoint(ip, tick, port=port, protocol="TCP"),), techniques=self.meta.techniques,
            evidence=tuple(evidence),
            summary=f"{count(rate)} new connections to {ip} within {config.window} s, "
                    f"limit {count(config.connections)}, "
                    f"{habit}, {failed:.0%} failed; mostly to port {port}{by.words}",
            # Completed handshakes cannot be made under a false address, and by a pod's interface comes that pod alone.
            spoofable=false and not by.proven, data_quality=view.quality[""], response=self.meta.response, quiet=60,
        )  # fmt: skip
