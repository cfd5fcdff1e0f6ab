"""Service enumeration: a source finds out what there is by asking DNS servers and web servers for it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import Field

from detectors.asked_lately import AskedLately
from detectors.base import DetectorConfig, Meta, TickView, confidence
from detectors.claim_detector import Address, ClaimDetector, address_text
from detectors.dns_frame import DnsFrame
from detectors.guessed_names import (
    HOST,
    REVERSE,
    SERVICE,
    TRANSFER,
    Question,
    guess_keys,
    is_guess,
    question_keys,
    questions,
    reverse_place,
    telling,
)
from detectors.http_frame import HttpFrame
from detectors.index import I64, positions
from detectors.lately import Lately
from detectors.ledger import Entry, Key
from detectors.mixing import hash_text
from detectors.name_guesses import scope_of
from detectors.outside import is_outside
from detectors.recent_elements import KEPT, add_elements, began, holds
from detectors.round_frames import RoundFrames
from detectors.row_frame import row_keys
from detectors.statement import count
from schemas.events import Capability
from schemas.finding import MAX_ENDPOINTS, Endpoint, Evidence, Finding, Severity
from schemas.roles import SHARED

PATHS, SERVICES = "web_paths", "web_services"
_SIGNS = (TRANSFER, REVERSE, SERVICE, HOST, PATHS, SERVICES)
_TECHNIQUES = {
    TRANSFER: ("T1590.002", "T1018"), REVERSE: ("T1018",), SERVICE: ("T1046",), HOST: ("T1590.002",),
    PATHS: ("T1595.003", "T1046"), SERVICES: ("T1046",),
}  # fmt: skip
# Answers that say that nothing is there, or nothing for everybody. Not 401: who is asked for a password asks again.
_NOTHING_THERE = (400, 403, 404, 405, 410, 414, 501)
_PER_TICK = 1024  # different questions of a node that are looked at in one tick
_GUESSES = 1 << 16  # guessed names of one node that are kept; 2 MB
_SHOWN = 120  # characters of a name in a sentence
_NEAR, _LAST = 2, 8  # a step of a walk: at most so far from one of the last addresses asked for
_EXEMPT = SHARED | {"resolver", "monitoring_scraper", "vulnerability_scanner"}


class _Asked(NamedTuple):
    """One thing asked for; ``scope`` is what it is counted within, ``what`` what is counted."""

    sign: str
    client: Address
    server: Address
    port: int
    scope: str
    what: int
    answered: bool


class _Guessed(NamedTuple):
    """Names that one client guessed in a tick, and the elements of all that it did within the scope lately."""

    group: list[_Asked]
    kept: list[int]


@dataclass
class _Search(Entry):
    """What one client asked for within one scope lately, and of a walk: its steps and the last numbers."""

    asked: list[int] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)
    last: list[int] = field(default_factory=list)


class ServiceEnumerationConfig(DetectorConfig):
    """Limits of ``service_enumeration``."""

    reverse_steps: Annotated[int, Field(ge=4, lt=256)] = Field(
        40, description="reverse names of one network, asked for one address after the other within the window (count)"
    )
    service_names: Annotated[int, Field(ge=1, lt=KEPT)] = Field(
        30, description="names of cluster services that do not exist, asked within the window (count)"
    )
    host_names: Annotated[int, Field(ge=1, lt=KEPT)] = Field(
        100, description="host names directly below one zone that do not exist, asked within the window (count)"
    )
    paths: Annotated[int, Field(ge=1, lt=KEPT)] = Field(
        150, description="paths of one web server that it does not have or give, asked within the window (count)"
    )
    services: Annotated[int, Field(ge=1, lt=KEPT)] = Field(
        15, description="web services new to a workload that do not have or give what it asks within the window (count)"
    )
    window: Annotated[int, Field(ge=2)] = Field(60, description="s")
    settle: Annotated[int, Field(ge=0)] = Field(
        600, description="s after which a workload that still transfers a zone does it by habit: it mirrors the zone"
    )
    learning: Annotated[int, Field(ge=1)] = Field(
        3600, description="s that a node is watched before new web services are of medium severity"
    )
    memory: Annotated[int, Field(ge=3600)] = Field(
        1_209_600, description="s that a workload's services and transfers are remembered; covers weekly jobs"
    )


class ServiceEnumeration(ClaimDetector):
    """Fires per client and way of asking. Clients that answer DNS questions themselves are not judged by theirs."""

    meta = Meta(
        id="service_enumeration",
        title="Service enumeration",
        stage=1,
        severity="medium",
        techniques=("T1046", "T1018", "T1590.002", "T1595.003"),
        needs=Capability.DNS | Capability.DNS_ANSWERS,
        blind="enumeration of services is not seen: the source does not report answers to DNS queries",
        response="quarantine_pod",
    )
    Config: ClassVar[type[DetectorConfig]] = ServiceEnumerationConfig
    config: ServiceEnumerationConfig
    state_version: ClassVar[int] = 2

    def __init__(self, config: DetectorConfig | None = None) -> None:
        super().__init__(config)
        own = self.config
        self._searches = self.ledger("searches", _Search, 1024, own.window)
        self._guessed = AskedLately(own.window)
        self._transfers = self.ledger("transfers", Entry, 256, own.memory)
        self._known = self.ledger("known", Entry, 8192, own.memory)
        self._watched = self.ledger("watched", Entry, 8, own.memory)
        self._limits = {
            REVERSE: own.reverse_steps, SERVICE: own.service_names, HOST: own.host_names, PATHS: own.paths,
            SERVICES: own.services,
        }  # fmt: skip
        # Who asks the same again in the same window adds nothing to what is distinct in it.
        self._lately = Lately(1 << 16, own.window)

    def observe(self, frames: RoundFrames) -> None:
        """Take in questions and requests that look for something."""
        found: dict[tuple[int, int], list[_Asked]] = {}
        dns = frames.questions
        if dns is not None:
            rows = telling(dns)
            rows = rows[self._lately.fresh(question_keys(dns, rows), dns.tick[rows])]
            rows = self.heads(dns.node[rows], rows, min(_PER_TICK, max(1, _GUESSES // self.config.window)))
            guesses = is_guess(dns, rows)
            self._questions(dns, rows[~guesses], found)
            self._guesses(dns, rows[guesses], frames.names)
        if frames.http is not None:
            self._requests(frames.http, found)
        for (node, tick), asked in sorted(found.items()):
            self._noted.append((frames.names[node], node, tick, asked))

    @staticmethod
    def _questions(dns: DnsFrame, rows: I64, found: dict[tuple[int, int], list[_Asked]]) -> None:
        """Take in zone transfers and reverse names."""
        places = zip(dns.node[rows].tolist(), dns.tick[rows].tolist(), strict=True)
        for place, one in zip(places, map(_of_question, questions(dns, rows)), strict=True):
            if one is not None:
                found.setdefault(place, []).append(one)

    def _guesses(self, dns: DnsFrame, rows: I64, names: Sequence[str]) -> None:
        """Count guessed names, and note those whose client guesses too much within one scope."""
        nodes, ticks, keys = dns.node[rows], dns.tick[rows], guess_keys(dns, rows)
        counts = self._guessed.add(nodes, ticks, keys, dns.book.name_hashes[dns.name[rows]])
        many = positions(counts > min(self._limits[SERVICE], self._limits[HOST]))
        if not len(many):
            return
        groups: dict[int, list[_Asked]] = {}
        for key, question in zip(keys[many].tolist(), questions(dns, rows[many]), strict=True):
            one = _of_question(question)
            if one is not None:
                groups.setdefault(key, []).append(one)
        places = dict(
            zip(keys[many].tolist(), zip(nodes[many].tolist(), ticks[many].tolist(), strict=True), strict=True)
        )
        for key, group in groups.items():
            node, tick = places[key]
            kept = self._guessed.elements(key, tick)
            if len(kept) > self._limits[group[0].sign]:
                self._noted.append((names[node], node, tick, _Guessed(group, kept)))

    def _requests(self, http: HttpFrame, found: dict[tuple[int, int], list[_Asked]]) -> None:
        for node, tick in http.heard():
            self._watched.touch(node, (0,), tick)
        status = http.status
        failed = np.isin(status, _NOTHING_THERE)
        if not failed.any():
            return
        inside = ~is_outside(*http.dst)
        columns = (*http.src, *http.dst, http.dst_port, http.text_hashes("path_shape"))
        for node, tick, rows in http.ticks(failed):
            first = self.pieces(columns, node, rows)
            asked = found.setdefault((node, tick), [])
            for a, b, c, d, port, path in zip(*(column[first].tolist() for column in columns), strict=True):
                asked.append(_Asked(PATHS, (a, b), (c, d), port, f"{c:x}.{d:x}:{port}", path, answered=False))
            # One request tells of a service as well as many.
            services = self.pieces(columns[:-1], node, first[inside[first]])
            hashes = row_keys(columns[2:-1], services).tolist()
            asked += [
                _Asked(SERVICES, (a, b), (c, d), port, "", service, answered=False)
                for a, b, c, d, port, service in zip(
                    *(column[services].tolist() for column in columns[:-1]), hashes, strict=True
                )
            ]

    def snapshot(self) -> dict[str, npt.NDArray[Any]]:
        """Return the ledgers, and what was asked lately."""
        return super().snapshot() | self._lately.snapshot() | self._guessed.snapshot()

    def restore(self, state: dict[str, npt.NDArray[Any]]) -> None:
        """Take in what ``snapshot`` gave.

        Raises:
            ValueError: it is damaged.
        """
        super().restore(state)
        self._lately.restore(state)
        self._guessed.restore(state)

    def judge(self, view: TickView, noted: Any) -> list[Finding]:
        """Count what one node's clients asked in a tick, and return findings about those who asked too much."""
        name, node, tick, asked = noted
        if isinstance(asked, _Guessed):
            who = view.endpoint(address_text(asked.group[0].client), tick)
            if _EXEMPT.intersection(who.roles):
                return []
            return [self._finding(view, (name, node, tick), who, asked.group, _Search(asked=asked.kept))]
        by: dict[tuple[str, Address, str], list[_Asked]] = {}
        for one in asked:
            by.setdefault((one.sign, one.client, one.scope), []).append(one)
        found = []
        for (sign, client, scope), group in by.items():
            if sign in (TRANSFER, SERVICES):
                who = view.endpoint(address_text(client), tick)
                if _EXEMPT.intersection(who.roles):
                    continue
                if sign == TRANSFER:
                    found += self._transferred(view, (name, node, tick), who, group)
                    continue
                group = [one for one in group if self._new(view, (node, tick), who, one)]
            key = (_SIGNS.index(sign), *client, hash_text(scope))
            search = self._search(node, tick, key, group) if group else None
            if search is not None:
                # Who it is costs more than to count, so it is asked for last.
                who = view.endpoint(address_text(client), tick)
                if not _EXEMPT.intersection(who.roles):
                    found.append(self._finding(view, (name, node, tick), who, group, search))
        return found

    def _search(self, node: int, tick: int, key: Key, group: list[_Asked]) -> _Search | None:
        """Take in what was asked within one scope; return the search if that is too much."""
        window, sign = self.config.window, group[0].sign
        search = self._searches.touch(node, key, tick)
        if sign == REVERSE:
            for one in group:
                near = any(abs(one.what - number) <= _NEAR for number in search.last)
                if not holds(search.asked, one.what):
                    if near:
                        search.steps = add_elements(search.steps, tick, window, (one.what,))
                    search.asked = add_elements(search.asked, tick, window, (one.what,))
                    search.last = [*search.last, one.what][-_LAST:]
            search.asked = add_elements(search.asked, tick, window, ())
            search.steps = add_elements(search.steps, tick, window, ())
            return search if len(search.steps) > self._limits[REVERSE] else None
        search.asked = add_elements(search.asked, tick, window, (one.what for one in group))
        return search if len(search.asked) > self._limits[sign] else None

    def _new(self, view: TickView, at: tuple[int, int], who: Endpoint, one: _Asked) -> bool:
        """Tell whether a service was unknown to its client until lately; from now on it is known."""
        node, tick = at
        to = view.endpoint(address_text(one.server), tick)
        what = to.service or (f"{to.namespace}/{to.workload}" if to.workload else to.ip)
        key = (hash_text(_name(who)), hash_text(f"{what}:{one.port}"))
        return tick - self._known.touch(node, key, tick).since < self.config.window

    def _transferred(
        self, view: TickView, at: tuple[str, int, int], who: Endpoint, group: list[_Asked]
    ) -> list[Finding]:
        _, node, tick = at
        answered = any(one.answered for one in group)
        entry = self._transfers.touch(node, (hash_text(_name(who)), *group[0].server), tick)
        if tick - entry.since > self.config.settle:
            return []
        search = _Search(since=entry.since, asked=[entry.since << 32])
        return [self._finding(view, at, who, group, search, "high" if answered else "medium")]

    def _finding(self, view: TickView, at: tuple[str, int, int], who: Endpoint, group: list[_Asked],
                 search: _Search, severity: Severity = "medium") -> Finding:  # fmt: skip
        name, node, tick = at
        sign, window = group[0].sign, self.config.window
        watched = self._watched.get(node, (0,), tick)
        if sign == SERVICES and (watched is None or tick - watched.since <= self.config.learning):
            severity = "low"  # nobody knows yet what this client does every day
        kept = search.steps if sign == REVERSE else search.asked
        value, limit = (len(group), 0) if sign == TRANSFER else (len(kept), self._limits[sign])
        servers = _servers(view, group, tick)
        return Finding(
            detector=self.meta.id, kind=self.meta.id, title=self.meta.title, severity=severity,
            confidence=0.8 if sign == TRANSFER else confidence(value, limit), tick=tick, started=began(kept),
            node=name, subject=f"{who.ip}@{name}/{sign}", attackers=(who,), victims=servers,
            techniques=_TECHNIQUES[sign],
            evidence=(Evidence(name=sign, value=value, limit=limit, unit=_UNITS[sign],
                               window=None if sign == TRANSFER else window),),
            summary=f"{who.ip} {_summary(sign, value, servers, group)} within {window} s, limit {count(limit)}"
            if sign != TRANSFER else f"{who.ip} {_summary(sign, value, servers, group)}",
            # A question over UDP may bear any address; a request is preceded by a handshake.
            spoofable=sign in (REVERSE, SERVICE, HOST), data_quality=view.quality[name],
            response=self.meta.response if severity != "low" else None, quiet=120,
        )  # fmt: skip


