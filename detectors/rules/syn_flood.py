"""SYN flood: many half-open connections to one victim, from many or from false addresses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar

from pydantic import Field

from detectors.base import Detector, DetectorConfig, KeyView, Meta, TickView, confidence
from detectors.entered import entered
from detectors.features import Distinct, Feature, Sum
from detectors.index import positions
from detectors.statement import count
from schemas.events import Capability
from schemas.finding import MAX_ENDPOINTS, Evidence, Finding

_WORDS = {"half-open connections": "half_open", "attempts without a connection": "unfinished_attempts"}


class SynFloodConfig(DetectorConfig):
    """Limits of ``syn_flood``."""

    half_open: Annotated[int, Field(ge=1)] = Field(
        250, description="half-open connections to one victim within the window, from many sources (count)"
    )
    half_open_few: Annotated[int, Field(ge=1)] = Field(
        1500, description="the same from few sources (count); higher, as clients of a dead server retry"
    )
    sources: Annotated[int, Field(ge=2)] = Field(
        100, description="sources within a minute from which they are many (count)"
    )
    unfinished: Annotated[int, Field(ge=1)] = Field(
        1500, description="attempts not completed, refused ones too, within the window (count): a flood of closed ports"
    )
    crowd: Annotated[int, Field(ge=2)] = Field(
        1000, description="sources within a minute (count) that only forged addresses bring to closed ports at once"
    )
    share: Annotated[float, Field(gt=0, le=1)] = Field(0.7, description="half-open share of all attempts")
    port_share: Annotated[float, Field(gt=0, le=1)] = Field(
        0.5, description="share of attempts on one port that few sources must show; a port scan shows less"
    )
    window: Annotated[int, Field(ge=12)] = Field(12, description="s; short, so that a burst is seen while it lasts")


class SynFlood(Detector):
    """Fires per victim, summed over nodes. Sources are named only as examples: they may all be false.

    Where the packets entered by interfaces of pods, these are named and proven.
    """

    meta = Meta(
        id="syn_flood",
        title="SYN flood",
        stage=2,
        severity="high",
        techniques=("T1498.001", "T1499.001"),
        needs=Capability.PORTS | Capability.TCP_FLAGS | Capability.ATTEMPTS,
        blind="SYN floods are not seen: the source does not report unanswered attempts",
        response=None,
    )
    Config: ClassVar[type[DetectorConfig]] = SynFloodConfig
    config: SynFloodConfig

    def features(self) -> Sequence[Feature]:
        """Attempts, what became of them, and from how many sources."""
        window = self.config.window
        self._attempts = Feature("attempts", "victim", window, Sum("attempts"), "connections")
        self._established = Feature("established", "victim", window, Sum("established"), "connections")
        self._refused = Feature("refused", "victim", window, Sum("refused"), "connections")
        self._syn = Feature("syn", "victim", window, Sum("syn"), "packets")
        self._port = Feature("top_port_attempts", "victim", window, Sum("top_port_attempts"), "connections")
        self._sources = Feature("unique_sources", "victim", 60, Distinct("source", "attempts", cap=1 << 16), "sources")
        return self._attempts, self._established, self._refused, self._syn, self._port, self._sources

    def evaluate(self, view: TickView) -> list[Finding]:
        """Return one finding per flooded victim."""
        keys = view.space("victim")
        if keys is None:
            return []
        config = self.config
        attempts = keys.value(self._attempts)
        unfinished = attempts - keys.value(self._established)
        above = (unfinished > config.half_open) & (unfinished > config.share * attempts) & keys.can_see(self.meta.needs)
        if not above.any():
            return []
        # QUIC attempts have no SYN: a flood of them is not this one.
        above &= 2 * keys.value(self._syn) > attempts
        half_open = unfinished - keys.value(self._refused)
        open_share = half_open > config.share * attempts
        sources = keys.value(self._sources)
        many = (half_open > config.half_open) & open_share & (sources > config.sources)
        few = (half_open > config.half_open_few) & open_share
        few &= keys.value(self._port) > config.port_share * attempts
        closed = (unfinished > config.unfinished) & (sources > config.crowd)
        found = []
        for row in positions(above & (many | few | closed)).tolist():
            count_open = bool(many[row] or few[row])
            counted = int(half_open[row] if count_open else unfinished[row])
            limit = config.half_open if many[row] else config.half_open_few if few[row] else config.unfinished
            word = "half-open connections" if count_open else "attempts without a connection"
            found.append(self._finding(view, keys, row, (word, counted, limit)))
        return found

    def _finding(self, view: TickView, keys: KeyView, row: int, counted: tuple[str, int, int]) -> Finding:
        config = self.config
        word, value, limit = counted
        attempts, sources = int(keys.value(self._attempts)[row]), int(keys.value(self._sources)[row])
        tick = int(keys.ticks[row])
        ip, port = keys.address("dst", row), int(keys.extra["top_port"][row])
        examples = view.top_sources(bytes(keys.column("dst")[row]))
        # Few real sources are attackers; of many false ones a list would only mislead.
        named = examples[:MAX_ENDPOINTS] if sources <= config.sources else []
        by = entered(view, bytes(keys.column("dst")[row]), tick, config.window, value, [s for s, _, _ in examples])
        return Finding(
            detector=self.meta.id, kind=self.meta.id, title=self.meta.title, severity=self.meta.severity,
            confidence=confidence(value, limit), tick=tick,
            started=max(int(keys.since()[row]), tick - config.window), node="", subject=ip,
            attackers=by.attackers([view.endpoint(s, tick) for s, _, _ in named]),
            victims=(view.endpoint(ip, tick, port=port, protocol="TCP"),), techniques=self.meta.techniques,
            evidence=(
                Evidence(name=_WORDS[word], value=value, limit=limit, unit="connections",
                         window=config.window),
                Evidence(name="attempts", value=attempts, unit="connections", window=config.window),
                Evidence(name="unique_sources", value=sources, unit="sources", window=60),
                *by.evidence,
            ),
            summary=f"{count(value)} {word} to {ip} within {config.window} s, limit {count(limit)}, "
                    f"from at least {count(sources)} sources within 60 s; mostly to port {port}{by.words}",
            spoofable=not by.proven, data_quality=view.quality[""], response=self.meta.response, quiet=60,
        )  # fmt: skip
