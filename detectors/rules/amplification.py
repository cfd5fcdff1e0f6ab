"""Amplification: answers that one victim never asked for, and our own servers made to give them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from detectors.amplifiers import service
from detectors.base import Detector, DetectorConfig, KeyView, Meta, TickView, confidence
from detectors.features import Feature, Sum
from detectors.habit import HOUR, habit
from detectors.index import positions
from detectors.statement import count
from schemas.events import Capability
from schemas.finding import MAX_ENDPOINTS, Evidence, Finding, Severity


class AmplificationConfig(DetectorConfig):
    """Limits of ``amplification``."""

    packets: Annotated[int, Field(ge=1)] = Field(
        1000, description="unasked answers towards one victim within the window (count)"
    )
    reflectors: Annotated[int, Field(ge=1)] = Field(
        30, description="distinct addresses that gave them, counted anew each second, within the window (count)"
    )
    megabytes: Annotated[int, Field(ge=1)] = Field(
        60, description="of unasked answers within the window, from however few reflectors (MB): 40 Mbit/s"
    )
    questions: Annotated[int, Field(ge=1)] = Field(
        1200, description="questions in one name within the window whose answers are ten times as large (count)"
    )
    per_server: Annotated[int, Field(ge=1)] = Field(
        50, description="of them per server and second; a resolver asks many servers a little each"
    )
    usual_factor: Annotated[float, Field(gt=1)] = Field(4.0, description="times the victim's own hourly mean")
    history: Annotated[int, Field(ge=60)] = Field(
        600, description="s for which a victim must be known before its own mean is believed"
    )
    window: Annotated[int, Field(ge=12)] = Field(12, description="s; short, so that a burst is seen while it lasts")


class Amplification(Detector):
    """Fires per victim, summed over nodes: answers reach it, or questions leave in its name."""

    meta = Meta(
        id="amplification",
        title="Reflected amplification",
        stage=2,
        severity="high",
        techniques=("T1498.002",),
        needs=Capability.PORTS | Capability.PACKETS | Capability.REVERSE,
        blind="reflected floods are not seen: the source does not count packets of both directions",
        response=None,
    )
    Config: ClassVar[type[DetectorConfig]] = AmplificationConfig
    config: AmplificationConfig

    def features(self) -> Sequence[Feature]:
        """Unasked answers, who gave them, and questions that brought large answers."""
        window = self.config.window

        def now(name: str, unit: str) -> Feature:
            return Feature(name, "victim", window, Sum(name), unit)

        self._packets, self._bytes = now("reflected_packets", "packets"), now("reflected_bytes", "IP bytes")
        self._reflectors = now("reflectors", "reflectors by second")
        self._usual = Feature("reflected_packets", "victim", HOUR, Sum("reflected_packets"), "packets")
        self._questions, self._induced = now("induced_questions", "packets"), now("induced_bytes", "IP bytes")
        self._servers = now("induced_servers", "servers by second")
        self._often = Feature("induced_questions", "victim", HOUR, Sum("induced_questions"), "packets")
        return (self._packets, self._bytes, self._reflectors, self._usual, self._questions, self._induced,
                self._servers, self._often)  # fmt: skip

    def evaluate(self, view: TickView) -> list[Finding]:
        """Return one finding per victim."""
        keys = view.space("victim")
        if keys is None:
            return []
        config = self.config
        packets, reflectors, size = (keys.value(f) for f in (self._packets, self._reflectors, self._bytes))
        many = (packets > config.packets) & (reflectors > config.reflectors)
        large = size > config.megabytes * 1_000_000
        questions, servers = keys.value(self._questions), keys.value(self._servers)
        induced = (questions > config.questions) & (questions >= config.per_server * np.maximum(servers, 1))
        above = (many | large | induced) & keys.can_see(self.meta.needs)
        if not above.any():
            return []
        answered, asked = habit(keys, self._packets, self._usual), habit(keys, self._questions, self._often)
        believed = answered.known >= config.history
        reached = (many | large) & ~(believed & (packets <= config.usual_factor * answered.usual))
        used = induced & ~(believed & (questions <= config.usual_factor * asked.usual))
        return [
            self._reached(view, keys, row) if reached[row] else self._used(view, keys, row)
            for row in positions(above & (reached | used)).tolist()
        ]

    def _reached(self, view: TickView, keys: KeyView, row: int) -> Finding:
        config, window = self.config, self.config.window
        packets, size = int(keys.value(self._packets)[row]), int(keys.value(self._bytes)[row])
        reflectors = int(keys.value(self._reflectors)[row])
        ip, name = keys.address("dst", row), service(int(keys.extra["reflector_port"][row]))
        evidence = (
            Evidence(name="unasked_answers", value=packets, limit=config.packets, unit="packets", window=window),
            Evidence(name="reflectors", value=reflectors, limit=config.reflectors, unit="reflectors by second",
                     window=window),
            Evidence(name="bytes", value=size, limit=config.megabytes * 1_000_000, unit="bytes", window=window),
        )  # fmt: skip
        summary = (f"{count(packets)} answers that {ip} did not ask for within {window} s, limit "
                   f"{count(config.packets)}, {count(size)} bytes, from about {count(-(-reflectors // window))} "
                   f"reflectors a second; mostly from {name}")  # fmt: skip
        sure = confidence(packets, config.packets)
        # Reflectors are servers of third parties, some named as examples: what to filter is their port.
        return self._finding(view, keys, row, self.meta.severity, sure, evidence, summary)

    def _used(self, view: TickView, keys: KeyView, row: int) -> Finding:
        config, window = self.config, self.config.window
        questions, size = int(keys.value(self._questions)[row]), int(keys.value(self._induced)[row])
        ip, name = keys.address("dst", row), service(int(keys.extra["reflector_port"][row]))
        evidence = (
            Evidence(name="induced_questions", value=questions, limit=config.questions, unit="packets", window=window),
            Evidence(name="servers", value=int(keys.value(self._servers)[row]), unit="servers by second",
                     window=window),
            Evidence(name="bytes", value=size, unit="bytes", window=window),
        )  # fmt: skip
        summary = (f"{count(questions)} questions in the name of {ip} within {window} s, limit "
                   f"{count(config.questions)}, brought it {count(size)} bytes of answers, each at least ten times as "
                   f"large; mostly from {name}: a server of yours may be used as a reflector")  # fmt: skip
        sure = confidence(questions, config.questions)
        return self._finding(view, keys, row, "medium", sure, evidence, summary)

    def _finding(self, view: TickView, keys: KeyView, row: int, severity: Severity, sure: float,
                 evidence: tuple[Evidence, ...], summary: str) -> Finding:  # fmt: skip
        tick, ip = int(keys.ticks[row]), keys.address("dst", row)
        port = int(keys.extra["reflector_port"][row])
        top = view.top_senders(bytes(keys.column("dst")[row]))[:MAX_ENDPOINTS]
        return Finding(
            detector=self.meta.id, kind=self.meta.id, title=self.meta.title, severity=severity, confidence=sure,
            tick=tick, started=max(int(keys.since()[row]), tick - self.config.window), node="", subject=ip,
            attackers=tuple(view.endpoint(src, tick, port=port or None) for src, _ in top),
            victims=(view.endpoint(ip, tick),), techniques=self.meta.techniques, evidence=evidence, summary=summary,
            spoofable=True, data_quality=view.quality[""], response=self.meta.response, quiet=60,
        )  # fmt: skip
