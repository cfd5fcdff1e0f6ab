"""The stages detect, correlate, incidents and decide, each with its state and without a broker.

The agents of the Faust application and `stream.pipeline` run these same stages; only who carries records from one to
the next differs. Only correlate says watermarks: it passes a tick after every detect stage has passed it, and a detect
stage's alerts are durable before its rollups are sent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from alerts.episodes import EpisodeBook
from alerts.exceptions import Exceptions
from alerts.incidents import IncidentBook
from alerts.settings import AlertSettings
from detectors.base import Detector
from detectors.correlate import CorrelateEngine
from detectors.detect import DetectEngine
from detectors.registry import build_detectors
from detectors.rule_detector import rule_detectors
from detectors.rule_file import RuleFile
from detectors.settings import EngineSettings
from detectors.snapshot import Section, SectionError
from response.decide import decide, decide_besides
from response.policyfile import DecisionPolicy, load_policy
from schemas.alert import Alert, AlertRecord, Watermark
from schemas.edge import Edge
from schemas.event_codec import EventMessage
from schemas.identity import IdentityTable
from schemas.incident import Incident
from schemas.response import ResponseDecision
from schemas.rollups import RollupMessage
from schemas.watch import Watch, WatchRow
from stream.inventory_log import InventoryLog, LoggedIdentities
from stream.watch_log import WatchLog

_DECIDED = 8192  # alerts whose decision is remembered


class PipelineSettings(BaseModel):
    """Everything that decides what alerts come out of a log."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    engine: EngineSettings = EngineSettings()
    alerts: AlertSettings = AlertSettings()
    detectors: dict[str, dict[str, Any]] = Field(
        default_factory=dict, description="fields of built-in detectors' configurations to override, by detector id"
    )


@dataclass
class StageOutput:
    """What a stage says about the messages it was fed, in order."""

    alerts: list[Alert] = field(default_factory=list)
    rollups: list[RollupMessage] = field(default_factory=list)
    watermark: Watermark | None = None
    excepted: dict[str, int] = field(default_factory=dict)  # findings by the exception that covered them
    watched: list[WatchRow] = field(default_factory=list)  # what is still seen of contained attacks
    edges: list[Edge] = field(default_factory=list)  # whom workloads talked to


@dataclass
class IncidentOutput:
    """What the incident stage says about the records it was fed, in order."""

    alerts: list[Alert] = field(default_factory=list)
    incidents: list[Incident] = field(default_factory=list)
    excepted: dict[str, int] = field(default_factory=dict)


class Parts:
    """Builds stages that agree on settings, rules and identities."""

    def __init__(self, settings: PipelineSettings, identities: IdentityTable | None = None,
                 rules: RuleFile | None = None, policy: DecisionPolicy | None = None,
                 inventory: InventoryLog | None = None, watches: WatchLog | None = None) -> None:  # fmt: skip
        """Take what stages are made of.

        Args:
            settings: what decides which alerts come out of a log.
            identities: who has an address, known from the start and shared by all stages.
            rules: the operator's.
            policy: the operator's; none: the one that ships.
            inventory: inventory.v1 as it is read; each stage then knows of it what was there for its input.
            watches: actions.v1 as it is read; none: no containment is looked for.
        """
        self.settings = settings
        self.watches = watches
        self.inventory = inventory
        self.identities = identities if identities is not None else IdentityTable()
        self.policy = policy if policy is not None else load_policy()
        self.rules = rules if rules is not None else RuleFile()
        self.identities.declare(self.rules.roles)
        self.detectors()  # a configuration that does not fit is an error at once, not at the first message

    def names(self) -> IdentityTable:
        """Return the names that a new stage begins with."""
        return self.identities if self.inventory is None else LoggedIdentities(self.inventory, self.rules.roles)

    def detectors(self) -> list[Detector]:
        """Return fresh detectors; stages never share their state."""
        built_in = build_detectors(self.settings.detectors, self.settings.engine.seed)
        return [*built_in, *rule_detectors(self.rules.rules)]

    def detect(self, partition: int) -> DetectStage:
        """Return a fresh stage for an event partition."""
        return DetectStage(partition, self)

    def correlate(self, partition: int) -> CorrelateStage:
        """Return a fresh stage for a rollup partition."""
        return CorrelateStage(partition, self)

    def incidents(self) -> IncidentStage:
        """Return a fresh incident stage."""
        return IncidentStage(self)

    def decide(self) -> DecideStage:
        """Return a fresh decide stage."""
        return DecideStage(self.policy)


Sections = Mapping[str, Section]
_BOOK_VERSION = 1
_NAMES_VERSION = 1
_OURS = ("episodes", "inventory")  # sections that the engines do not know


def _opaque(data: bytes) -> npt.NDArray[np.uint8]:
    # As bytes: taken apart, a book's own order of entries would be lost.
    return np.frombuffer(data, np.uint8)


