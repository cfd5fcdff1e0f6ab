"""ICMP flood: far more echo requests towards one victim than anybody needs to know that it is there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from detectors.base import Detector, DetectorConfig, Meta, TickView
from detectors.features import Feature, Sum
from detectors.habit import HOUR, habit
from detectors.index import positions
from detectors.packet_flood import PacketFlood, flood_finding
from schemas.events import Capability
from schemas.finding import Finding


class IcmpFloodConfig(DetectorConfig):
    """Limits of ``icmp_flood``."""

    packets: Annotated[int, Field(ge=1)] = Field(
        3000, description="requests and unasked echo replies towards one victim within the window (count)"
    )
    per_sender: Annotated[int, Field(ge=1)] = Field(
        50, description="packets per sender and second; a gateway that a whole fleet probes gets about one"
    )
    packets_any: Annotated[int, Field(ge=1)] = Field(
        24_000, description="packets within the window that are too many from whomever (count)"
    )
    usual_factor: Annotated[float, Field(gt=1)] = Field(4.0, description="times the victim's own hourly mean")
    history: Annotated[int, Field(ge=60)] = Field(
        600, description="s for which a victim must be known before its own mean is believed"
    )
    window: Annotated[int, Field(ge=12)] = Field(12, description="s; short, so that a burst is seen while it lasts")


class IcmpFlood(Detector):
    """Fires per victim, summed over nodes and senders. Errors are left out: they answer what somebody else did."""

    meta = Meta(
        id="icmp_flood",
        title="ICMP flood",
        stage=2,
        severity="high",
        techniques=("T1498.001",),
        needs=Capability.PACKETS | Capability.ICMP,
        blind="ICMP floods are not seen: the source does not tell ICMP types or does not count packets",
        response=None,
    )
    Config: ClassVar[type[DetectorConfig]] = IcmpFloodConfig
    config: IcmpFloodConfig

    def features(self) -> Sequence[Feature]:
        """Packets now and over the last hour, and their senders."""
        window = self.config.window
        self._packets = Feature("icmp_packets", "victim", window, Sum("icmp_packets"), "packets")
        self._usual = Feature("icmp_packets", "victim", HOUR, Sum("icmp_packets"), "packets")
        self._senders = Feature("icmp_senders", "victim", window, Sum("icmp_senders"), "senders by second")
        return self._packets, self._usual, self._senders

    def evaluate(self, view: TickView) -> list[Finding]:
        """Return one finding per flooded victim."""
        keys = view.space("victim")
        if keys is None:
            return []
        config = self.config
        packets = keys.value(self._packets)
        above = (packets > config.packets) & keys.can_see(self.meta.needs)
        if not above.any():
            return []
        senders = keys.value(self._senders)
        few = packets >= config.per_sender * np.maximum(senders, 1)
        before = habit(keys, self._packets, self._usual)
        excused = (before.known >= config.history) & (packets <= config.usual_factor * before.usual)
        found = []
        for row in positions(above & (few | (packets > config.packets_any)) & ~excused).tolist():
            limit = config.packets if few[row] else config.packets_any
            flood = PacketFlood("ICMP packets", "icmp_packets", int(packets[row]), limit, config.window,
                                int(senders[row]), float(before.usual[row]), int(before.known[row]) >= config.history,
                                "ICMP", None)  # fmt: skip
            found.append(flood_finding(self.meta, view, keys, row, flood))
        return found
