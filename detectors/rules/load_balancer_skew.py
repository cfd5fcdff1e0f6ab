"""Load balancer skew: one replica gets far more, or hardly any, of the new connections that all should share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import Field

from detectors.base import Detector, DetectorConfig, Meta, TickView, confidence
from detectors.features import Feature
from detectors.ledger import Entry, Ledger
from detectors.mixing import hash_text
from detectors.replicas import Shares, shares
from schemas.events import Capability
from schemas.finding import MAX_ENDPOINTS, Evidence, Finding

_ONE = 1000  # the mean of the others
_MOST = 1_000 * _ONE
_PACE = 32  # minutes over which the usual share is smoothed


@dataclass
class _Replica(Entry):
    """One replica's habit: its usual share of the others' mean in thousandths, and minutes in which it was odd."""

    usual: int = 0
    learned: int = 0  # minutes
    more: int = 0  # in a row
    fewer: int = 0


class LoadBalancerSkewConfig(DetectorConfig):
    """Limits of ``load_balancer_skew``."""

    times: Annotated[float, Field(gt=1)] = Field(
        5.0, description="ratio to the mean of the other replicas above which one gets far more; hardly any is below "
                         "half its inverse, since probes and scrapes go on"
    )  # fmt: skip
    connections: Annotated[int, Field(ge=10)] = Field(
        100, description="connections a minute by which they must differ; chance stays far below"
    )
    minutes: Annotated[int, Field(ge=1)] = Field(
        5, description="minutes in a row; a pool that is opened anew takes one or two"
    )
    learning: Annotated[int, Field(ge=5)] = Field(
        60, description="minutes of a replica's own history before it is judged"
    )
    settle: Annotated[int, Field(ge=0)] = Field(
        600, description="s after a change of endpoints in which connections move: rollouts, scaling, restarts"
    )


class LoadBalancerSkew(Detector):
    """Fires per replica that departs both from its peers and from its own usual share, for some minutes."""

    meta = Meta(
        id="load_balancer_skew",
        title="Load balancer skew",
        stage=2,
        severity="medium",
        techniques=("T1499",),
        needs=Capability.PORTS,
        blind="load balancer skew is not seen: the source does not report ports",
        response=None,
    )
    Config: ClassVar[type[DetectorConfig]] = LoadBalancerSkewConfig
    config: LoadBalancerSkewConfig

    def __init__(self, config: DetectorConfig | None = None) -> None:
        super().__init__(config)
        self._replicas: Ledger[_Replica] = Ledger(_Replica, 16_384, 86_400)
        self._last = 0  # minute that was judged last, s since epoch

    def features(self) -> Sequence[Feature]:
        """Return nothing: the minute rows come from stage 1 as they are."""
        return ()

    def evaluate(self, view: TickView) -> list[Finding]:
        """Return findings for the minutes that closed; one that comes after a later one is left out."""
        found: list[Finding] = []
        for minute in np.unique(view.workloads.column("minute")).tolist() if view.workloads is not None else ():
            if minute > self._last and view.workloads is not None:
                self._last = minute
                for each in shares(view.workloads, minute, view.identities, self.config.settle):
                    found += self._judge(view, minute, each)
        return sorted(found, key=lambda f: (f.tick, f.subject))

    def _judge(self, view: TickView, minute: int, each: Shares) -> list[Finding]:
        found = []
        total, peers = sum(each.counts.values()), len(each.counts) - 1
        for ip, count in each.counts.items():
            others = (total - count) / peers
            entry = self._replicas.touch(0, (hash_text(each.workload), hash_text(ip)), minute)
            finding = self._judge_one(view, minute, each, (ip, count, others), entry)
            found += [finding] if finding is not None else []
        return found

    def _judge_one(self, view: TickView, minute: int, each: Shares, told: tuple[str, int, float], entry: _Replica
                   ) -> Finding | None:  # fmt: skip
        _, count, others = told
        config = self.config
        share = min(_MOST, int(_ONE * count / max(others, 1.0)))
        more = count > config.times * others and count - others > config.connections and share > 2 * entry.usual
        fewer = 2 * config.times * count < others and others - count > config.connections and entry.usual > _ONE // 2
        if entry.learned < config.learning or not (more or fewer):
            entry.more = entry.fewer = 0
            if count + others >= config.connections:
                entry.usual += (share - entry.usual) // _PACE if entry.learned else share
                entry.learned += 1
            return None
        entry.more, entry.fewer = (entry.more + 1) * more, (entry.fewer + 1) * fewer
        odd = max(entry.more, entry.fewer)
        return self._finding(view, minute, each, told, entry, odd) if odd >= config.minutes else None

    def _finding(self, view: TickView, minute: int, each: Shares, told: tuple[str, int, float], entry: _Replica,
                 odd: int) -> Finding:  # fmt: skip
        ip, count, others = told
        config, more = self.config, entry.more > 0
        limit = config.times * others if more else others / (2 * config.times)
        ratio = count / max(limit, 1.0) if more else limit / max(count, 1)
        peers = [peer for peer in each.counts if peer != ip][: MAX_ENDPOINTS - 1]
        usual = entry.usual / _ONE
        return Finding(
            detector=self.meta.id, kind=self.meta.id, title=self.meta.title, severity="medium" if more else "low",
            confidence=confidence(ratio, 1.0), tick=minute, started=minute - 60 * (odd - 1), node="",
            subject=f"{each.workload}/{ip}", victims=tuple(view.endpoint(peer, minute) for peer in (ip, *peers)),
            techniques=self.meta.techniques,
            evidence=(
                Evidence(name="new_connections" if more else "missing_connections",
                         value=count if more else round(others - count, 1),
                         limit=round(limit if more else others - limit, 1), unit="connections", window=60),
                Evidence(name="peers_mean", value=round(others, 1), unit="connections", window=60),
                Evidence(name="usual_share", value=usual, unit="of the peers' mean"),
                Evidence(name="odd_minutes", value=odd, limit=config.minutes - 1, unit="minutes"),
            ),
            summary=f"{ip} of {each.workload} got {count} new connections in a minute, the {len(each.counts) - 1} "
                    f"others behind {', '.join(each.services[:3])} {others:.0f} each, for {odd} minutes; it usually "
                    f"gets {usual:.1f} times what they get",
            spoofable=True, data_quality=view.quality[""], response=self.meta.response, quiet=180,
        )  # fmt: skip

    def snapshot(self) -> dict[str, npt.NDArray[Any]]:
        """Return what is usual for each replica."""
        return {"replicas": self._replicas.snapshot(), "last": np.array([self._last], np.int64)}

    def restore(self, state: dict[str, npt.NDArray[Any]]) -> None:
        """Take in what ``snapshot`` gave."""
        self._replicas.restore(state["replicas"])
        self._last = int(state["last"][0])