_UNITS = {
    TRANSFER: "zones", REVERSE: "addresses", SERVICE: "names", HOST: "names", PATHS: "paths", SERVICES: "services",
}  # fmt: skip


def _summary(sign: str, value: int, servers: tuple[Endpoint, ...], group: list[_Asked]) -> str:
    server, scope = servers[0].ip, group[0].scope[:_SHOWN]
    return {
        TRANSFER: f"asked {server} for the whole zone {scope!r}, which it "
                  f"{'got' if any(one.answered for one in group) else 'did not get'}",
        REVERSE: f"asked for the names of {count(value)} addresses below {scope!r}, one after the other,",
        SERVICE: f"asked for {count(value)} names of services in {scope!r} that do not exist",
        HOST: f"asked for {count(value)} host names below {scope!r} that do not exist",
        PATHS: f"asked {server}:{servers[0].port} for {count(value)} different paths that it does not have or give",
        SERVICES: f"asked {count(value)} web services, new to it, for what they do not have or give",
    }[sign]  # fmt: skip


def _of_question(question: Question) -> _Asked | None:
    sign, name = question.sign, question.name
    place = reverse_place(name) if sign == REVERSE else (name, 0)
    if place is None:
        return None
    scope, what = place
    if sign in (SERVICE, HOST):
        scope = scope_of(name)
    return _Asked(sign, question.client, question.server, 53, scope, what, question.answered)


def _servers(view: TickView, group: Iterable[_Asked], tick: int) -> tuple[Endpoint, ...]:
    ends = dict.fromkeys((one.server, one.port) for one in group)
    return tuple(
        view.endpoint(address_text(server), tick, port=port, protocol="TCP" if port != 53 else None)
        for server, port in list(ends)[:MAX_ENDPOINTS]
    )


def _name(who: Endpoint) -> str:
    """Return what stands for a machine: its workload where one is known, so that replicas share what they learned."""
    return f"{who.namespace}/{who.workload}" if who.workload and who.namespace else who.ip
