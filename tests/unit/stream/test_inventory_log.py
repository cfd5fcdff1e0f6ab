"""Who had an address is decided by what the logs say and when it was appended, never by when a worker read it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from detectors.settings import EngineSettings
from schemas.alert import Alert
from schemas.event_codec import EventMessage
from schemas.inventory import InventoryObject
from stream.inventory_log import InventoryLog, LoggedIdentities
from stream.pipeline import Pipeline
from stream.stages import Parts, PipelineSettings
from tests.event_rows import BEGIN, Node, flow
from tests.snapshots import copied

SETTINGS = PipelineSettings(engine=EngineSettings(event_partitions=1, rollup_partitions=1))
SCANNER = "10.0.0.5"


def pod(name: str, since: int = 0) -> InventoryObject:
    return InventoryObject(kind="Pod", uid=name, namespace="shop", name=name, ips=(SCANNER,), valid_from=since)


def log_of(*records: tuple[int, InventoryObject | None], begin: int = 0) -> InventoryLog:
    log = InventoryLog()
    for place, (appended, item) in enumerate(records):
        log.take(begin + place, appended, item)
    return log


def scan() -> list[EventMessage]:
    """One port a second, and ten minutes later the end; each second is appended when it is cut."""
    node = Node()
    seconds = [node.second(at, flows=[flow(SCANNER, "10.0.0.9", 1000 + at)]) for at in range(60)]
    end = node.second(700, final=True)
    return [replace(m, appended_ms=m.header.cut * 1000 + 40) for m in (*seconds, end)]


def names(alerts: Sequence[Alert]) -> list[tuple[int, str | None]]:
    return [(alert.tick - BEGIN, alert.attackers[0].pod) for alert in alerts if alert.detector == "port_scan"]


def test_an_offset_is_what_was_appended_before() -> None:
    log = log_of((1000, pod("a")), (1000, pod("b")), (2000, pod("c")), begin=7)
    assert [log.offset_at(at) for at in (999, 1000, 1001, 2000, 2001)] == [7, 7, 9, 9, 10]
    assert [item.name for item in log.between(8, 10)] == ["b", "c"]
    assert InventoryLog().offset_at(5000) == 0


def test_append_times_that_step_back_and_offsets_that_are_missing_keep_the_order() -> None:
    log = log_of((2000, pod("a")), (1500, pod("b")))
    assert [log.offset_at(at) for at in (1600, 2001)] == [0, 2]
    log.take(5, 3000, pod("c"))
    assert log.offset_at(3001) == 6
    assert [item.name for item in log.between(0, 6)] == ["a", "b", "c"]


def test_what_is_no_address_is_refused_and_keeps_its_place() -> None:
    log = log_of((1000, pod("a")))
    with pytest.raises(ValueError, match="nonsense"):
        log.take(1, 2000, InventoryObject(kind="Pod", uid="x", name="x", ips=("nonsense",)))
    log.take(2, 3000, None)
    table = LoggedIdentities(log, ())
    table.pair(3)
    assert (len(table), table.offset) == (1, 3)
    table.pair(1)
    assert table.offset == 3


def test_what_is_told_again_is_kept_once_and_what_is_over_is_let_go() -> None:
    log = log_of((1000, pod("a")), (2000, pod("a")), (3000, pod("a", 5)))
    assert len(log) == 2
    day = 86_400
    log = InventoryLog(most=400)
    for at in range(300):
        gone = pod(f"gone{at}", at * day).model_copy(update={"valid_to": at * day + 60})
        mark = InventoryObject(kind="Watermark", uid="watermark:a", name="watermark", valid_from=at * day + 70)
        for offset, item in enumerate((gone, mark)):
            log.take(2 * at + offset, at * day * 1000, item)
    assert len(log) <= 400
    kept = list(log.between(0, 1000))
    table = LoggedIdentities(log, ())
    table.pair(600)
    assert kept[-1].valid_from == table.watermark == 299 * day + 70
    assert (found := table.find(SCANNER, 299 * day + 30)) is not None
    assert found.name == "gone299"
    assert log.counts()["watermark"] == table.watermark


def test_without_a_watermark_what_ended_first_goes() -> None:
    log = InventoryLog(most=40)
    for at in range(100):
        item = pod(f"p{at}", at)
        log.take(at, at * 1000, item if at % 2 else item.model_copy(update={"valid_to": at + 1}))
    assert len(log) < 40
    assert [item.name for item in log.between(0, 100)][-1] == "p99"


def run(log: InventoryLog, batch: int) -> list[Alert]:
    pipeline = Pipeline(Parts(SETTINGS, inventory=log))
    return [alert for output in pipeline.run(scan(), batch) for alert in output.alerts]


def test_names_begin_where_they_were_told_whatever_was_read_when_and_how_much_at_once() -> None:
    told = (BEGIN + 20) * 1000
    whole = log_of((told, pod("scanner")), (told + 1_000_000, pod("later", BEGIN)))
    wanted = run(whole, 64)
    assert {name for tick, name in names(wanted) if tick < 20} == {None}
    assert {name for tick, name in names(wanted) if 20 <= tick <= 60} == {"scanner"}
    for batch in (1, 7):
        assert [a.encode() for a in run(whole, batch)] == [a.encode() for a in wanted]
    # A worker that is early has read only what was there by then.
    assert names(run(log_of((told, pod("scanner"))), 64)) == names(wanted)


def test_a_restored_stage_knows_what_the_former_one_knew() -> None:
    told = (BEGIN + 20) * 1000
    parts = Parts(SETTINGS, inventory=log_of((told, pod("scanner")), (told + 30_000, pod("other", BEGIN))))
    messages = scan()
    whole: list[bytes] = []
    halves: list[bytes] = []
    for cut in (len(messages), 35):
        stage, correlate = parts.detect(0), parts.correlate(0)
        into = whole if cut == len(messages) else halves
        for part in (messages[:cut], messages[cut:]):
            output = stage.feed(part)
            correlate.feed(output.rollups)
            into += [a.encode() for a in output.alerts]
            again, correlated = parts.detect(0), parts.correlate(0)
            assert again.restore(copied(stage.snapshot())) == []
            assert correlated.restore(copied(correlate.snapshot())) == []
            stage, correlate = again, correlated
    assert whole == halves


def test_rollups_say_what_was_known_and_stage_2_knows_the_same() -> None:
    told = (BEGIN + 20) * 1000
    parts = Parts(SETTINGS, inventory=log_of((told, pod("scanner"))))
    stage, correlate = parts.detect(0), parts.correlate(0)
    rollups = stage.feed(scan()).rollups
    assert {r.header.inventory for r in rollups if r.header.tick < BEGIN + 20} == {0}
    assert {r.header.inventory for r in rollups if r.header.tick > BEGIN + 20} == {1}
    correlate.feed([r for r in rollups if r.header.tick < BEGIN + 20])
    assert "inventory" not in correlate.snapshot()
    correlate.feed([r for r in rollups if r.header.tick >= BEGIN + 20])
    assert correlate.snapshot()["inventory"].state == 1
