"""Attackers who get detectors used to them: a week of event time in which an attack grows slowly, in generated rows.

Each attack has a speed. A detector that learns what is usual must find the fast ones, and the page states the speed at
which it does not: nobody can be told from growth who grows as slowly as the honest.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from detectors.models.traffic_anomaly import TrafficAnomaly
from detectors.registry import detector_classes
from schemas.event_codec import EventMessage
from schemas.finding import SEVERITIES, Severity
from schemas.identity import IdentityTable
from schemas.inventory import InventoryObject
from schemas.word import from_iso
from stream.pipeline import Pipeline
from stream.stages import Parts, PipelineSettings
from tests.event_rows import BEGIN, CLOSED, CONVERSATION, Node, Row, flow
from tests.unit.detectors.test_traffic_anomaly import generated, view

MINUTE, HOUR, DAY = 60, 3600, 86_400
POD, FAR, PEERS = "10.0.0.5", "203.0.113.9", tuple(f"10.0.1.{n}" for n in range(1, 5))
Attack = Callable[[float, int], Iterator[EventMessage]]


@dataclass(frozen=True)
class Found:
    """An alert of the detector: when it came (days after the beginning), how grave."""

    day: float
    severity: Severity


@dataclass(frozen=True)
class Ramp:
    """One way to grow, against one detector. ``speeds`` are tried from the fastest; what they mean is ``unit``.

    ``caught`` is a speed that must be found within a week with at least ``severity``; ``hidden`` one that is not, so
    that what the page says about the edge is true from both sides.
    """

    detector: str
    what: str
    unit: str
    attack: Attack | None  # None: feature rows of the model itself
    speeds: tuple[float, ...]
    caught: float
    hidden: float
    severity: Severity = "medium"


def _row(at: int, dst: str, out: int, back: int, port: int = 443) -> Row:
    times = {"start": (BEGIN + at - 1) * 10**9, "end": (BEGIN + at) * 10**9, "conn_start": (BEGIN + at - 1) * 10**9}
    packets = {"src_packets": max(1, out // 1200), "dst_packets": max(1, back // 1200)}
    return flow(POD, dst, port, marks=CONVERSATION | CLOSED, src_bytes=out, dst_bytes=back, **times, **packets)


def uploads(speed: float, days: int) -> Iterator[EventMessage]:
    """An upload an hour to one address outside: 2 MB each on the first day, `speed` times as much on each next one."""
    node, chance = Node(), random.Random(3)
    for hour in range(days * 24):
        at = (hour + 1) * HOUR
        size = int(2e6 * speed ** (hour // 24) * chance.uniform(0.9, 1.0))
        yield node.second(at, flows=[_row(at, FAR, size, 4000)])


def _traffic(speed: float, days: int) -> Iterator[tuple[float, Severity]]:
    """A workload's minutes: usual levels with noise and a daily swing, and `speed` times the bytes a day later."""

    def grow(minute: int, level: dict[str, float]) -> None:
        factor = speed ** (max(0, minute - 240) / 1440)
        for name in ("bytes_out", "packets_out"):
            level[name] *= factor

    model = TrafficAnomaly()
    for minute, sums in enumerate(generated(days * 1440, grow, swing=0.3)):
        for finding in model.evaluate(view(minute, [(POD, sums)])):
            yield round(minute / 1440, 2), finding.severity


def calls(speed: float, days: int) -> Iterator[EventMessage]:
    """Calls to one address outside, 15 min apart: random at first, each day with `speed` times the former spread."""
    node, chance, at = Node(), random.Random(5), 0.0
    while at < days * DAY:
        spread = min(1.0, speed ** (at / DAY))
        at += 900 * (1 - spread) + spread * chance.expovariate(1 / 900)
        yield node.second(int(at) + 1, flows=[_row(int(at) + 1, FAR, 600, 900)])


def logins(speed: float, days: int) -> Iterator[EventMessage]:
    """A pod that begins to log in to others: `speed` hosts an hour that it never spoke to, evenly."""
    node, begin = Node(), DAY + HOUR
    yield node.second(MINUTE, flows=[_row(MINUTE, PEERS[0], 5000, 5000, 80)])
    for host in range(int((days * DAY - begin) / HOUR * speed)):
        at = begin + int(host * HOUR / speed)
        yield node.second(at, flows=[_row(at, f"10.1.{host >> 8}.{host & 255}", 3000, 4000, 22)])


def play(ramp: Ramp, speed: float, days: int = 7) -> Found | None:
    """Return the detector's first alert that is grave enough, else its first; None: nothing within the week."""
    told = _traffic(speed, days) if ramp.attack is None else _alerts(ramp.detector, ramp.attack(speed, days))
    first: Found | None = None
    for day, severity in told:
        found = Found(day, severity)
        first = first or found
        if is_caught(ramp, found):
            return found
    return first


def _alerts(detector: str, messages: Iterator[EventMessage]) -> Iterator[tuple[float, Severity]]:
    inventory = [InventoryObject(kind="Pod", uid="p", namespace="shop", name="p", ips=(POD,), workload="Deployment/p")]
    # A week has ten thousand minutes: the other detectors, which know no baseline, are left out.
    others = {name: {"enabled": False} for name in detector_classes() if name != detector}
    for output in Pipeline(Parts(PipelineSettings(detectors=others), IdentityTable(inventory))).run(messages):
        for alert in output.alerts:
            if alert.detector == detector and POD in {end.ip for end in alert.attackers}:
                yield round((from_iso(alert.detected_at) - BEGIN) / DAY, 2), alert.severity


def is_caught(ramp: Ramp, found: Found | None) -> bool:
    """Tell whether what was found is grave enough for this ramp."""
    return found is not None and SEVERITIES.index(found.severity) >= SEVERITIES.index(ramp.severity)


RAMPS = (
    Ramp("exfiltration", "hourly uploads grow", "times a day", uploads, (6, 4, 3, 2, 1.7, 1.5, 1.4, 1.3), 2, 1.3),
    Ramp("traffic_anomaly", "bytes out of a workload grow", "times a day", None, (8, 4, 2, 1.7, 1.5, 1.3), 4,
         1.3, "low"),
    Ramp("beacon", "calls at random become regular", "times the spread of the day before", calls,
         (0.05, 0.2, 0.4, 0.6, 0.8, 0.9), 0.4, 0.9),
    Ramp("lateral_movement", "a pod logs in to hosts new to it", "new hosts an hour", logins,
         (60, 30, 24, 1), 60, 1),
)  # fmt: skip
