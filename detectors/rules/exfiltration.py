"""Exfiltration: far more bytes to one destination outside than the workload ever sends, and hardly any back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, NamedTuple

import numpy as np
from pydantic import Field

from detectors.arrivals import arrived
from detectors.base import DetectorConfig, Meta, TickView, confidence
from detectors.claim_detector import Address, ClaimDetector, address_text
from detectors.daily_most import DAY, DAYS, DailyMost
from detectors.flow_rows import FlowRows
from detectors.frame import scoped
from detectors.grouping import Grouping
from detectors.index import I64, positions
from detectors.ledger import Entry
from detectors.mixing import hash_text
from detectors.recent_sums import add_recent
from detectors.round_frames import RoundFrames
from detectors.statement import count
from schemas.events import Capability
from schemas.finding import Evidence, Finding, Severity

_WEEK = 7  # days
_ROW_BYTES = 16_384  # a row that carried less is not looked at: most rows of a busy node do not
_PAIRS = 1024  # of one node's tick, the heaviest ones


class _Sent(NamedTuple):
    """What one source sent to one destination outside in one tick, IP bytes."""

    source: Address
    destination: Address
    out: int
    back: int


@dataclass
class _Upload(Entry):
    """One source and destination: ``[bucket, out, back]`` of the window, the oldest first."""

    buckets: list[list[int]] = field(default_factory=list)


@dataclass
class _Habit(DailyMost):
    """One workload's days: the most that it sent to one destination within a window.

    ``told`` is ``[day, bytes]``, the most that was reported of a day: what was said once is no news a day later.
    """

    told: list[list[int]] = field(default_factory=list)

    def tell(self, day: int, value: int) -> None:
        """Note that a volume of a day was reported."""
        if not self.told or self.told[-1][0] != day:
            self.told.append([day, 0])
        self.told[-1][1] = max(self.told[-1][1], value)
        del self.told[:-DAYS]

    def before(self, day: int) -> int:
        """Return what a slow rise began from: the most of the days at least a week ago, or of the first day.

        More where more was reported since.
        """
        earlier = [(number, value) for number, value in self.days if number < day]
        first = earlier[0][1] if earlier else 0
        old = max((value for number, value in earlier if number <= day - _WEEK), default=first)
        return max([old, *(value for number, value in self.told if number < day)])


class ExfiltrationConfig(DetectorConfig):
    """Limits of ``exfiltration``."""

    first_bytes: Annotated[int, Field(ge=1)] = Field(
        100_000_000, description="IP bytes to one destination within the window, while the workload is not known yet"
    )
    least_bytes: Annotated[int, Field(ge=1)] = Field(
        20_000_000, description="IP bytes below which a workload that is known is left alone, however unusual"
    )
    usual_factor: Annotated[float, Field(gt=1)] = Field(
        4.0, description="times the most that the workload sent to one destination on any earlier day"
    )
    rise: Annotated[float, Field(gt=1)] = Field(
        10.0, description="times the most of the days a week or more ago, or of the first day: a rise in small steps"
    )
    asymmetry: Annotated[float, Field(ge=1)] = Field(
        4.0, description="times as many bytes out as back; calls and synchronisation go both ways"
    )
    history: Annotated[int, Field(ge=DAY)] = Field(
        DAY, description="s after which a workload is known; nightly jobs have run once by then"
    )
    window: Annotated[int, Field(ge=60)] = Field(3600, description="s")


class Exfiltration(ClaimDetector):
    """Fires per source and destination outside.

    The limit is absolute on a workload's first day, and relative to its own earlier days afterwards. A day's
    volume counts as a habit from the next day on, but what rises day by day is held to what it was a week ago.
    """

    meta = Meta(
        id="exfiltration",
        title="Exfiltration",
        stage=1,
        severity="high",
        techniques=("T1041", "T1048", "T1567"),
        needs=Capability.PACKETS | Capability.REVERSE,
        blind="exfiltration is not seen: the source does not report bytes of both directions",
        response="block_egress_destination",
    )
    Config: ClassVar[type[DetectorConfig]] = ExfiltrationConfig
    config: ExfiltrationConfig
    state_version: ClassVar[int] = 2

    def __init__(self, config: DetectorConfig | None = None) -> None:
        super().__init__(config)
        self._uploads = self.ledger("uploads", _Upload, 4096, self.config.window)
        self._habits = self.ledger("habits", _Habit, 2048, DAYS * DAY)

    def observe(self, frames: RoundFrames) -> None:
        """Take in what was sent to destinations outside."""
        rows = frames.flow
        if rows is None:
            return
        at = positions(rows.own & (rows.numbers("src_bytes") >= _ROW_BYTES))
        at = at[rows.is_outside(at)]
        if len(at):
            self._take(frames, rows, at)

    def _take(self, frames: RoundFrames, rows: FlowRows, at: I64) -> None:
        """Note the pairs of given rows that sent the most on each node."""
        nodes = rows.node_of(at)
        pairs = Grouping.equal(scoped(nodes, rows.pair_keys(at)))
        # A log may tell a flow of many hours in one row: the window gets its share of it.
        span = np.maximum(rows.numbers("end")[at] - rows.numbers("start")[at], 1)
        share = np.minimum(self.config.window * 10**9 / span, 1.0)
        out, back = (
            pairs.total((rows.numbers(name)[at] * share).astype(np.int64)) for name in ("src_bytes", "dst_bytes")
        )
        order = np.lexsort((pairs.first, -out))
        chosen = np.sort(self.heads(nodes[pairs.first[order]], order, _PAIRS))
        first = at[pairs.first[chosen]]
        given = (rows.node_of(first), rows.tick_of(first), *rows.ends(first), out[chosen], back[chosen])
        for node, tick, a, b, c, d, o, i in zip(*(x.tolist() for x in given), strict=True):
            self._noted.append((frames.names[node], node, tick, _Sent((a, b), (c, d), o, i)))

    def judge(self, view: TickView, noted: Any) -> list[Finding]:
        """Return the finding about one pair."""
        name, node, tick, sent = noted
        found = self._judge_pair(view, name, node, tick, sent)
        return [found] if found is not None else []

    def _judge_pair(self, view: TickView, name: str, node: int, tick: int, sent: _Sent) -> Finding | None:
        config = self.config
        source, destination = address_text(sent.source), address_text(sent.destination)
        if view.identities.role(destination, tick) in ("internal", "shared"):
            return None
        upload = self._uploads.touch(node, (*sent.source, *sent.destination), tick)
        out, back = add_recent(upload.buckets, tick, config.window, (sent.out, sent.back))
        if out <= config.asymmetry * back:
            return None
        item = view.identities.find(source, tick)
        workload = f"{item.namespace}/{item.workload}" if item is not None and item.workload else ""
        habit = self._habits.touch(node, (hash_text(workload), 0) if workload else sent.source, tick)
        day = tick // DAY
        usual, before = habit.usual(day), habit.before(day)
        habit.learn(day, out)
        known = tick - habit.since >= config.history
        habitual = min(config.usual_factor * usual, config.rise * before)
        limit = max(config.least_bytes, habitual) if known else config.first_bytes
        if out <= limit:
            return None
        habit.tell(day, out)
        severity: Severity = "high" if known else "medium"
        if item is not None and item.kind == "Node":
            severity = "low"  # many stand behind a node's address
        elif not known and arrived(view, view.endpoint(source, tick), config.history) is not None:
            severity = "low"  # it came from another node, where it may have done so every day
        habit_text = (
            f"at most {count(usual)} on earlier days, and {count(before)} a week ago or when it began"
            if known
            else "not known for a day yet"
        )
        return Finding(
            detector=self.meta.id, kind=self.meta.id, title=self.meta.title, severity=severity,
            confidence=confidence(out, limit), tick=tick, started=max(upload.since, tick - config.window), node=name,
            subject=f"{source}@{name}/{destination}", attackers=(view.endpoint(source, tick),),
            victims=(view.endpoint(destination, tick),), techniques=self.meta.techniques,
            evidence=(
                Evidence(name="bytes_out", value=out, limit=limit, unit="bytes", window=config.window),
                Evidence(name="asymmetry", value=round(out / max(back, 1), 1), limit=config.asymmetry,
                         unit="times the bytes back", window=config.window),
                Evidence(name="usual_bytes_out", value=usual, unit="bytes", window=config.window),
            ),
            summary=f"{source} sent {count(out)} bytes to {destination} within {config.window} s, limit "
                    f"{count(limit)}, and got {count(back)} back; the workload's habit: {habit_text}",
            # Bytes that nobody answers could bear any address.
            spoofable=back == 0, data_quality=view.quality[name], response=self.meta.response, quiet=600,
        )  # fmt: skip