def _paired(names: IdentityTable) -> dict[str, Section]:
    """Return the section that says how much of inventory.v1 a stage knows; none where it knows it otherwise."""
    return {"inventory": Section(_NAMES_VERSION, names.offset)} if names.offset else {}


def _pair_again(names: IdentityTable, sections: Sections) -> None:
    """Know what the former owner knew. Without it a stage learns it with its next message."""
    section = sections.get("inventory")
    if section is not None and section.version == _NAMES_VERSION:
        names.pair(int(section.state))


def _restore_book(name: str, sections: Sections, restore: Callable[[Any], None]) -> list[str]:
    """Give a section to what keeps it; return its name where it starts cold.

    Raises:
        SectionError: it was not taken.
    """
    section = sections.get(name)
    if section is None or section.version != _BOOK_VERSION:
        return [name]
    try:
        restore(section.state)
    except Exception as error:
        raise SectionError(name, error) from error
    return []


class DetectStage:
    """Stage 1 of one event partition, with one book of episodes per node."""

    def __init__(self, partition: int, parts: Parts) -> None:
        self._names, self._inventory, self._watches = parts.names(), parts.inventory, parts.watches
        self._engine = DetectEngine(partition, parts.settings.engine, parts.detectors(), self._names)
        self._settings = parts.settings.alerts
        self._exceptions = Exceptions(parts.rules.exceptions)
        self._books: dict[int, EpisodeBook] = {}

    @property
    def rows(self) -> int:
        """Rows taken in so far."""
        return self._engine.rows

    def feed(self, messages: Sequence[EventMessage]) -> StageOutput:
        """Take messages of the partition in log order."""
        alerts: list[Alert] = []
        rollups: list[RollupMessage] = []
        watched: list[WatchRow] = []
        edges: list[Edge] = []
        for (offset, watches), own in groupby(messages, self._paired):
            self._names.pair(offset)
            self._engine.watcher.watch(watches)
            output = self._engine.feed(list(own))
            rollups += output.rollups
            watched += output.watched
            edges += output.edges
            for tick in output.ticks:
                book = None if tick.first else self._books.get(tick.number)
                if book is None:
                    book = self._books[tick.number] = self._book()
                alerts += book.observe(tick.tick, tick.findings)
        return StageOutput(alerts, rollups, excepted=self._exceptions.taken(), watched=watched, edges=edges)

    def _paired(self, message: EventMessage) -> tuple[int, tuple[Watch, ...]]:
        """Return the offset on inventory.v1 that a message is judged with, and the containments of that moment."""
        if message.appended_ms is None:
            return self._names.offset, ()
        watches = self._watches.at(message.appended_ms) if self._watches is not None else ()
        if self._inventory is None:
            return self._names.offset, watches
        return max(self._names.offset, self._inventory.offset_at(message.appended_ms)), watches

    def _book(self) -> EpisodeBook:
        return EpisodeBook(self._engine.assembler.cluster, self._settings.episodes, self._exceptions)

    def announce_empty(self) -> list[RollupMessage]:
        """Return what tells stage 2 not to wait for this partition; nothing where it has nodes."""
        return self._engine.announce_empty()

    def announce_idle(self) -> list[RollupMessage]:
        """Return what tells stage 2 that nothing comes any more from this partition."""
        return self._engine.announce_idle()

    def counts(self) -> dict[str, int]:
        """Return what the log's clocks did so far, and how many nodes go on, are silent, have ended."""
        return self._engine.counts()

    def table_counts(self) -> dict[str, dict[str, int]]:
        """Return what the table of each key space holds and did not take so far."""
        return self._engine.table_counts()

    def snapshot(self) -> dict[str, Section]:
        """Return the state by section; arrays may be live views, which hold until the stage is fed again."""
        books = {str(n): _opaque(b.snapshot()) for n, b in sorted(self._books.items())}
        return {**self._engine.snapshot(), "episodes": Section(_BOOK_VERSION, books), **_paired(self._names)}

    def restore(self, sections: Sections) -> list[str]:
        """Take in what ``snapshot`` gave, before anything is fed; return the sections that start cold.

        Raises:
            SectionError: a section's content is not what its part keeps.
        """
        _pair_again(self._names, sections)
        cold = self._engine.restore({n: s for n, s in sections.items() if n not in _OURS})
        # Books go by the engine's numbers of nodes.
        kept = {} if "assembler" in cold else sections
        books = _restore_book("episodes", kept, self._restore_books)
        self._engine.note_cold(books)
        return cold + books

    def _restore_books(self, books: Mapping[str, Any]) -> None:
        for number, book in books.items():
            self._books[int(number)] = self._book()
            self._books[int(number)].restore(book.tobytes())


