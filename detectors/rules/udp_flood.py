"""UDP flood: one victim gets far more packets that nobody answers than it ever had to do with."""

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


class UdpFloodConfig(DetectorConfig):
    """Limits of ``udp_flood``."""

    packets: Annotated[int, Field(ge=1)] = Field(
        12_000, description="unanswered packets towards one victim within the window, most of them new flows (count)"
    )
    packets_any: Annotated[int, Field(ge=1)] = Field(
        240_000, description="the same whatever flows they belong to (count): 20,000 a second, FastNetMon's limit"
    )
    new_share: Annotated[float, Field(gt=0, le=1)] = Field(
        0.5, description="flows first seen per packet; a log or metrics collector gets few flows of many packets"
    )
    usual_factor: Annotated[float, Field(gt=1)] = Field(
        4.0, description="times all that the victim usually gets; clients of a resolver that died are no flood"
    )
    history: Annotated[int, Field(ge=60)] = Field(
        600, description="s for which a victim must be known before its own mean is believed"
    )
    window: Annotated[int, Field(ge=12)] = Field(12, description="s; short, so that a burst is seen while it lasts")


class UdpFlood(Detector):
    """Fires per victim, summed over nodes and senders. Answers of amplifiers are ``amplification``'s."""

    meta = Meta(
        id="udp_flood",
        title="UDP flood",
        stage=2,
        severity="high",
        techniques=("T1498.001",),
        needs=Capability.PORTS | Capability.PACKETS | Capability.REVERSE,
        blind="UDP floods are not seen: the source does not count packets of both directions",
        response=None,
    )
    Config: ClassVar[type[DetectorConfig]] = UdpFloodConfig
    config: UdpFloodConfig

    def features(self) -> Sequence[Feature]:
        """Unanswered packets, their flows and senders; all that came in the last hour."""
        window = self.config.window
        self._packets = Feature("udp_packets", "victim", window, Sum("udp_packets"), "packets")
        self._flows = Feature("udp_flows", "victim", window, Sum("udp_flows"), "flows")
        self._senders = Feature("udp_senders", "victim", window, Sum("udp_senders"), "senders by second")
        self._unheard = Feature("udp_packets", "victim", HOUR, Sum("udp_packets"), "packets")
        self._asked = Feature("packets", "victim", HOUR, Sum("packets"), "packets")
        return self._packets, self._flows, self._senders, self._unheard, self._asked

    def evaluate(self, view: TickView) -> list[Finding]:
        """Return one finding per flooded victim."""
        keys = view.space("victim")
        if keys is None:
            return []
        config = self.config
        packets, flows = keys.value(self._packets), keys.value(self._flows)
        fresh = (packets > config.packets) & (flows > config.new_share * packets)
        above = (fresh | (packets > config.packets_any)) & keys.can_see(self.meta.needs)
        if not above.any():
            return []
        before = habit(keys, self._packets, self._unheard)
        # The packets of flows that were answered or given up: what is unanswered now is not among them yet, so the
        # victim's business excuses, and a flood does not excuse itself.
        usual = before.usual + keys.value(self._asked) / np.maximum(before.known, 1) * config.window
        excused = (before.known >= config.history) & (packets <= config.usual_factor * usual)
        senders = keys.value(self._senders)
        found = []
        for row in positions(above & ~excused).tolist():
            limit = config.packets if fresh[row] else config.packets_any
            flood = PacketFlood("unanswered UDP packets", "unanswered_packets", int(packets[row]), limit, config.window,
                                int(senders[row]), float(usual[row]), int(before.known[row]) >= config.history,
                                "UDP", int(keys.extra["top_port"][row]))  # fmt: skip
            found.append(flood_finding(self.meta, view, keys, row, flood))
        return found
