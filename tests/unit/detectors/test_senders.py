"""Whom stage 2 waits for, and that nothing counts twice or goes by the batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.correlate import Advance, CorrelateEngine
from detectors.registry import build_detectors
from detectors.senders import Senders
from detectors.settings import EngineSettings
from detectors.snapshot import encode_state
from schemas.finding import Finding
from schemas.identity import IdentityTable
from schemas.rollups import RollupHeader, RollupMessage
from tests.event_rows import BEGIN
from tests.snapshots import copied

Kind = Literal["tick", "empty", "idle"]


def said(sender: int, at: int, kind: Kind = "tick", *, senders: int = 2, **more: Any) -> RollupHeader:
    return RollupHeader(
        cluster="c", sender=sender, senders=senders, partition=0, partitions=1, kind=kind,
        tick=BEGIN + at if at else 0, **more,
    )  # fmt: skip


def fed(headers: Sequence[RollupHeader], senders: Senders | None = None) -> list[tuple[int | None, int]]:
    """Where each message counts and what is done after it, in s after ``BEGIN``."""
    senders = senders or Senders(2, 0, 1)
    out = []
    for header in headers:
        place = senders.take(header)
        senders.advance()
        out.append((place and place - BEGIN, max(0, senders.done - BEGIN)))
    return out


def test_nothing_is_done_before_every_sender_was_heard() -> None:
    assert fed([said(0, 1), said(0, 2), said(1, 1)]) == [(1, 0), (2, 0), (1, 1)]


def test_a_sender_that_has_read_nothing_is_not_waited_for_until_it_speaks() -> None:
    assert fed([said(1, 0, "empty"), said(0, 5), said(1, 3), said(1, 7), said(0, 8)]) == [
        (None, 0), (5, 5), (6, 5), (7, 5), (8, 7),
    ]  # fmt: skip


def part(sender: int, at: int, number: int, parts: int = 3) -> RollupHeader:
    return said(sender, at, part=number, parts=parts)


def test_a_tick_in_parts_is_said_with_its_last_part() -> None:
    assert fed([said(0, 1), said(1, 1), said(0, 2), part(1, 2, 0), part(1, 2, 1), part(1, 2, 2), said(0, 3)]) == [
        (1, 0), (1, 1), (2, 1), (2, 1), (2, 1), (2, 2), (3, 2),
    ]  # fmt: skip


def test_parts_that_come_again_count_once() -> None:
    """A worker dies between two parts; its successor says all of them, and what the former had sent comes late."""
    words = [
        said(0, 1), said(0, 2), said(1, 1), part(1, 2, 0), part(1, 2, 1),
        part(1, 2, 0), part(1, 2, 1), said(1, 1), part(1, 2, 1), part(1, 2, 2), part(1, 2, 2), said(1, 3),
    ]  # fmt: skip
    one, senders = Senders(2, 0, 1), Senders(2, 0, 1)
    together = fed(words, one)
    assert [place for place, _ in together] == [1, 2, 1, 2, 2, None, None, None, None, 2, None, 3]
    assert one.counts["repeats"] == 5
    alone = []
    for word in words:
        alone += fed([word], senders)
        senders, kept = Senders(2, 0, 1), senders.snapshot()
        senders.restore(kept)
    assert alone == together


def test_a_tick_whose_other_parts_never_come_is_left_behind() -> None:
    assert fed([said(0, 1), said(1, 1), part(1, 2, 0), said(0, 3), said(1, 3)]) == [
        (1, 0), (1, 1), (2, 1), (3, 1), (3, 3),
    ]  # fmt: skip


def test_two_senders_that_begin_together_are_waited_for_whoever_is_read_first() -> None:
    """A worker found every partition empty; then both begin, in either order of what they say."""
    ends = []
    for first, second in ((0, 1), (1, 0)):
        senders = Senders(2, 0, 1)
        words = [
            (said(0, 0, "empty"), 0), (said(1, 0, "empty"), 0),
            (said(first, 1), 5000), (said(second, 0, "empty"), 5900), (said(first, 2), 6000),
            (said(second, 1), 6020), (said(second, 2), 7000),
        ]  # fmt: skip
        places = []
        for header, appended in words:
            places.append(senders.take(header, appended))
            senders.advance()
        assert places[2:] == [BEGIN + 1, None, BEGIN + 2, BEGIN + 1, BEGIN + 2]
        ends.append((senders.done, senders.counts))
    assert ends == [(BEGIN + 2, {"late": 0})] * 2


def test_a_sender_that_is_still_empty_when_the_others_have_gone_on_is_not_waited_for() -> None:
    senders = Senders(2, 0, 1)
    for header, appended, done in (
        (said(1, 0, "empty"), 0, 0), (said(0, 1), 5000, 0), (said(0, 2), 6000, 0), (said(1, 0, "empty"), 6999, 0),
        (said(0, 3), 6999, 0), (said(1, 0, "empty"), 7000, BEGIN + 3), (said(0, 4), 7001, BEGIN + 4),
    ):  # fmt: skip
        again = Senders(2, 0, 1)
        again.restore(senders.snapshot())
        senders = again
        senders.take(header, appended)
        senders.advance()
        assert senders.done == done


def test_that_a_partition_was_empty_once_says_nothing_of_a_sender_that_has_spoken() -> None:
    assert fed([said(0, 1), said(1, 1), said(1, 0, "empty"), said(0, 9)])[-1] == (9, 1)


def test_an_idle_sender_is_left_out_until_it_speaks_again() -> None:
    senders = Senders(2, 0, 1)
    assert fed([said(0, 1), said(1, 1), said(0, 9)], senders)[-1] == (9, 1)
    assert fed([said(1, 1, "idle", silent_nodes=2, silent=("a", "b"))], senders) == [(2, 9)]
    assert [h.silent for h in senders.silent()] == [("a", "b")]
    # Ticks that are done count in the present one; then it is waited for again.
    assert fed([said(1, 2), said(1, 9), said(0, 12), said(1, 11)], senders) == [(10, 9), (10, 9), (12, 9), (11, 11)]
    assert senders.silent() == []
    assert senders.counts["late"] == 2


def test_a_sender_whose_nodes_have_all_ended_is_left_out_and_not_called_silent() -> None:
    senders = Senders(2, 0, 1)
    assert fed([said(0, 1), said(1, 1), said(0, 9), said(1, 1, "idle")], senders)[-1] == (None, 9)
    assert senders.silent() == []


def test_a_former_owner_cannot_silence_a_sender() -> None:
    senders = Senders(2, 0, 1)
    fed([said(0, 5), said(1, 5)], senders)
    assert fed([said(1, 3, "idle", silent_nodes=1), said(0, 9)], senders) == [(None, 5), (9, 5)]
    assert senders.silent() == []


def test_a_new_owner_without_state_can_say_that_nothing_comes() -> None:
    assert fed([said(0, 5), said(1, 5), said(0, 9), said(1, 0, "idle")])[-1] == (6, 9)


def test_when_the_last_one_falls_idle_there_is_a_tick_to_say_so_in() -> None:
    senders = Senders(1, 0, 1)
    assert fed([said(0, 5, senders=1), said(0, 5, "idle", senders=1, silent_nodes=1)], senders) == [(5, 5), (6, 6)]
    assert fed([said(0, 6, senders=1)], senders) == [(7, 6)], "not a repeat: it is late"


def test_repeats_and_strangers_add_nothing() -> None:
    senders = Senders(2, 0, 1)
    strangers = [said(7, 1), said(0, 3).model_copy(update={"partitions": 4})]
    assert fed([said(0, 2), said(0, 2), said(0, 1), *strangers], senders) == [
        (2, 0), (None, 0), (None, 0), (None, 0), (None, 0),
    ]  # fmt: skip
    assert (senders.counts["repeats"], senders.counts["foreign"]) == (2, 2)


# --- the engine over it ---

ENGINE = EngineSettings(event_partitions=2, rollup_partitions=1)


def engine() -> CorrelateEngine:
    return CorrelateEngine(0, ENGINE, build_detectors(), IdentityTable())


def found(outputs: Sequence[Sequence[Advance]]) -> list[tuple[int, list[Finding], Any]]:
    return [tick for advances in outputs for advance in advances for tick in advance.ticks]


def messages(headers: Sequence[RollupHeader]) -> list[RollupMessage]:
    return [RollupMessage(header) for header in headers]


def test_a_silent_partition_is_a_finding_as_long_as_it_lasts() -> None:
    own = engine()
    own.feed(messages([said(0, 1), said(1, 1)]))
    idle = said(1, 1, "idle", silent_nodes=20, silent=("a", "b"))
    ticks = found([own.feed(messages([idle, said(0, 2), said(0, 3), said(1, 4), said(0, 4)]))])
    seen = [(t - BEGIN, [f.detector for f in findings], q.notes) for t, findings, q in ticks]
    silent, note = ["exporter_silent"], ("event partition 1 is silent and left out",)
    assert seen == [(2, silent, note), (3, silent, note), (4, [], ())]
    (finding,) = ticks[0][1]
    assert "the exporters of a, b and 18 more, all of event partition 1" in finding.summary


def stored(one: CorrelateEngine) -> dict[str, bytes]:
    return {name: encode_state(section.state) for name, section in one.snapshot().items()}


headers = st.builds(
    said, st.integers(0, 1), st.integers(0, 12), st.sampled_from(["tick", "tick", "tick", "empty", "idle"]),
    idle=st.sampled_from([False, False, True]), silent_nodes=st.integers(0, 1), late=st.integers(0, 3),
)  # fmt: skip
logs = st.lists(headers, max_size=30)


@settings(deadline=None)
@given(logs, st.lists(st.integers(1, 7), min_size=1))
def test_batches_do_not_show(log: list[RollupHeader], sizes: list[int]) -> None:
    one, other = engine(), engine()
    expected = found([one.feed([m]) for m in messages(log)])
    rest, outputs, turn = messages(log), [], 0
    while rest:
        size = sizes[turn % len(sizes)]
        outputs.append(other.feed(rest[:size]))
        rest, turn = rest[size:], turn + 1
    assert found(outputs) == expected
    assert stored(other) == stored(one)


@settings(deadline=None)
@given(logs, st.data())
def test_what_senders_say_again_after_a_restore_counts_once(log: list[RollupHeader], data: st.DataObject) -> None:
    whole = engine()
    expected = found([whole.feed(messages(log))])
    stop = data.draw(st.integers(0, len(log)))
    before, after = engine(), engine()
    outputs = [before.feed(messages(log[:stop]))]
    after.restore(copied(before.snapshot()))
    # A stage-1 worker that was killed says again what it had said since its own snapshot.
    last = {s: max((h.tick for h in log[:stop] if h.sender == s and h.kind == "tick"), default=0) for s in (0, 1)}
    again = [h for h in log[:stop] if h.kind == "tick" and h.tick <= last[h.sender]]
    outputs += [after.feed(messages(again)), after.feed(messages(log[stop:]))]
    assert found(outputs) == expected
