"""The feature plan as text, with what it costs on this machine."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from detectors.base import Detector
from detectors.features import Distinct, Feature
from detectors.hashing import mix
from detectors.plan import FeaturePlan, PlanLine
from detectors.spaces import SPACES
from detectors.table import SpaceTable
from sluicegate.terminal import cell, console, wrapped

_KEYS = 20_000  # measured with: more than the processor's nearest caches hold, as on a busy node
_TICKS = 5


def feature_text(feature: Feature) -> str:
    """Return a feature as one phrase: aggregate, window and bucket."""
    how = feature.aggregate
    if isinstance(how, Distinct):
        what = f"distinct {how.element} over {how.measure}" + (f" less {how.cancel}" if how.cancel else "")
        what += f", at most {how.cap:,}"
    else:
        what = f"sum of {how.measure}"
    return f"{feature.name}: {what}, {feature.window} s in buckets of {feature.bucket} s"


def nanoseconds_per_key(line: PlanLine) -> float:
    """Measure what one key touched in one tick costs: found, moved on, all sums and one element per count."""
    table = SpaceTable(SPACES[line.space], line.features)
    keys = mix(np.arange(1, _KEYS + 1, dtype=np.uint64))
    ones, nothing = np.ones(_KEYS, np.int64), np.zeros(_KEYS, np.bool_)
    sums = {f: ones for f in line.features if not isinstance(f.aggregate, Distinct)}
    took = []
    for tick in range(1000, 1000 + _TICKS):
        ticks = np.full(_KEYS, tick, np.int64)
        begin = time.process_time()
        slots = table.touch(keys, ticks, lambda _: {})
        table.add(slots, ticks, sums)
        for feature in line.features:
            if isinstance(feature.aggregate, Distinct):
                table.add_elements(feature, slots, ticks, keys, nothing)
        took.append(time.process_time() - begin)
    # The first tick admits all keys, which happens once in a key's life.
    return min(took[1:]) / _KEYS * 1e9


def print_plan(detectors: Sequence[Detector]) -> None:
    """Print the merged features by key space, how rows are grouped for them, and what they cost."""
    out = console()
    lines = FeaturePlan(detectors).lines()
    for line in lines:
        out.print(cell(f"{line.space}: {SPACES[line.space].meaning} (stage {line.stage})", "bold"))
        out.print(cell(f"  one key per tick, {', '.join(line.grouped)}"))
        full = (line.bytes_per_key * line.capacity + line.pair_bytes) / 1e6
        cost = f"{line.bytes_per_key:,} B and {nanoseconds_per_key(line):,.0f} ns a key touched"
        out.print(cell(f"  {cost}; at most {line.capacity:,} keys ({full:,.0f} MB with their elements)"))
        for feature in line.features:
            for text in wrapped(feature_text(feature), "  "):
                out.print(cell(text))
    asked, computed = sum(len(d.features()) for d in detectors), sum(len(line.features) for line in lines)
    out.print(cell(f"{len(detectors)} detectors and rules ask for {asked} features; {computed} are computed"))
    flow = [line.space for line in lines if line.stage == 1 and not line.space.startswith("dns")]
    text = (
        "Flow rows are grouped once, by tick, source, destination and service; those groups once more for each of "
        f"{', '.join(flow) or 'no space'}. Groups are found by hashing: no row is sorted."
    )
    for part in wrapped(text, ""):
        out.print(cell(part))
