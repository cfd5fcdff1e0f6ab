"""DNS spoofing: a question answered twice and differently, or answers that guess at a question."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import Field

from detectors.answer_frame import AnswerFrame
from detectors.base import DetectorConfig, Meta, TickView, confidence
from detectors.claim_detector import ClaimDetector
from detectors.index import I64, positions
from detectors.ledger import Entry
from detectors.recent_answers import Messages, RecentAnswers, by_tick, read_messages
from detectors.round_frames import RoundFrames
from detectors.statement import count
from schemas.events import Capability
from schemas.finding import Evidence, Finding, Severity

_REMEMBERED = 30  # s: answers later than this belong to nothing any more
_PER_NODE = 65_536
_ANSWERS = 256  # second answers compared per tick
_PAIRS = 256  # clients and names with answers that fit no question, looked at per tick
_DIFFERING, _GUESSES = "differing", "guesses"


@dataclass
class _Guessing(Entry):
    """Answers to one client about one name that fit no question: [port and id, tick] each."""

    tried: list[list[int]] = field(default_factory=list)


class DnsSpoofConfig(DetectorConfig):
    """Limits of ``dns_spoof``."""

    guesses: Annotated[int, Field(ge=1)] = Field(
        10, description="answers with different ids or ports to one client about a name that it asked for (count)"
    )
    window: Annotated[int, Field(ge=1)] = Field(10, description="s")


class DnsSpoof(ClaimDetector):
    """Fires per client and name.

    Equal answers, a question that was repeated, and answers without an address or a name are no evidence.
    """

    meta = Meta(
        id="dns_spoof",
        title="DNS spoofing",
        stage=1,
        severity="high",
        techniques=("T1557", "T1584.002"),
        needs=Capability.DNS | Capability.DNS_ANSWERS,
        blind="DNS spoofing is not seen: the source does not report every DNS answer",
        response=None,
    )
    Config: ClassVar[type[DetectorConfig]] = DnsSpoofConfig
    config: DnsSpoofConfig
    state_version = 2

    def __init__(self, config: DetectorConfig | None = None) -> None:
        super().__init__(config)
        self._recent = RecentAnswers(_REMEMBERED, _PER_NODE)
        self._guessing = self.ledger("guessing", _Guessing, 512, 2 * self.config.window)

    def refused(self) -> Mapping[int, int]:
        """Add the messages that were too many to remember."""
        return Counter(super().refused()) + Counter(self._recent.shed)

    def observe(self, frames: RoundFrames) -> None:
        """Take in questions and answers."""
        dns = frames.dns
        if dns is None:
            return
        messages = read_messages(dns)
        self._recent.add(dns, messages)
        for node, tick, answers in self._by_tick(dns, messages, self._recent.again(dns, messages)):
            self._differing(dns, frames.names[node], node, tick, answers)
        for node, tick, loose in self._by_tick(dns, messages, positions(messages.unsolicited)):
            # A late answer fits a question that was given up; a reflected one is about a name that nobody asked for.
            fits = self._recent.asked(node, 0, loose.question)
            about = self._recent.asked(node, 1, loose.pair)
            self._tried(dns, (frames.names[node], node, tick), loose.take(positions(about & ~fits)))

    @staticmethod
    def _by_tick(dns: AnswerFrame, messages: Messages, chosen: I64) -> Iterator[tuple[int, int, Messages]]:
        """Return (node, tick, its messages) of each tick with any chosen messages."""
        if len(chosen):
            some = messages.take(chosen)
            for node, tick, part in by_tick(dns, some):
                yield node, tick, some.take(np.arange(part.start, part.stop))

    def _differing(self, dns: AnswerFrame, name: str, node: int, tick: int, answers: Messages) -> None:
        self.skip(node, len(answers) - _ANSWERS)
        answers = answers.take(np.arange(min(len(answers), _ANSWERS)))
        for number, stranger in self._recent.contradictions(node, tick, answers):
            self._noted.append((_DIFFERING, name, tick, *_said(dns, int(answers.row[number])), stranger))

    def _tried(self, dns: AnswerFrame, where: tuple[str, int, int], loose: Messages) -> None:
        name, node, tick = where
        ends = dns.client_port[loose.row].astype(np.int64) << 16 | dns.id[loose.row].astype(np.int64)
        _, pairs = np.unique(loose.pair, return_inverse=True)
        begin, room = tick - self.config.window, 4 * self.config.guesses
        last = int(pairs.max()) + 1 if len(pairs) else 0
        self.skip(node, last - _PAIRS)
        for number in range(min(last, _PAIRS)):
            members: I64 = positions(pairs == number)
            guessing = self._guessing.touch(node, (int(loose.pair[members[0]]),), tick)
            tried: npt.NDArray[np.int64] = np.unique(ends[members])
            fresh = set(tried[:room].tolist())
            kept = [t for t in guessing.tried if t[1] > begin and t[0] not in fresh]
            guessing.tried = [*kept, *([end, tick] for end in sorted(fresh))][-room:]
            if len(guessing.tried) > self.config.guesses:
                said = _said(dns, int(loose.row[members[-1]]))
                self._noted.append((_GUESSES, name, tick, *said, len(guessing.tried)))

    def judge(self, view: TickView, noted: Any) -> list[Finding]:
        """Return the finding about one client and name."""
        what, node, tick, client, server, name, data, more = noted
        severity: Severity = self.meta.severity
        if what == _DIFFERING:
            sure, values = 0.95 if more else 0.85, (2, 1)
            summary = (
                f"one question of {client} for {name!r} was answered twice and differently; the second answer, from "
                f"{'a stranger, ' if more else ''}{server}, says {data or 'that there is no such name'!r}"
            )
        else:
            sure, values = confidence(more, self.config.guesses), (more, self.config.guesses)
            summary = (
                f"{count(more)} answers to {client} about {name!r} with ids or ports that it did not ask from within "
                f"{self.config.window} s, limit {self.config.guesses}, in the name of {server}"
            )
        unit = "answers to one question" if what == _DIFFERING else "answers that fit no question"
        return [Finding(
            detector=self.meta.id, kind=self.meta.id, title=self.meta.title, severity=severity, confidence=sure,
            tick=tick, started=tick, node=node, subject=f"{client}/{name}@{node}",
            attackers=(view.endpoint(server, tick, port=53, protocol="UDP"),), victims=(view.endpoint(client, tick),),
            techniques=self.meta.techniques,
            evidence=(
                Evidence(name=f"{what}_answers", value=values[0], limit=values[1], unit=unit,
                         window=self.config.window if what == _GUESSES else None),
            ),
            summary=summary,
            # The sender's address is what a spoofer forges.
            spoofable=True, data_quality=view.quality[node], response=self.meta.response, quiet=120,
        )]  # fmt: skip

    def snapshot(self) -> dict[str, npt.NDArray[Any]]:
        """Return the ledger and the recent answers."""
        return super().snapshot() | {f"recent_{name}": value for name, value in self._recent.snapshot().items()}

    def restore(self, state: dict[str, npt.NDArray[Any]]) -> None:
        """Take in what ``snapshot`` gave."""
        super().restore(state)
        own = {name[7:]: value for name, value in state.items() if name.startswith("recent_")}
        self._recent.restore(own)


def _said(dns: AnswerFrame, row: int) -> tuple[str, str, str, str]:
    """Return client, server, name and first record of a message."""
    client, server = dns.address(int(dns.client[row])), dns.address(int(dns.server[row]))
    (name,), (data,) = dns.names(dns.name[[row]]), dns.records(dns.record[[row]])
    return client, server, name, data
