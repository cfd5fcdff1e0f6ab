"""How an anomaly is put into words: which features drove it, their values against what is usual."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from detectors.base import Meta, TickView, confidence
from detectors.models.windows import FEATURES, SECONDS, natural
from detectors.statement import count
from schemas.finding import MAX_ENDPOINTS, Endpoint, Evidence, Finding, Severity

F64 = npt.NDArray[np.float64]

_NAMED = 3  # features that are told, the strongest first
_QUIET = 300  # s; as long as the windows that an anomaly is looked for in


@dataclass(frozen=True)
class Judgement:
    """One workload's window that fired."""

    minute: int
    name: str
    members: list[str]
    x: F64  # (COUNT,)
    center: F64
    spread: F64
    up: F64  # robust z upwards
    score: float
    limit: float
    tree_score: float
    odd_windows: int


def step_finding(meta: Meta, view: TickView, judged: Judgement) -> Finding:
    """Return the finding for windows that are far from usual."""
    order = np.argsort(-judged.up, kind="stable")
    # Where the trees agreed, a part of the limit was enough: what is told is what had to be exceeded.
    peak = float(judged.up.max())
    needed = judged.limit * peak / judged.score
    drove = [int(i) for i in order if judged.up[i] > needed][:_NAMED]
    evidence, told = [], []
    for place in drove:
        feature = FEATURES[place]
        value, usual = natural(place, judged.x[place]), natural(place, judged.center[place])
        # The value is compared with what is usual at this hour, so the limit follows from the deviation.
        base = judged.x[place] - judged.up[place] * judged.spread[place]
        limit = natural(place, base + needed * judged.spread[place])
        evidence.append(Evidence(name=feature.name, value=_rounded(value), limit=_rounded(limit), unit=feature.unit,
                                 window=SECONDS))  # fmt: skip
        evidence.append(Evidence(name=f"usual_{feature.name}", value=_rounded(usual), unit=feature.unit,
                                 window=SECONDS))  # fmt: skip
        told.append(f"{feature.name} {_text(value)} (usual {_text(usual)}, limit {_text(limit)})")
    evidence.append(Evidence(name="robust_z", value=_rounded(peak), limit=_rounded(needed), unit="spreads"))
    evidence.append(Evidence(name="odd_windows", value=judged.odd_windows, unit="of the last 5 minutes"))
    if judged.tree_score:
        evidence.append(Evidence(name="tree_score", value=_rounded(judged.tree_score)))
    summary = f"{judged.name}: per replica and minute {', '.join(told)}; {judged.odd_windows} of the last 5 minutes odd"
    first = judged.minute - SECONDS * judged.odd_windows
    return _finding(meta, view, judged, drove, evidence, summary, first, meta.severity)


def ramp_finding(meta: Meta, view: TickView, judged: Judgement, excess: F64, reference: F64) -> Finding:
    """Return the finding for a baseline that crept away from its frozen reference."""
    order = np.argsort(-excess, kind="stable")
    drove = [int(i) for i in order if excess[i] > 0][:_NAMED]
    evidence, told = [], []
    for place in drove:
        feature = FEATURES[place]
        now, before = natural(place, judged.center[place]), natural(place, reference[place])
        limit = natural(place, judged.center[place] - excess[place])
        evidence.append(Evidence(name=feature.name, value=_rounded(now), limit=_rounded(limit), unit=feature.unit,
                                 window=SECONDS))  # fmt: skip
        evidence.append(Evidence(name=f"reference_{feature.name}", value=_rounded(before), unit=feature.unit,
                                 window=SECONDS))  # fmt: skip
        told.append(f"{feature.name} {_text(now)} (reference {_text(before)}, limit {_text(limit)})")
    summary = f"{judged.name}: the usual values have crept up, per replica and minute: {', '.join(told)}"
    return _finding(meta, view, judged, drove, evidence, summary, judged.minute - SECONDS, "low")


def _finding(meta: Meta, view: TickView, judged: Judgement, drove: list[int], evidence: list[Evidence],
             summary: str, started: int, severity: Severity) -> Finding:  # fmt: skip
    ends: tuple[Endpoint, ...] = tuple(view.endpoint(ip, judged.minute) for ip in judged.members[:MAX_ENDPOINTS])
    outward = any(FEATURES[place].outward for place in drove)
    return Finding(
        detector=meta.id,
        kind=meta.id,
        title=meta.title,
        severity=severity,
        confidence=min(0.9, confidence(judged.score, judged.limit)),  # unusual is not yet hostile
        tick=judged.minute,
        started=max(0, started),
        node="",
        subject=judged.name,
        attackers=ends if outward else (),
        victims=() if outward else ends,
        techniques=tuple(dict.fromkeys(FEATURES[place].technique for place in drove)),
        evidence=tuple(evidence),
        summary=summary,
        spoofable=True,  # sums over many flows; a neighbour's packets under a false address would count too
        data_quality=view.quality[""],
        response=meta.response,
        quiet=_QUIET,
    )


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")


def _text(value: float) -> str:
    return count(value) if value >= 100 else f"{value:.3g}"
