"""Beacon: one source calls one rarely called service again and again, more regularly than chance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import Field

from detectors.base import DetectorConfig, Meta, TickView, confidence
from detectors.channels import Channels, pause_regularity, regularity
from detectors.claim_detector import ClaimDetector
from detectors.frame import TCP, UDP, FlowFrame
from detectors.hashing import combine
from detectors.index import I64, positions
from detectors.minute import is_private
from detectors.round_frames import RoundFrames
from detectors.statement import PROTOCOLS, count
from schemas.addresses import unpack
from schemas.events import Capability
from schemas.finding import Endpoint, Evidence, Finding, Severity

_CHANNELS = 4096  # per node, 400 bytes each
_JUDGED = 64  # channels of one node's tick
# What calls regularly by design: DNS, DHCP, NTP, PTP, NetBIOS, IKE, SSDP, STUN, mDNS, LLMNR, NAT-PMP.
_PERIODIC = (53, 67, 68, 123, 137, 138, 319, 320, 500, 546, 547, 1900, 3478, 4500, 5351, 5353, 5355)
_QUIET_SOURCES = frozenset({"monitoring_scraper", "vulnerability_scanner", "shared", "load_balancer", "nat_gateway"})
_CALLS, _PAUSES, _FAILED = "calls", "pauses", "failed"


class BeaconConfig(DetectorConfig):
    """Limits of ``beacon``."""

    nats: Annotated[float, Field(gt=0)] = Field(
        9.0, description="how much more regular than random calls (natural log of the odds) a channel may be"
    )
    sure_nats: Annotated[float, Field(gt=0)] = Field(
        14.0, description="nats from which a channel to an unknown address is of medium severity: one in a million"
    )
    spread: Annotated[float, Field(gt=0, le=1)] = Field(
        0.75, description="deviation of gaps by their mean (random calls: 1) above which nothing counts as regular"
    )
    gaps: Annotated[int, Field(ge=3)] = Field(5, description="gaps that are too few to judge (count)")
    sure_calls: Annotated[int, Field(ge=3)] = Field(
        18, description="gaps above which a channel may be of medium severity (count); a retry loop ends before"
    )
    sure_span: Annotated[int, Field(ge=1)] = Field(60, description="s that such a channel must have lasted")
    failed: Annotated[int, Field(ge=1)] = Field(
        60, description="calls that were refused or unanswered, none answered (count); regular or not"
    )
    call_bytes: Annotated[int, Field(ge=64)] = Field(
        65_536, description="IP bytes of a call, both ways on average, above which it is a transfer and no check-in"
    )
    callers: Annotated[int, Field(ge=1)] = Field(
        3, description="sources of one service on a node (count) above which it is popular and nobody's secret"
    )
    targets: Annotated[int, Field(ge=1)] = Field(
        4, description="services that one source calls regularly (count) above which it is a prober or a scraper"
    )
    periodic_ports: tuple[Annotated[int, Field(ge=1, le=65535)], ...] = Field(
        _PERIODIC, description="ports of protocols that call regularly by design; not judged"
    )
    memory: Annotated[int, Field(ge=3600)] = Field(
        86_400, description="s that a channel is remembered after its last packet; longer than the longest interval"
    )


class Beacon(ClaimDetector):
    """Fires per (source, destination, service), each of whose calls is a connection or a burst inside one."""

    meta = Meta(
        id="beacon",
        title="Beacon",
        stage=1,
        severity="medium",
        techniques=("T1071", "T1573"),
        needs=Capability.PORTS | Capability.REVERSE,
        blind="beacons are not seen: the source does not report both directions of flows with ports",
        response="block_egress_destination",
    )
    Config: ClassVar[type[DetectorConfig]] = BeaconConfig
    config: BeaconConfig

    def __init__(self, config: DetectorConfig | None = None) -> None:
        super().__init__(config)
        self._nodes: dict[int, Channels] = {}

    def observe(self, frames: RoundFrames) -> None:
        """Take in connections that were opened, and bursts inside connections."""
        frame = frames.groups
        if frame is None:
            return
        chosen = self._candidates(frame)
        nodes = frame.node[chosen]
        for node in np.unique(nodes).tolist():
            self._tick(frame, frames.names[node], node, chosen[nodes == node])

    def _candidates(self, frame: FlowFrame) -> I64:
        """Return the groups that may be calls: what a workload of ours sends to one service."""
        private = is_private(frame.addresses)
        port = frame.service & 0xFFFF
        wanted = (
            ((frame.proto == TCP) | (frame.proto == UDP)) & ~frame.copy & ~np.isin(port, self.config.periodic_ports)
        )
        wanted &= (private[frame.src] | ~private[frame.dst]) & ~frame.to_group[frame.dst]
        needs = int(self.meta.needs)
        return positions(wanted & (frame.capabilities & needs == needs))

    def _tick(self, frame: FlowFrame, name: str, node: int, groups: I64) -> None:
        tick = int(frame.tick[groups[0]])
        channels = self._nodes.setdefault(node, Channels(_CHANNELS, self.config.memory))
        src, dst, service = frame.src[groups], frame.dst[groups], frame.service[groups].astype(np.uint64)
        keys = combine(combine(frame.hashes[src], frame.hashes[dst]), service)
        opened = frame.first_opened[groups]
        slots, new = channels.touch(keys, tick, opened >= 0)
        rows, fresh = channels.rows, slots[new]
        rows["src"][fresh], rows["dst"][fresh] = frame.addresses[src[new]], frame.addresses[dst[new]]
        rows["service"][fresh], rows["source"][fresh] = frame.service[groups[new]], frame.hashes[src[new]]
        rows["service_key"][fresh] = combine(frame.hashes[dst[new]], service[new])
        known = positions(slots >= 0)
        slots, groups, opened = slots[known], groups[known], opened[known]
        for field, measure in (
            ("calls", "opened"), ("failed", "failed"), ("sent", "src_bytes"), ("received", "dst_bytes"),
            ("pauses", "bursts"), ("pause_sum", "burst_gap_sum"), ("pause_squares", "burst_gap_squares"),
        ):  # fmt: skip
            rows[field][slots] += frame.measure(measure)[groups]
        calling = positions(opened >= 0)
        began = frame.conn_start_ms[np.maximum(opened[calling], 0)]
        channels.call(slots[calling], began)
        told = (opened >= 0) | (frame.failed[groups] > 0) | (frame.bursts[groups] > 0)
        self._judge_channels(channels, name, node, tick, slots[told])

    def _judge_channels(self, channels: Channels, name: str, node: int, tick: int, slots: I64) -> None:
        """Note the channels that are beacons by any of the three signs."""
        config, rows = self.config, channels.rows
        enough = (rows["gaps"][slots] > config.gaps) | (rows["pauses"][slots] > config.gaps)
        slots = slots[enough | (rows["failed"][slots] > config.failed)]
        rows = rows[slots]
        by_calls, by_pauses = regularity(rows), pause_regularity(rows)
        small = rows["sent"] + rows["received"] <= config.call_bytes * np.maximum(rows["calls"], 1)
        regular = self._regular(by_calls, rows["gaps"]) & small
        channels.rows["regular"][slots] = regular
        inside = rows["sent"] + rows["received"] <= config.call_bytes * np.maximum(rows["pauses"], 1)
        pausing = self._regular(by_pauses, rows["pauses"]) & inside
        failing = (rows["failed"] > config.failed) & (rows["failed"] >= rows["calls"] - 1)
        fired = positions(regular | pausing | failing)
        self.skip(node, len(fired) - _JUDGED)
        for at in fired[:_JUDGED].tolist():
            slot = int(slots[at])
            callers, targets = channels.callers(slot), channels.targets(slot)
            if callers > config.callers or targets > config.targets:
                continue
            sign = _CALLS if regular[at] else _PAUSES if pausing[at] else _FAILED
            nats, spread, every = (float(values[at]) for values in (by_pauses if sign == _PAUSES else by_calls))
            self._noted.append(
                (
                    name,
                    tick,
                    sign,
                    channels.rows[slot].copy(),
                    nats,
                    spread,
                    every,
                    channels.regular_callers(slot),
                    callers,
                )
            )

    def _regular(self, judged: tuple[Any, Any, Any], gaps: I64) -> npt.NDArray[np.bool_]:
        nats, spread, _ = judged
        regular: npt.NDArray[np.bool_] = (nats > self.config.nats) & (spread <= self.config.spread)
        return regular & (gaps > self.config.gaps)

    def judge(self, view: TickView, noted: Any) -> list[Finding]:
        """Return the finding about one channel."""
        node, tick, sign, row, nats, spread, every, regular, callers = noted
        protocol, port = PROTOCOLS[int(row["service"]) >> 16], int(row["service"]) & 0xFFFF
        by = view.endpoint(unpack(bytes(row["src"])), tick)
        to = view.endpoint(unpack(bytes(row["dst"])), tick, port=port, protocol=protocol)
        stranger = by.identity == "unknown" and to.identity == "known"
        if stranger or _QUIET_SOURCES & set(by.roles) or "resolver" in to.roles:
            return []
        gaps = int(row["pauses"] if sign == _PAUSES else row["gaps"])
        if sign == _FAILED:
            main = Evidence(name="failed_calls", value=int(row["failed"]), limit=self.config.failed, unit="calls")
        else:
            main = Evidence(name="regularity", value=round(nats, 2), limit=self.config.nats, unit="nats")
        return [Finding(
            detector=self.meta.id, kind="c2_beacon", title=self.meta.title,
            severity="low" if self._of_the_node(view, regular, tick) else self._severity(sign, row, nats, tick, to),
            confidence=confidence(main.value, main.limit or 0),
            tick=tick, started=int(row["since"]), node=node, subject=f"{by.ip}/{to.ip}:{port}/{protocol}@{node}",
            attackers=(by,), victims=(to,), techniques=self.meta.techniques,
            evidence=(
                main,
                Evidence(name="interval", value=round(every, 1), unit="s"),
                Evidence(name="spread", value=round(spread, 3), limit=self.config.spread, unit="of random"),
                Evidence(name="gaps", value=gaps, limit=self.config.gaps, unit="gaps"),
                Evidence(name="calls", value=int(row["calls"]), unit="connections"),
                Evidence(name="bytes", value=int(row["sent"]) + int(row["received"]), unit="IP bytes"),
                Evidence(name="callers", value=callers, unit="sources"),
            ),
            summary=self._summary(sign, row, by.ip, f"{to.ip}:{port}", nats, spread, every, gaps),
            spoofable=bool(row["received"] == 0), data_quality=view.quality[node], response=self.meta.response,
            quiet=max(120, int(4 * every)),
        )]  # fmt: skip

    def _of_the_node(self, view: TickView, regular: Sequence[bytes], tick: int) -> bool:
        """Tell whether the node itself calls the service regularly: agents do, from hosts and pods alike."""
        found = (view.identities.find(unpack(source), tick) for source in regular[: self.config.callers])
        return any(item is not None and item.kind == "Node" for item in found)

    def _severity(self, sign: str, row: Any, nats: float, tick: int, to: Endpoint) -> Severity:
        """Medium where the calls are sure and the address is no part of the cluster.

        Keep-alives look like bursts, dead dependencies like failed calls, and services of the cluster are polled.
        """
        config = self.config
        lasting = tick - int(row["since"]) >= config.sure_span and int(row["gaps"]) > config.sure_calls
        sure = sign == _CALLS and lasting and nats > config.sure_nats and to.identity == "unknown"
        return self.meta.severity if sure else "low"

    def _summary(self, sign: str, row: Any, by: str, to: str, nats: float, spread: float, every: float,
                 gaps: int) -> str:  # fmt: skip
        if sign == _FAILED:
            return (
                f"{by} called {to} {count(int(row['failed']))} times in vain, limit {self.config.failed}, and does not "
                f"give up"
            )
        what = "calls" if sign == _CALLS else "sends a burst in one connection to"
        return (
            f"{by} {what} {to} every {every:.1f} s, {count(gaps)} times, with {spread:.0%} of the spread of random "
            f"times: {nats:.1f} nats of regularity, limit {self.config.nats:g}"
        )

    def snapshot(self) -> dict[str, npt.NDArray[Any]]:
        """Return the channels of each node."""
        nodes = sorted(self._nodes.items())
        parts = [channels.snapshot() for _, channels in nodes]
        index = [[node, len(part), channels.shed] for (node, channels), part in zip(nodes, parts, strict=True)]
        own = {
            "nodes": np.array(index, np.int64).reshape(-1, 3),
            "channels": np.concatenate([np.zeros(0, np.uint8), *parts]),
        }
        return super().snapshot() | own

    def restore(self, state: dict[str, npt.NDArray[Any]]) -> None:
        """Take in what ``snapshot`` gave."""
        super().restore(state)
        self._nodes = {}
        at = 0
        for node, size, shed in state["nodes"].tolist():
            channels = self._nodes[node] = Channels(_CHANNELS, self.config.memory)
            channels.restore(state["channels"][at : at + size])
            channels.shed = shed
            at += size

    def refused(self) -> dict[int, int]:
        """Return how many channels were too many so far, by node; only nodes with any."""
        total = dict(super().refused())
        for node, channels in self._nodes.items():
            if channels.shed:
                total[node] = total.get(node, 0) + channels.shed
        return total
