"""Attacks on the engine's own memory: a million spoofed sources, a million names, all ports of a host, in a minute.

Beside each a scanner and a client that calls home regularly must be found all the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.generate import Shape, ordinary
from detectors.registry import detector_classes
from schemas.alert import Alert
from schemas.event_codec import EventMessage
from tests.torture.answer import Answer, replayed
from tests.torture.attacks import (
    FLOODED,
    LEAKER,
    RESOLVER,
    SCANNER,
    ZONE,
    Attack,
    injected,
    pod,
    scan,
    syn_flood,
)
from tests.torture.inputs import Log, closed
from tests.torture.kafka_run import through_kafka
from tests.torture.rows import attempts, conversations, ip4, lookups, random_names

MEMORY_LIMIT_MB = 1024
SECONDS = 60
_NODES, _ROWS = 4, 50
_BEACON, _BEACON_EVERY_S, _BEACON_TO = 207, 10, ip4(203, 0, 113, 77)
_AFTER_S = 30
_CLIENTS = 1000
ALL_PORTS = 65_535


@dataclass(frozen=True)
class Wanted:
    """An alert that must be there; `exactly` one episode where it is set, else at least one."""

    detector: str
    address: str
    exactly: int | None = 1

    def judged(self, alerts: list[Alert]) -> dict[str, Any]:
        """Return how many episodes of the detector are about the address, and whether that is right."""
        found = {a.id for a in alerts if a.detector == self.detector and self._about(a)}
        good = len(found) == self.exactly if self.exactly is not None else bool(found)
        return {"detector": self.detector, "about": self.address or "anybody", "episodes": len(found), "right": good}

    def _about(self, alert: Alert) -> bool:
        return not self.address or self.address in {end.ip for end in (*alert.attackers, *alert.victims)}


@dataclass(frozen=True)
class Assault:
    """One of the attacks, and what must be found."""

    name: str
    title: str
    attack: Attack
    wanted: tuple[Wanted, ...]


def assaults(lead_s: int, share: float) -> list[Assault]:
    """Return the assaults, `lead_s` seconds of event time after the beginning; `share` scales their numbers."""
    million, ports = int(1_000_000 * share), int(ALL_PORTS * share)
    flooded = ip_text(pod(0, FLOODED))
    leaker = ip_text(pod(0, LEAKER))
    return [
        Assault("spoofed", f"{million:,} spoofed sources in a minute",
                syn_flood(0, lead_s, per_second=million // SECONDS, seconds=SECONDS), (Wanted("syn_flood", flooded),)),
        Assault("names of one", f"{million:,} random DNS names from one client in a minute",
                _names(lead_s, million, clients=1), (Wanted("dns_tunnel", leaker),)),
        Assault("names of many", f"{million:,} random DNS names from {_CLIENTS:,} clients in a minute",
                _names(lead_s, million, clients=_CLIENTS), (Wanted("dns_tunnel", "", exactly=None),)),
        Assault("ports", f"{ports:,} ports of one host in a minute", _ports(lead_s, ports),
                (Wanted("port_scan", leaker),)),
    ]  # fmt: skip


async def run(assault: Assault, bootstrap: str, lead_s: int, seed: int) -> dict[str, Any]:
    """Run one assault through a worker; returns figures, what was and was not found, and `wrong` in words."""
    scanner = scan(1, lead_s + SECONDS // 2)
    wanted = [*assault.wanted, Wanted("port_scan", ip_text(pod(1, SCANNER)))]
    # The client that calls home is in the traffic already; the word is checked once there is a detector for it.
    if "beacon" in detector_classes():
        wanted.append(Wanted("beacon", ip_text(pod(2, _BEACON))))
    attacks = [assault.attack, scanner, _beacon(lead_s + SECONDS + _AFTER_S)]
    shape = Shape(_NODES, lead_s + SECONDS + _AFTER_S, _ROWS)

    def messages() -> Iterator[EventMessage]:
        return closed(injected(ordinary(shape, seed), attacks, seed), shape)

    log = Log(assault.name, assault.title, _NODES, messages)
    reference = replayed(messages())
    figures, answer = await through_kafka(log, reference, bootstrap, workers=1)
    judged = {
        "worker": [one.judged(_alerts(answer)) for one in wanted],
        "replay": [one.judged(_alerts(reference.answer)) for one in wanted],
    }
    wrong = [
        f"{where}: {one['detector']} of {one['about']}: {one['episodes']} episodes"
        for where, each in judged.items()
        for one in each
        if not one["right"]
    ]
    if figures["peak_memory_mb"] >= MEMORY_LIMIT_MB:
        wrong.append(f"the worker took {figures['peak_memory_mb']} MiB, limit {MEMORY_LIMIT_MB}")
    return {"what": assault.title, "rows": reference.rows, **figures, "found": judged,
            "episodes": _episodes(answer), "wrong": wrong}  # fmt: skip


def ip_text(number: np.uint32) -> str:
    """Return an address as text."""
    return ".".join(str(int(number) >> shift & 255) for shift in (24, 16, 8, 0))


def _alerts(answer: Answer) -> list[Alert]:
    return [Alert.decode(value) for value in answer.alerts.values()]


def _episodes(answer: Answer) -> dict[str, int]:
    ids = {(alert.detector, alert.id) for alert in _alerts(answer)}
    names = sorted({detector for detector, _ in ids})
    return {name: sum(detector == name for detector, _ in ids) for name in names}


def _names(begin: int, count: int, clients: int) -> Attack:
    own = pod(0, LEAKER) if clients == 1 else ip4(10, 245, np.arange(clients) // 250, np.arange(clients) % 250 + 1)
    each = count // SECONDS

    def rows(cut: int, second: int, dice: np.random.Generator) -> pa.RecordBatch:
        client = np.resize(own, each)
        return lookups(cut, client, RESOLVER, random_names(each, 30, ZONE, dice), dice)

    return Attack("names", "dns_tunnel", 0, begin, SECONDS, "dns", rows)


def _ports(begin: int, count: int) -> Attack:
    each = -(-count // SECONDS)

    def rows(cut: int, second: int, dice: np.random.Generator) -> pa.RecordBatch:
        ports = np.arange(1 + each * second, 1 + min(each * (second + 1), count))
        return attempts(cut, np.full(len(ports), pod(0, LEAKER)), pod(1, FLOODED), ports, dice)

    return Attack("ports", "port_scan", 0, begin, SECONDS, "flow", rows)


def _beacon(seconds: int) -> Attack:
    """A pod that calls one outside host every ten seconds, and says the same."""

    def rows(cut: int, second: int, dice: np.random.Generator) -> pa.RecordBatch:
        src = np.full(1 if second % _BEACON_EVERY_S == 0 else 0, pod(2, _BEACON))
        return conversations(cut, src, _BEACON_TO, 443, dice)

    return Attack("beacon", "beacon", 2, 0, seconds, "flow", rows)
