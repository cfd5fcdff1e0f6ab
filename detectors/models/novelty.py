"""What detectors of new habits have in common: tell once an hour, judge by workload, learn after judging."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar

import numpy.typing as npt
from pydantic import Field

from detectors.base import Detector, DetectorConfig, TickView, confidence
from detectors.claim_detector import address_text
from detectors.features import Feature
from detectors.models.forest import RoleForest
from detectors.models.newcomers import Newcomers
from detectors.models.peers import F64, FEATURES, Peer, PeerMemory, Surprise
from detectors.models.windows import workload_name
from detectors.tally import NodeTally, Tally
from detectors.timed_memory import TimedMemory
from schemas.addresses import unpack
from schemas.finding import MAX_ENDPOINTS, Endpoint, Evidence, Finding, Severity
from schemas.identity import IdentityTable
from schemas.roles import SHARED

_UNUSUAL_BY_PROFESSION = SHARED | {"monitoring_scraper", "vulnerability_scanner", "resolver"}
_TREE_RELIEF = 0.75  # share of the limit that is enough where the trees agree
_LEARN_PER_TICK = 8  # samples; the trees cost 50 µs each
_FEW = 8  # times ``least``; who has told less has other trees


class NoveltyConfig(DetectorConfig):
    """Limits of a detector of new habits."""

    learning: Annotated[int, Field(ge=60)] = Field(
        86_400, description="s that a workload is watched before it is judged; a day holds its daily jobs"
    )
    least: Annotated[int, Field(ge=1)] = Field(
        20, description="rows it must have told of by then (count); fewer give no habit"
    )
    limit: Annotated[float, Field(gt=1)] = Field(
        24.0, description="bits of surprise of all that is new within the window; one thing gives at most 14"
    )
    window: Annotated[int, Field(ge=60)] = Field(600, description="s in which what is new is looked at together")
    patience: Annotated[int, Field(ge=1)] = Field(
        3, description="hours (count) in which what is doubted is met before it becomes a habit"
    )
    workloads: Annotated[int, Field(ge=1, le=65536)] = Field(
        4096, description="workloads kept per rollup partition (count), about 3 kB each"
    )
    seed: Annotated[int, Field(ge=0)] = Field(0, description="seed of the trees")


class Novelty(Detector):
    """Judges what a workload begins to do against what it has done, replicas of all nodes together.

    Subclasses tell of it in ``observe``, through ``self._newcomers`` and ``self._counted``.
    """

    Config: ClassVar[type[DetectorConfig]] = NoveltyConfig
    config: NoveltyConfig
    order: ClassVar[int] = 1
    measure: ClassVar[str]
    things: ClassVar[tuple[str, str, str]]  # what is new, what of it may be new as well, and what else
    pairs: ClassVar[int]
    width: ClassVar[int]

    def __init__(self, config: DetectorConfig | None = None) -> None:
        super().__init__(config)
        own = self.config
        self._newcomers = Newcomers(self.pairs, self.width)
        self._counted: list[NodeTally] = []
        self._subjects: TimedMemory[str] = TimedMemory()
        self._memory = PeerMemory(own.workloads, own.window, own.patience)
        self._forests = [RoleForest(2 * own.seed + few, FEATURES) for few in (0, 1)]

    def features(self) -> Sequence[Feature]:
        """None: what is new comes as tallies."""
        return ()

    def tallies(self) -> Sequence[NodeTally]:
        """Return what was not told of in this hour."""
        counted, self._counted = self._counted, []
        return counted

    def refused(self) -> Mapping[int, int]:
        """Return how much was too much to tell of, by node."""
        return self._newcomers.left_out

    def subject(self, identities: IdentityTable, packed: bytes, tick: int) -> str:
        """Return the workload at an address of 16 bytes, else the address in text."""

        def named() -> tuple[str, int, int]:
            ip = unpack(packed)
            return workload_name(identities, ip, tick) or ip, *identities.span(ip, tick)

        return self._subjects.get(identities, packed, tick, named)

    @abstractmethod
    def peer(self, identities: IdentityTable, what: Tally, tick: int) -> Peer:
        """Return what stands for one thing that was told."""

    @abstractmethod
    def told(self, view: TickView, tick: int, new: Sequence[Tally],
             now: Surprise) -> tuple[tuple[Endpoint, ...], tuple[str, ...], Severity, str]:  # fmt: skip
        """Return victims, techniques, severity, and the new things in words."""

    def evaluate(self, view: TickView) -> list[Finding]:
        """Return one finding per workload with too much that is surprising."""
        if view.tallies is None:
            return []
        found: list[Finding] = []
        samples: list[tuple[bool, F64]] = []
        for name, rows in view.tallies.of_measures((self.measure,)):
            finding, sample = self._judge(view, view.tallies.tick, name, [what for what, _ in rows])
            if finding is not None:
                found.append(finding)
            elif sample is not None:
                samples.append(sample)
        # Evenly over the names, so that the same few do not teach for all.
        for few, values in samples[:: -(-len(samples) // _LEARN_PER_TICK) or 1]:
            self._forests[few].learn(values)
        return found

    def _judge(self, view: TickView, tick: int, name: str,
               met: Sequence[Tally]) -> tuple[Finding | None, tuple[bool, F64] | None]:  # fmt: skip
        memory, config = self._memory, self.config
        row = memory.admit(name, tick)
        if row < 0:
            return None, None
        suspect = bool(view.suspects) and any(address_text(what.source) in view.suspects for what in met)
        memory.settle(row, tick, doubtful=suspect)
        if suspect:
            memory.store["fired"][row] = tick
        watched, tells = memory.experience(row, tick)
        cold = watched < config.learning or tells < config.least
        new = []
        for what in met:
            peer = self.peer(view.identities, what, tick)
            if memory.known(row, peer, tick):
                continue
            if cold and not suspect:
                memory.learn(row, peer, tick)
            elif not cold and memory.meet(row, peer, tick):
                new.append(what)
        if cold or _UNUSUAL_BY_PROFESSION.intersection(view.roles(address_text(met[0].source), tick)):
            return None, None
        now = memory.surprise(row, tick)
        few, sample = now.tells < _FEW * config.least, now.sample(config.limit)
        needed, tree_score = self._needed(now, few, sample)
        if not new or now.bits <= needed:
            return None, (few, sample)
        memory.store["fired"][row] = tick
        return self._finding(view, tick, name, new, now, (needed, tree_score)), None

    def _needed(self, now: Surprise, few: bool, sample: F64) -> tuple[float, float]:
        """Return the bits that must be exceeded, and the score of the trees where they were asked."""
        limit, forest = self.config.limit, self._forests[few]
        # The trees alone are no reason: they only lower the limit for what deviates in several ways at once.
        if not _TREE_RELIEF * limit < now.bits <= limit:
            return limit, 0.0
        score = forest.score(sample)
        return (_TREE_RELIEF * limit if score > forest.limit() else limit), score

    def _finding(self, view: TickView, tick: int, name: str, new: Sequence[Tally], now: Surprise,
                 judged: tuple[float, float]) -> Finding:  # fmt: skip
        (needed, tree_score), window = judged, self.config.window
        sources = list(dict.fromkeys(what.source for what in new))[:MAX_ENDPOINTS]
        attackers = tuple(view.endpoint(address_text(source), tick) for source in sources)
        victims, techniques, severity, words = self.told(view, tick, new, now)
        counts = (now.new_peers, now.new_ports, now.new_namespaces)
        evidence = [
            Evidence(name="surprise", value=round(now.bits, 1), limit=needed, unit="bits", window=window),
            *(Evidence(name=f"new_{what}", value=value, unit=what.replace("_", " "), window=window)
              for what, value in zip(self.things, counts, strict=True)),
            Evidence(name="usual_new_share", value=round(now.rate, 4), unit="of what it tells"),
            Evidence(name="watched", value=now.watched, unit="s"),
        ]  # fmt: skip
        if tree_score:
            evidence.append(Evidence(name="tree_score", value=round(tree_score, 4)))
        return Finding(
            detector=self.meta.id, kind=self.meta.id, title=self.meta.title,
            # Without an inventory a restarted pod is somebody else, so less is sure.
            severity=severity if attackers[0].identity == "known" else "low",
            confidence=min(0.9, confidence(now.bits, needed)),  # unusual is not yet hostile
            tick=tick, started=tick - window, node="", subject=name, attackers=attackers, victims=victims,
            techniques=techniques, evidence=tuple(evidence),
            summary=f"{name} {words}: {now.bits:.1f} bits of surprise within {window} s, limit {needed:g}; usually "
                    f"{now.rate:.1%} are new",
            spoofable=not victims, data_quality=view.quality[""], response=self.meta.response, quiet=window,
        )  # fmt: skip

    def snapshot(self) -> dict[str, npt.NDArray[Any]]:
        """Return what was told of (stage 1), habits by workload and what the trees are grown from (stage 2)."""
        state = {f"newcomers.{name}": values for name, values in self._newcomers.snapshot().items()}
        state |= {f"memory.{name}": values for name, values in self._memory.snapshot().items()}
        for number, forest in enumerate(self._forests):
            state |= {f"forest{number}.{name}": values for name, values in forest.snapshot().items()}
        return state

    def restore(self, state: dict[str, npt.NDArray[Any]]) -> None:
        """Take in what ``snapshot`` gave."""

        def under(prefix: str) -> dict[str, npt.NDArray[Any]]:
            return {n.removeprefix(prefix): v for n, v in state.items() if n.startswith(prefix)}

        self._newcomers.restore(under("newcomers."))
        self._memory.restore(under("memory."))
        for number, forest in enumerate(self._forests):
            forest.restore(under(f"forest{number}."))
