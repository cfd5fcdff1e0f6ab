"""ICMP tunnel: echoes that do not bring back what was sent, or carry more than anybody pings with."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import Field

from detectors.base import DetectorConfig, Meta, TickView, confidence
from detectors.claim_detector import ClaimDetector, address_text
from detectors.frame import ICMP, ICMPV6
from detectors.grouping import Grouping
from detectors.hashing import combine
from detectors.ledger import Entry
from detectors.outside import is_outside
from detectors.recent_sums import add_recent
from detectors.round_frames import RoundFrames
from detectors.statement import count
from schemas.events import Capability
from schemas.finding import Evidence, Finding, Severity

_ECHO, _ECHO6 = 8, 128
_MEASURES = ("src_packets", "dst_packets", "src_bytes", "dst_bytes")
_PAIRS = 1024  # of one node's tick, the heaviest ones
_LARGEST = 9000  # bytes of a packet that got lost, at most: a jumbo frame
_SAME_SIZE = 8  # bytes by which sizes of questions and answers may differ on average; padding
_FLOOD = 500  # echoes a second above which it is a flood and no conversation


@dataclass
class _Echoes(Entry):
    """Echoes of one pair: ``[bucket, questions, answers, their bytes, ...]`` of the window, the oldest first."""

    buckets: list[list[int]] = field(default_factory=list)


class IcmpTunnelConfig(DetectorConfig):
    """Limits of ``icmp_tunnel``."""

    unmirrored: Annotated[int, Field(ge=1)] = Field(
        4000, description="bytes by which answers differ from their questions within the window; an echo returns "
                          "what it was sent (RFC 792, RFC 4443), so honest ones differ by none"
    )  # fmt: skip
    unasked: Annotated[int, Field(ge=1)] = Field(
        20, description="answers more than questions, of other sizes, within the window (count)"
    )
    bytes: Annotated[int, Field(ge=1)] = Field(
        512_000, description="IP bytes of questions to one destination outside within the window; a ping of 1,400 "
                             "bytes each second is 86 kB a minute"
    )  # fmt: skip
    window: Annotated[int, Field(ge=12)] = Field(60, description="s")


class IcmpTunnel(ClaimDetector):
    """Fires per asker and answerer.

    High where answers cannot be echoes of the questions; medium where honest-looking echoes to the outside
    carry far more than pings do.
    """

    meta = Meta(
        id="icmp_tunnel",
        title="ICMP tunnel",
        stage=1,
        severity="high",
        techniques=("T1095", "T1048.003", "T1572"),
        needs=Capability.ICMP | Capability.PACKETS | Capability.REVERSE,
        blind="ICMP tunnels are not seen: the source does not report echoes of both directions",
        response="block_egress_destination",
    )
    Config: ClassVar[type[DetectorConfig]] = IcmpTunnelConfig
    config: IcmpTunnelConfig

    def __init__(self, config: DetectorConfig | None = None) -> None:
        super().__init__(config)
        self._pairs = self.ledger("pairs", _Echoes, 4096, self.config.window)

    def observe(self, frames: RoundFrames) -> None:
        """Take in echoes and their answers."""
        rows = frames.flow
        if rows is None:
            return
        kind = rows.numbers("icmp_type")
        echo = ((rows.proto == ICMP) & (kind == _ECHO)) | ((rows.proto == ICMPV6) & (kind == _ECHO6))
        for node, tick, at in rows.ticks(echo & rows.own):
            ends = rows.ends(at)
            pairs = Grouping.equal(combine(combine(ends[0], ends[1]), combine(ends[2], ends[3])))
            sums = np.stack([pairs.total(rows.numbers(m)[at].astype(np.int64)) for m in _MEASURES], axis=1)
            order = np.lexsort((pairs.first, -sums.sum(axis=1)))
            self.skip(node, len(order) - _PAIRS)
            chosen = np.sort(order[:_PAIRS])
            first = pairs.first[chosen]
            keys = zip(*(e[first].tolist() for e in ends), is_outside(ends[2], ends[3])[first].tolist(), strict=True)
            for (*key, outside), amounts in zip(keys, sums[chosen].tolist(), strict=True):
                self._noted.append((frames.names[node], node, tick, tuple(key), outside, amounts))

    def judge(self, view: TickView, noted: Any) -> list[Finding]:
        """Return the finding about one pair's echoes, if any."""
        name, node, tick, key, outside, amounts = noted
        config = self.config
        entry = self._pairs.touch(node, key, tick)
        asked, answered, out, back = add_recent(entry.buckets, tick, config.window, amounts)
        if not asked or not answered:
            return []  # nobody there, or only one direction is seen
        unmirrored = _unmirrored(asked - answered, out - back)
        other_size = abs(out / asked - back / answered) > _SAME_SIZE
        unasked = answered - asked if other_size and answered > 1.2 * asked else 0
        proven = unmirrored > config.unmirrored or unasked > config.unasked
        heavy = outside and out > config.bytes and asked <= _FLOOD * config.window
        if not proven and not heavy:
            return []
        severity: Severity = "high" if proven else "medium"
        source, destination = address_text(key[:2]), address_text(key[2:])
        sure = max(confidence(unmirrored, config.unmirrored), confidence(unasked, config.unasked))
        return [Finding(
            detector=self.meta.id, kind=self.meta.id, title=self.meta.title, severity=severity,
            confidence=sure if proven else confidence(out, config.bytes), tick=tick,
            started=max(entry.since, tick - config.window), node=name, subject=f"{source}@{name}/{destination}",
            attackers=(view.endpoint(source, tick),), victims=(view.endpoint(destination, tick),),
            techniques=self.meta.techniques,
            evidence=(
                Evidence(name="unmirrored_bytes", value=unmirrored, limit=config.unmirrored, unit="bytes",
                         window=config.window),
                Evidence(name="unasked_answers", value=unasked, limit=config.unasked, unit="answers",
                         window=config.window),
                Evidence(name="bytes_out", value=out, limit=config.bytes if outside else None, unit="bytes",
                         window=config.window),
                Evidence(name="bytes_back", value=back, unit="bytes", window=config.window),
            ),
            summary=f"{count(asked)} echoes with {count(out)} bytes from {source} to {destination} within "
                    f"{config.window} s, {count(answered)} answers with {count(back)} bytes: {count(unmirrored)} "
                    f"bytes, limit {config.unmirrored}, and {count(unasked)} answers, limit {config.unasked}, are no "
                    f"echo; bytes out limit {count(config.bytes)}",
            # Answers of other content need somebody who listens: the asker's address is its own.
            spoofable=False, data_quality=view.quality[name], response=self.meta.response, quiet=120,
        )]  # fmt: skip


def _unmirrored(packets: int, size: int) -> int:
    """Return the bytes of difference that lost packets cannot explain.

    Args:
        packets: questions minus answers.
        size: bytes of questions minus bytes of answers.
    """
    explained = _LARGEST * abs(packets) if (packets > 0) == (size > 0) else 0
    return max(0, abs(size) - explained)
