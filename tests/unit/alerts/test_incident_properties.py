"""However the senders' records interleave, repeat or are interrupted: the same incidents."""

from __future__ import annotations

import random
from collections.abc import Iterable

from hypothesis import given, settings
from hypothesis import strategies as st

from alerts.incidents import IncidentBook
from alerts.settings import AlertSettings, IncidentSettings
from schemas.alert import Alert, AlertRecord
from schemas.incident import Incident
from schemas.sequence import SequenceRule, Step
from schemas.word import iso_time
from tests.unit.alerts.builders import alert, mark

SMALL = AlertSettings(incidents=IncidentSettings(window=20, patience=60, max_open=3, max_alerts=4))
END = 1000
_STEPS = tuple(Step(n, severity=s) for n, s in (("any", "info"), ("grave", "high")))  # type: ignore[arg-type]
_SIDES = {"any": ("victim",), "grave": ("attacker",)}
RULES = (
    SequenceRule("ordered", "temporal_ordered", _STEPS, _SIDES, 30),  # type: ignore[arg-type]
    SequenceRule("both", "temporal", _STEPS, {"any": ("endpoint",), "grave": ("endpoint",)}, 30),
    SequenceRule("many", "event_count", _STEPS[:1], {"any": ("endpoint",)}, 50, 3),
    SequenceRule("wide", "value_count", _STEPS[:1], {"any": ("attacker",)}, 50, 2, "victim"),
)

_address = st.sampled_from([None, "10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5"])
Stream = list[AlertRecord]


@st.composite
def streams(draw: st.DrawFn) -> list[Stream]:
    """One list of records for each of two or three senders: alerts in order of time, each tick closed by a mark."""
    senders = draw(st.integers(2, 3))
    result: list[Stream] = []
    for number in range(senders):
        stream: Stream = []
        revisions: dict[str, int] = {}
        for tick in sorted(draw(st.sets(st.integers(0, 150), max_size=10))):
            for name in sorted(draw(st.sets(st.sampled_from("abcd"), max_size=3))):
                identity = f"{name}{number}"
                revisions[identity] = revisions.get(identity, 0) + 1
                stream.append(
                    alert(
                        identity, tick, revisions[identity], attacker=draw(_address), victim=draw(_address),
                        severity=draw(st.sampled_from(["low", "medium", "high"])), subject=identity,
                        detected_at=iso_time(tick),
                        status=draw(st.sampled_from(["open", "closed"])), spoofable=draw(st.booleans()),
                    )
                )  # fmt: skip
            stream.append(mark(tick, f"detect/{number}", senders))
        result.append([*stream, mark(END, f"detect/{number}", senders)])
    return result


def interleaved(records: list[Stream], seed: int) -> Stream:
    """Return all records in an order that keeps each sender's own; some senders fall far behind."""
    chance = random.Random(seed)
    left = [list(stream) for stream in records]
    out: Stream = []
    while any(left):
        stream = chance.choice([s for s in left if s])
        out += [stream.pop(0) for _ in range(min(len(stream), chance.choice([1, 1, 2, 50])))]
    return out


def test_the_streams_do_make_sequences() -> None:
    """The other tests are about them only if there are any."""
    victim = alert("a0", 10, attacker="10.0.0.1", victim="10.0.0.2", detected_at=iso_time(10))
    grave = alert("b0", 20, attacker="10.0.0.2", victim="10.0.0.3", severity="high", detected_at=iso_time(20))
    book = IncidentBook(SMALL, RULES)
    words = [w for r in (victim, grave, mark(END)) for w in book.add(r)]
    assert {w.rule for w in words if isinstance(w, Alert)} == {"ordered", "both"}


def run(records: Iterable[AlertRecord], book: IncidentBook | None = None) -> list[bytes]:
    book = IncidentBook(SMALL, RULES) if book is None else book
    return [incident.encode() for record in records for incident in book.add(record)]


@settings(max_examples=100, deadline=None)
@given(records=streams(), seed=st.integers(0, 1 << 30))
def test_any_interleaving_gives_the_same_incidents(records: list[Stream], seed: int) -> None:
    one_by_one = [record for stream in records for record in stream]
    assert run(interleaved(records, seed)) == run(one_by_one)


@settings(max_examples=100, deadline=None)
@given(records=streams(), seed=st.integers(0, 1 << 30), data=st.data())
def test_a_sender_that_starts_over_changes_nothing(records: list[Stream], seed: int, data: st.DataObject) -> None:
    stream = data.draw(st.sampled_from(records))
    again = data.draw(st.integers(0, len(stream)))
    start = data.draw(st.integers(0, again))
    repeated = [*stream[:again], *stream[start:]]
    others = [s for s in records if s is not stream]
    assert run(interleaved([repeated, *others], seed)) == run(interleaved(records, seed))


@settings(max_examples=100, deadline=None)
@given(records=streams(), seed=st.integers(0, 1 << 30), cuts=st.sets(st.integers(0, 80)))
def test_a_snapshot_anywhere_continues_identically(records: list[Stream], seed: int, cuts: set[int]) -> None:
    order = interleaved(records, seed)
    book, out = IncidentBook(SMALL, RULES), []
    for number, record in enumerate(order):
        out += run([record], book)
        if number in cuts:
            value = book.snapshot()
            book = IncidentBook(SMALL, RULES)
            book.restore(value)
            assert book.snapshot() == value
    assert out == run(order)


@settings(max_examples=100, deadline=None)
@given(records=streams())
def test_every_grave_alert_is_in_an_incident_and_every_incident_closes_once(records: list[Stream]) -> None:
    book = IncidentBook(SMALL, RULES)
    order = [record for stream in records for record in stream]
    incidents = [word for record in order for word in book.add(record) if isinstance(word, Incident)]
    assert [(i.tick, i.id) for i in incidents] == sorted((i.tick, i.id) for i in incidents)
    listed = {a.id for i in incidents for a in i.alerts}
    assert {r.id for r in order if isinstance(r, Alert) and r.severity != "low"} <= listed
    for identity in {i.id for i in incidents}:
        mine = [i for i in incidents if i.id == identity]
        assert [i.revision for i in mine] == list(range(1, len(mine) + 1))
        assert [i.status for i in mine] == ["open"] * (len(mine) - 1) + ["closed"]
    assert book.open_count == 0
