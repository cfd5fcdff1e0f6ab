"""The engine by detector set: none, each alone, all; the whole composition, without a broker.

Messages are decoded beforehand, so the figures are those of detect → correlate → episodes → incidents →
decide; the ratio says how far they stay below the decode ceiling taken in the same run.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from benchmarks.decode import read_columns
from benchmarks.generate import Shape, ordinary
from benchmarks.stopwatch import Taken, best, timed
from detectors.registry import detector_classes
from detectors.settings import EngineSettings
from schemas.event_codec import EventMessage, encode
from stream.collector import calm_collector
from stream.pipeline import Pipeline
from stream.stages import Parts, PipelineSettings

NODES = 8
ROWS = 2000
MANY = 32
BATCHES = (1, NODES)  # messages fed at once: as an agent does, and a second of all nodes together
# One partition: how work is spread over partitions is the broker's business, not the engine's.
_ENGINE = EngineSettings(event_partitions=1)


def detector_sets() -> dict[str, tuple[str, ...]]:
    """Return the enabled detectors by name of the set."""
    names = tuple(detector_classes())
    return {"none": (), **{name: (name,) for name in names}, "all": names}


def settings(enabled: Sequence[str]) -> PipelineSettings:
    """Return default settings with only these detectors enabled."""
    return PipelineSettings(
        engine=_ENGINE, detectors={name: {"enabled": name in enabled} for name in detector_classes()}
    )


def feed(messages: Sequence[EventMessage], enabled: Sequence[str], batch: int) -> int:
    """Run messages through a fresh pipeline; returns the number of alert revisions."""
    calm_collector()
    pipeline = Pipeline(Parts(settings(enabled)))
    return sum(len(output.alerts) for output in pipeline.run(messages, batch))


def stage_one(messages: Sequence[EventMessage], batch: int) -> None:
    """Feed only the detect stage, all detectors on: what is left of the rest is what stage 2 costs."""
    stage = Parts(settings(tuple(detector_classes()))).detect(0)
    for first in range(0, len(messages), batch):
        stage.feed(messages[first : first + batch])


def run(seconds: int = 65, seed: int = 1, repeats: int = 2, rows: int = ROWS) -> dict[str, Any]:
    """Measure every detector set.

    Args:
        seconds: event time; above 60 the rows of the models fall due once.
        seed: of the traffic.
        repeats: runs of which the best counts.
        rows: flow rows a message.

    Returns:
        The decode ceiling and, by set and batch, flow rows per second and their ratio to it.
    """
    shape = Shape(NODES, seconds, rows)
    messages = list(ordinary(shape, seed))
    ceiling = _ceiling(messages, repeats)

    def entry(taken: Taken) -> dict[str, Any]:
        return {
            "flows_per_second": taken.rates(shape.flows),
            "to_ceiling": round(ceiling.cpu / taken.cpu, 3),
        }

    sets: dict[str, Any] = {}
    for name, enabled in detector_sets().items():
        sets[name] = {str(b): entry(best(partial(feed, messages, enabled, b), repeats)) for b in BATCHES}
    sets["all, detect stage only"] = {str(b): entry(best(partial(stage_one, messages, b), repeats)) for b in BATCHES}
    sets["all, many nodes"] = {str(MANY): _many(Shape(MANY, seconds, rows), seed, ceiling.rates(shape.flows))}
    alerts = feed(messages, tuple(detector_classes()), NODES)
    return {"flows": shape.flows, "rows_a_message": rows, "alerts": alerts,
            "decode_per_second": ceiling.rates(shape.flows), "sets": sets}  # fmt: skip


def _many(shape: Shape, seed: int, ceiling: dict[str, Any]) -> dict[str, Any]:
    """Return the figures of a second of many nodes at once, as a worker feeds them; one run."""
    messages = list(ordinary(shape, seed))
    taken = timed(partial(feed, messages, tuple(detector_classes()), shape.nodes))[0]
    rates = taken.rates(shape.flows)
    return {"flows_per_second": rates, "to_ceiling": round(rates["per_cpu_second"] / ceiling["per_cpu_second"], 3)}


def _ceiling(messages: Sequence[EventMessage], repeats: int) -> Taken:
    values = [encode(m) for m in messages]
    runs = [timed(lambda: sum(read_columns(v) for v in values))[0] for _ in range(repeats)]
    return min(runs, key=lambda taken: taken.cpu)