class CorrelateStage:
    """Stage 2 of one rollup partition, with its book of episodes."""

    def __init__(self, partition: int, parts: Parts) -> None:
        self._names = parts.names()
        self._engine = CorrelateEngine(partition, parts.settings.engine, parts.detectors(), self._names)
        self._parts = parts
        self._exceptions = Exceptions(parts.rules.exceptions)
        self._book: EpisodeBook | None = None
        self._said = self._told = -1

    def counts(self) -> dict[str, int]:
        """Return what senders' clocks did so far."""
        return dict(self._engine.senders.counts)

    def table_counts(self) -> dict[str, dict[str, int]]:
        """Return what the table of each key space holds and did not take so far."""
        return self._engine.table_counts()

    def feed(self, messages: Sequence[RollupMessage]) -> StageOutput:
        """Take messages of the partition in log order."""
        alerts: list[Alert] = []
        for advance in self._engine.feed(messages):
            if self._book is None:
                self._book = self._new_book()
            for tick, findings, _ in advance.ticks:
                alerts += self._book.observe(tick, findings)
            alerts += self._book.close_quiet(advance.watermark)
            self._said = advance.watermark
        moved = self._said > self._told
        self._told = self._said
        return StageOutput(alerts, [], self._watermark() if moved else None, self._exceptions.taken())

    def _new_book(self) -> EpisodeBook:
        return EpisodeBook(self._engine.cluster, self._parts.settings.alerts.episodes, self._exceptions)

    def _watermark(self) -> Watermark:
        senders = self._parts.settings.engine.rollup_partitions
        return Watermark(sender=f"correlate/{self._engine.partition}", tick=self._said, senders=senders)

    def snapshot(self) -> dict[str, Section]:
        """Return the state by section; arrays may be live views, which hold until the stage is fed again."""
        book = None if self._book is None else _opaque(self._book.snapshot())
        own = Section(_BOOK_VERSION, {"book": book, "said": self._said})
        return {**self._engine.snapshot(), "episodes": own, **_paired(self._names)}

    def restore(self, sections: Sections) -> list[str]:
        """Take in what ``snapshot`` gave, before anything is fed; return the sections that start cold.

        Raises:
            SectionError: a section's content is not what its part keeps.
        """
        _pair_again(self._names, sections)
        cold = self._engine.restore({n: s for n, s in sections.items() if n not in _OURS})
        kept = {} if "engine" in cold else sections
        book = _restore_book("episodes", kept, self._restore_book)
        self._engine.note_cold(book)
        return cold + book

    def _restore_book(self, state: Mapping[str, Any]) -> None:
        self._said = self._told = int(state["said"])
        if state["book"] is not None:
            self._book = self._new_book()
            self._book.restore(state["book"].tobytes())


class IncidentStage:
    """Incidents of all alerts, and alerts of what several of them say together."""

    def __init__(self, parts: Parts) -> None:
        self._exceptions = Exceptions(parts.rules.exceptions)
        self._book = IncidentBook(parts.settings.alerts, parts.rules.sequences, self._exceptions)

    def feed(self, records: Sequence[AlertRecord]) -> IncidentOutput:
        """Take alerts and watermarks in log order."""
        output = IncidentOutput()
        for word in (word for record in records for word in self._book.add(record)):
            if isinstance(word, Alert):
                output.alerts.append(word)
            else:
                output.incidents.append(word)
        output.excepted = self._exceptions.taken()
        return output

    def snapshot(self) -> dict[str, Section]:
        """Return the state; incidents refer to each other, so it is one section."""
        return {"incidents": Section(_BOOK_VERSION, _opaque(self._book.snapshot()))}

    def restore(self, sections: Sections) -> list[str]:
        """Take in what ``snapshot`` gave; return the sections that start cold.

        Raises:
            SectionError: the section's content is not what the book keeps.
        """
        return _restore_book("incidents", sections, lambda state: self._book.restore(state.tobytes()))


class DecideStage:
    """Decisions on alerts; an alert is decided again when a later revision changes the decision.

    It is decided again, too, when it still goes on after what was decided has expired.
    """

    def __init__(self, policy: DecisionPolicy) -> None:
        self._policy = policy
        self._decided: dict[str, str] = {}

    def feed(self, alert: Alert) -> list[ResponseDecision]:
        """Return the decision on an alert, if it is a new one, and what is to be done besides."""
        decision = decide(alert, self._policy)
        if decision is None:
            return []
        gist = f"{decision.mode}/{','.join(decision.actions)}/{decision.spoofable}"
        tick, _, known = self._decided.pop(alert.id, "").partition(" ")
        again = known != gist or alert.tick >= int(tick) + decision.ttl_s
        self._decided[alert.id] = f"{alert.tick if again else tick} {gist}"
        if not again:
            return []
        if len(self._decided) > _DECIDED:
            del self._decided[next(iter(self._decided))]
        return [decision, *decide_besides(alert, decision, self._policy)]

    def snapshot(self) -> dict[str, Section]:
        """Return the state; the order is the order of forgetting."""
        return {"decided": Section(_BOOK_VERSION, list(self._decided.items()))}

    def restore(self, sections: Sections) -> list[str]:
        """Take in what ``snapshot`` gave; return the sections that start cold.

        Raises:
            SectionError: the section's content is not what is kept.
        """
        return _restore_book("decided", sections, self._decided.update)
