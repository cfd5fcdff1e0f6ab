"""Beacon: one source calls one rarely called service again and again, more regularly than chance."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import Field

from detectors.base import DetectorConfig, Meta, TickView, confidence
from detectors.channels import Channels, pause_regularity, regularity
from detectors.claim_detector import ClaimDetector
from detectors.frame import TCP, UDP, FlowFrame, scoped
from detectors.hashing import combine
from detectors.index import I64, positions
from detectors.kernels import channels as column
from detectors.round_frames import RoundFrames
from detectors.statement import PROTOCOLS, count
from schemas.addresses import unpack
from schemas.events import Capability
from schemas.finding import Endpoint, Evidence, Finding, Severity

_CHANNELS = 4096  # per node, 424 bytes each
_JUDGED = 64  # channels of one node's tick
# What calls regularly by design: DNS, DHCP, NTP, PTP, NetBIOS, IKE, SSDP, STUN, mDNS, LLMNR, NAT-PMP.
_PERIODIC = (53, 67, 68, 123, 137, 138, 319, 320, 500, 546, 547, 1900, 3478, 4500, 5351, 5353, 5355)
_QUIET_SOURCES = frozenset({"monitoring_scraper", "vulnerability_scanner", "shared", "load_balancer", "nat_gateway"})
_CALLS, _PAUSES, _FAILED = "calls", "pauses", "failed"
_SUMS = ("opened", "failed", "src_bytes", "dst_bytes", "bursts", "burst_gap_sum", "burst_gap_squares")
_TRANSPORT = np.zeros(256, np.bool_)
_TRANSPORT[[TCP, UDP]] = True


class _Noted(NamedTuple):
    """A channel with one of the three signs; ``row`` is a copy without the histogram."""

    node: str
    tick: int
    sign: str
    row: I64
    nats: float
    spread: float
    every: float
    callers: int
    regular: Sequence[bytes]  # packed addresses of those who call the service regularly


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

    state_version: ClassVar[int] = 2

    def __init__(self, config: DetectorConfig | None = None) -> None:
        super().__init__(config)
        self._followed = np.ones(1 << 16, np.bool_)
        self._followed[list(self.config.periodic_ports)] = False
        self._channels = Channels(_CHANNELS, self.config.memory)

    def observe(self, frames: RoundFrames) -> None:
        """Take in connections that were opened, and bursts inside connections."""
        frame = frames.groups
        groups = self._candidates(frame) if frame is not None else ()
        if frame is None or not len(groups):
            return
        src, dst, service = frame.src[groups], frame.dst[groups], frame.service[groups].astype(np.uint64)
        nodes, ticks, opened = frame.node[groups], frame.tick[groups], frame.first_opened[groups]
        services = combine(frame.hashes[dst], service)
        keys = combine(scoped(nodes, frame.hashes[src]), services)
        slots, new = self._channels.touch(keys, nodes, ticks, opened >= 0)
        rows, fresh, words = self._channels.rows, slots[new], frame.addresses.view(np.int64)
        rows[fresh, column.SERVICE], rows[fresh, column.SERVICE_KEY] = service[new], services[new].view(np.int64)
        rows[fresh, column.SOURCE] = frame.hashes[src[new]].view(np.int64)
        rows[fresh, column.SRC : column.DST] = words[src[new]]
        rows[fresh, column.DST : column.REGULAR] = words[dst[new]]
        began = np.where(opened >= 0, frame.conn_start_ms[np.maximum(opened, 0)], -1)
        amounts = np.stack([frame.measure(name)[groups] for name in _SUMS])
        limits = (self.config.gaps, self.config.failed, self.config.call_bytes)
        worth = self._channels.note(slots, amounts, began, limits)
        if len(worth):
            self._judge_channels(frames.names, nodes[worth], ticks[worth], slots[worth])

    def _candidates(self, frame: FlowFrame) -> I64:
        """Return the groups that may be calls: what a workload of ours sends to one service."""
        wanted = _TRANSPORT[frame.proto] & ~frame.copy & self._followed[frame.service & 0xFFFF]
        wanted &= (frame.private[frame.src] | ~frame.private[frame.dst]) & ~frame.to_group[frame.dst]
        needs = int(self.meta.needs)
        return positions(wanted & (frame.capabilities & needs == needs))

    def _judge_channels(self, names: Sequence[str], nodes: I64, ticks: I64, slots: I64) -> None:
        """Note the channels that are beacons by any of the three signs."""
        config, rows = self.config, self._channels.heads(slots)
        by_calls, by_pauses = regularity(self._channels.rows, slots), pause_regularity(rows)
        calls, pauses, failed = (rows[:, c] for c in (column.CALLS, column.PAUSES, column.FAILED))
        volume = rows[:, column.SENT] + rows[:, column.RECEIVED]
        regular = self._regular(by_calls, rows[:, column.GAPS]) & (volume <= config.call_bytes * np.maximum(calls, 1))
        self._channels.rows[slots, column.REGULAR] = regular
        pausing = self._regular(by_pauses, pauses) & (volume <= config.call_bytes * np.maximum(pauses, 1))
        failing = (failed > config.failed) & (failed >= calls - 1)
        fired = positions(regular | pausing | failing)
        if not len(fired):
            return
        fired = self.heads(nodes[fired], fired, _JUDGED)
        callers, targets = self._channels.callers(slots[fired]), self._channels.targets(slots[fired])
        kept = (callers <= config.callers) & (targets <= config.targets)
        for at, many in zip(fired[kept].tolist(), callers[kept].tolist(), strict=True):
            sign = _CALLS if regular[at] else _PAUSES if pausing[at] else _FAILED
            nats, spread, every = (float(values[at]) for values in (by_pauses if sign == _PAUSES else by_calls))
            others = self._channels.regular_callers(int(slots[at]), config.callers)
            noted = _Noted(names[nodes[at]], int(ticks[at]), sign, rows[at], nats, spread, every, many, others)
            self._noted.append(noted)

    def _regular(self, judged: tuple[Any, Any, Any], gaps: I64) -> npt.NDArray[np.bool_]:
        nats, spread, _ = judged
        regular: npt.NDArray[np.bool_] = (nats > self.config.nats) & (spread <= self.config.spread)
        return regular & (gaps > self.config.gaps)

    def judge(self, view: TickView, noted: _Noted) -> list[Finding]:
        """Return the finding about one channel."""
        node, tick, sign, row, nats, spread, every, callers, regular = noted
        protocol, port = PROTOCOLS[int(row[column.SERVICE]) >> 16], int(row[column.SERVICE]) & 0xFFFF
        by = view.endpoint(unpack(row[column.SRC : column.DST].tobytes()), tick)
        to = view.endpoint(unpack(row[column.DST : column.REGULAR].tobytes()), tick, port=port, protocol=protocol)
        stranger = by.identity == "unknown" and to.identity == "known"
        if stranger or _QUIET_SOURCES & set(by.roles) or "resolver" in to.roles:
            return []
        gaps = int(row[column.PAUSES] if sign == _PAUSES else row[column.GAPS])
        if sign == _FAILED:
            main = Evidence(name="failed_calls", value=int(row[column.FAILED]), limit=self.config.failed, unit="calls")
        else:
            main = Evidence(name="regularity", value=round(nats, 2), limit=self.config.nats, unit="nats")
        return [Finding(
            detector=self.meta.id, kind="c2_beacon", title=self.meta.title,
            severity="low" if self._of_the_node(view, regular, tick) else self._severity(sign, row, nats, tick, to),
            confidence=confidence(main.value, main.limit or 0),
            tick=tick, started=int(row[column.SINCE]), node=node, subject=f"{by.ip}/{to.ip}:{port}/{protocol}@{node}",
            attackers=(by,), victims=(to,), techniques=self.meta.techniques,
            evidence=(
                main,
                Evidence(name="interval", value=round(every, 1), unit="s"),
                Evidence(name="spread", value=round(spread, 3), limit=self.config.spread, unit="of random"),
                Evidence(name="gaps", value=gaps, limit=self.config.gaps, unit="gaps"),
                Evidence(name="calls", value=int(row[column.CALLS]), unit="connections"),
                Evidence(name="bytes", value=int(row[column.SENT]) + int(row[column.RECEIVED]), unit="IP bytes"),
                Evidence(name="callers", value=callers, unit="sources"),
            ),
            summary=self._summary(sign, row, by.ip, f"{to.ip}:{port}", nats, spread, every, gaps),
            spoofable=bool(row[column.RECEIVED] == 0), data_quality=view.quality[node], response=self.meta.response,
            quiet=max(120, int(4 * every)),
        )]  # fmt: skip

    def _of_the_node(self, view: TickView, regular: Sequence[bytes], tick: int) -> bool:
        """Tell whether the node itself calls the service regularly: agents do, from hosts and pods alike."""
        found = (view.identities.find(unpack(source), tick) for source in regular)
        return any(item is not None and item.kind == "Node" for item in found)

    def _severity(self, sign: str, row: Any, nats: float, tick: int, to: Endpoint) -> Severity:
        """Medium where the calls are sure and the address is no part of the cluster.

        Keep-alives look like bursts, dead dependencies like failed calls, and services of the cluster are polled.
        """
        config = self.config
        lasting = tick - int(row[column.SINCE]) >= config.sure_span and int(row[column.GAPS]) > config.sure_calls
        sure = sign == _CALLS and lasting and nats > config.sure_nats and to.identity == "unknown"
        return self.meta.severity if sure else "low"

    def _summary(self, sign: str, row: Any, by: str, to: str, nats: float, spread: float, every: float,
                 gaps: int) -> str:  # fmt: skip
        if sign == _FAILED:
            return (
                f"{by} called {to} {count(int(row[column.FAILED]))} times in vain, limit {self.config.failed}, and "
                f"does not give up"
            )
        what = "calls" if sign == _CALLS else "sends a burst in one connection to"
        return (
            f"{by} {what} {to} every {every:.1f} s, {count(gaps)} times, with {spread:.0%} of the spread of random "
            f"times: {nats:.1f} nats of regularity, limit {self.config.nats:g}"
        )

    def snapshot(self) -> dict[str, npt.NDArray[Any]]:
        """Return the channels."""
        return super().snapshot() | {f"channels.{name}": values for name, values in self._channels.snapshot().items()}

    def restore(self, state: dict[str, npt.NDArray[Any]]) -> None:
        """Take in what ``snapshot`` gave."""
        super().restore(state)
        head = "channels."
        self._channels.restore({k.removeprefix(head): v for k, v in state.items() if k.startswith(head)})

    def refused(self) -> dict[int, int]:
        """Return how many channels were too many so far, by node; only nodes with any."""
        return dict(Counter(super().refused()) + Counter(self._channels.shed()))
