"""How surely `dga` tells clients that ask generated names from those that do not, names counted by client.

    python -m benchmarks.dga_quality [names.csv]

Every client asks its names among some that everybody knows. A name counts as found when its client is told. A file of
your own (columns `family` and `domain`; the family `popular` is the honest one) is measured instead where it is given.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from benchmarks import arithmetic_names, honest_names
from detectors.detect import DetectEngine
from detectors.registry import build_detectors
from detectors.settings import EngineSettings
from schemas.addresses import pack, unpack
from schemas.event_codec import EventMessage, rows_to_batch
from schemas.events import CAPTURE_CAPABILITIES, Capability, EventHeader
from schemas.identity import IdentityTable

_BEGIN = 1_700_000_100  # s since epoch
_SECONDS = 60  # over which a client's questions are spread
_CLIENTS = 10  # of each family and kind
_GENERATED, _AMONG = 60, 20  # names of a client that has the malware, and ordinary ones among them
_HONEST = 200  # names of a client that has not
_LIVE = 25  # one generated name in so many exists
_NXDOMAIN = 3


@dataclass(frozen=True)
class Measured:
    """The clients of one family or kind."""

    group: str
    generated: bool
    answers: bool  # the source tells them
    clients: int
    names: int
    found: int  # names of clients that were told, at whatever severity
    alarmed: int  # of those, at medium severity or above


@dataclass(frozen=True)
class _Client:
    group: str
    generated: bool
    questions: tuple[tuple[str, bool], ...]  # name, and whether it exists
    counted: int  # names of the group


def rows(clients: int = _CLIENTS) -> list[Measured]:
    """Measure so many clients of every family and every honest kind, from names alone and with answers."""
    asking = [*_infected(clients), *_honest(clients)]
    return [m for answers in (False, True) for m in _measure(asking, answers)]


def share(measured: Iterable[Measured], *, generated: bool, answers: bool, alarmed: bool = False) -> float:
    """Return which share of the names belongs to clients that were told."""
    chosen = [m for m in measured if m.generated == generated and m.answers == answers]
    return sum(m.alarmed if alarmed else m.found for m in chosen) / max(1, sum(m.names for m in chosen))


def _infected(clients: int) -> Iterator[_Client]:
    for family in arithmetic_names.FAMILIES:
        for seed in range(1, clients + 1):
            yield _client(family, arithmetic_names.names(family, seed, _GENERATED), seed)


def _client(family: str, made: Sequence[str], seed: int) -> _Client:
    ordinary = honest_names.names("popular", seed, _AMONG)
    questions = [(name, number % _LIVE == 0) for number, name in enumerate(made)]
    for place, name in enumerate(ordinary):
        questions.insert(place * 4, (name, True))
    return _Client(family, generated=True, questions=tuple(questions), counted=len(made))


def _honest(clients: int) -> Iterator[_Client]:
    for kind in honest_names.KINDS:
        for seed in range(1, clients + 1):
            asked = honest_names.names(kind, seed, _HONEST)
            questions = tuple((name, _exists(kind, number, name)) for number, name in enumerate(asked))
            yield _Client(kind, generated=False, questions=questions, counted=len(asked))


def _exists(kind: str, number: int, name: str) -> bool:
    if kind == "block_lists":
        return number % 5 == 0  # most addresses are not listed
    return not name.endswith(".local") and number % 50 > 0  # and people mistype


def _measure(clients: Sequence[_Client], answers: bool) -> list[Measured]:
    told = _told([client.questions for client in clients], answers)
    out = []
    for group in dict.fromkeys(client.group for client in clients):
        members = [n for n, client in enumerate(clients) if client.group == group]
        found, alarmed = (
            sum(clients[n].counted for n in members if told.get(n, "") in severities)
            for severities in (("low", "medium"), ("medium",))
        )
        total = sum(clients[n].counted for n in members)
        out.append(Measured(group, clients[members[0]].generated, answers, len(members), total, found, alarmed))
    return out


def _told(clients: Sequence[Sequence[tuple[str, bool]]], answers: bool) -> Mapping[int, str]:
    """Return the gravest severity that each told client was told with."""
    only = [d for d in build_detectors() if d.meta.id == "dga"]
    engine = DetectEngine(0, EngineSettings(), only, IdentityTable())
    told: dict[int, str] = {}
    for message in _messages(clients, answers):
        for tick in engine.feed([message]).ticks:
            for finding in tick.findings:
                if finding.detector == "dga":
                    number = int.from_bytes(pack(finding.attackers[0].ip)[-3:])
                    told[number] = max(told.get(number, "low"), finding.severity)  # "low" < "medium"
    return told


def _messages(clients: Sequence[Sequence[tuple[str, bool]]], answers: bool) -> Iterator[EventMessage]:
    capabilities = CAPTURE_CAPABILITIES if answers else Capability.DNS
    for second in range(_SECONDS):
        asked = [
            _question(client, name, exists, answers)
            for client, questions in enumerate(clients)
            for name, exists in questions[second::_SECONDS]
        ]
        header = EventHeader(
            cluster="names", node="node1", exporter="names", boot="one", sequence=second, cut=_BEGIN + second,
            capabilities=int(capabilities), source="capture", clock="capture",
        )  # fmt: skip
        yield EventMessage(header, {"dns": rows_to_batch("dns", asked, _BEGIN + second)})


def _question(client: int, name: str, exists: bool, answers: bool) -> dict[str, object]:
    row: dict[str, object] = {
        "client": unpack(pack("10.0.0.0")[:13] + client.to_bytes(3)), "server": "192.0.2.53", "qname": name, "qtype": 1,
        "transport": 17, "query_bytes": 40, "rcode": -1,
    }  # fmt: skip
    if answers:
        row |= {"rcode": 0 if exists else _NXDOMAIN, "answer_number": int(exists), "answer_bytes": 80}
    return row


def _of_file(path: str) -> list[Measured]:
    by_family: dict[str, list[str]] = {}
    with open(path, newline="", encoding="utf-8") as lines:
        for line in csv.DictReader(lines):
            by_family.setdefault(line["family"], []).append(line["domain"])
    clients = []
    for family, made in by_family.items():
        if family == "popular":
            pieces = [made[at : at + _HONEST] for at in range(0, len(made), _HONEST)]
            clients += [_Client(family, False, tuple((n, True) for n in piece), len(piece)) for piece in pieces]
        else:
            clients.append(_client(family, made, len(family)))
    return [m for answers in (False, True) for m in _measure(clients, answers)]


def main() -> None:
    """Print the table."""
    measured = _of_file(sys.argv[1]) if len(sys.argv) > 1 else rows()
    print(f"{'family or kind':18} {'answers':8} {'names':>6} {'found':>7} {'medium':>7}")
    for m in measured:
        told = "told" if m.answers else "unknown"
        print(f"{m.group:18} {told:8} {m.names:6} {m.found / m.names:7.1%} {m.alarmed / m.names:7.1%}")
    for generated in (True, False):
        for answers in (False, True):
            found, alarmed = (share(measured, generated=generated, answers=answers, alarmed=a) for a in (False, True))
            what = f"{'generated' if generated else 'honest'} names, answers {'told' if answers else 'unknown'}"
            print(f"{what:40} {found:7.2%} {alarmed:7.2%}")


if __name__ == "__main__":
    main()
