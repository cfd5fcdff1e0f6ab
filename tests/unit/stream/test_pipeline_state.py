"""What stages make of a state that does not fit them: the rest is kept, and alerts say so for a while."""

import numpy as np
import pytest

from detectors.cold_start import ColdStart
from detectors.settings import EngineSettings
from detectors.snapshot import Section, SectionError
from schemas.alert import Alert
from schemas.finding import DataQuality
from stream.pages import image_of
from stream.stages import CorrelateStage, DetectStage, Parts, PipelineSettings
from tests.event_rows import Node, flow
from tests.snapshots import copied

PARTS = Parts(PipelineSettings(engine=EngineSettings(event_partitions=1, rollup_partitions=1)))
NOTE = "began without memory of what was before"


def fed(stage: DetectStage, node: Node, seconds: range) -> list[Alert]:
    """A source that tries one port a second."""
    alerts: list[Alert] = []
    for at in seconds:
        rows = [flow("10.0.0.5", "10.0.0.9", 1000 + at)]
        alerts += stage.feed([node.second(at, flows=rows)]).alerts
    return alerts


def test_every_table_and_detector_has_a_section_of_its_own() -> None:
    stage, node = PARTS.detect(0), Node()
    fed(stage, node, range(3))
    names = set(stage.snapshot())
    assert {"engine", "assembler", "minutes", "episodes", "table.pair"} <= names
    correlate = PARTS.correlate(0)
    assert {"engine", "table.victim", "episodes", "detector.traffic_anomaly"} <= set(correlate.snapshot())


def test_a_whole_state_leaves_nothing_cold_and_nothing_to_say() -> None:
    stage, node = PARTS.detect(0), Node()
    fed(stage, node, range(5))
    again = PARTS.detect(0)
    assert again.restore(copied(stage.snapshot())) == []
    assert not any(NOTE in str(a.data_quality) for a in fed(again, node, range(5, 40)))


def test_a_table_of_another_version_starts_cold_and_alerts_say_so_for_a_while() -> None:
    stage, node = PARTS.detect(0), Node()
    fed(stage, node, range(5))
    sections = copied(stage.snapshot())
    sections["table.pair"] = Section(99, sections["table.pair"].state)
    sections["table.former"] = Section(1, {})
    again = PARTS.detect(0)
    assert again.restore(sections) == ["table.pair", "table.former"]
    alerts = fed(again, node, range(5, 40))
    assert alerts
    assert f"{NOTE}: table.pair" in alerts[0].data_quality.notes
    # The rest was kept: the node is known, so its next sequence number is no gap.
    assert not any("missing" in note for note in alerts[0].data_quality.notes)


@pytest.mark.parametrize("name", ["table.pair", "episodes"])
def test_what_began_cold_in_stage_1_is_said_in_stage_2(name: str) -> None:
    stage, node = PARTS.detect(0), Node()
    fed(stage, node, range(3))
    sections = copied(stage.snapshot())
    del sections[name]
    again, correlate = PARTS.detect(0), PARTS.correlate(0)
    assert again.restore(sections) == [name]
    alerts: list[Alert] = []
    for at in range(3, 70):
        rows = [flow(f"10.{at}.{n // 250}.{n % 250}", "10.0.0.9", 80) for n in range(500)]
        rollups = again.feed([node.second(at, flows=rows)]).rollups
        assert all(f"{NOTE}: {name}" in rollup.header.notes for rollup in rollups)
        alerts += correlate.feed(rollups).alerts
    assert alerts
    assert all(f"{NOTE}: {name}" in alert.data_quality.notes for alert in alerts)


def test_a_state_that_is_lost_is_said_of_every_node() -> None:
    stage = PARTS.detect(0)
    assert {"assembler", "engine", "episodes", "table.pair"} <= set(stage.restore({}))
    alerts = fed(stage, Node(), range(40))
    assert any(NOTE in note for note in alerts[0].data_quality.notes)


def test_without_the_assembler_nothing_is_kept() -> None:
    stage, node = PARTS.detect(0), Node()
    fed(stage, node, range(5))
    sections = copied(stage.snapshot())
    sections["assembler"] = Section(99, sections["assembler"].state)
    again = PARTS.detect(0)
    assert {"assembler", "engine", "episodes", "table.pair"} <= set(again.restore(sections))
    assert again.rows == 0


@pytest.mark.parametrize("name", ["assembler", "engine", "minutes", "partials", "episodes", "table.pair"])
def test_a_section_whose_content_does_not_fit_is_named(name: str) -> None:
    stage, node = PARTS.detect(0), Node()
    fed(stage, node, range(5))
    sections = copied(stage.snapshot())
    sections[name] = Section(sections[name].version, {"1": "nonsense"})
    with pytest.raises(SectionError) as caught:
        PARTS.detect(0).restore(sections)
    assert caught.value.section == name


def test_correlate_keeps_the_rest_too() -> None:
    stage, correlate = PARTS.detect(0), PARTS.correlate(0)
    node = Node()
    for at in range(5):
        rows = [flow(f"10.0.1.{n}", "10.0.0.9", 80) for n in range(20)]
        correlate.feed(stage.feed([node.second(at, flows=rows)]).rollups)
    sections = copied(correlate.snapshot())
    del sections["table.victim"]
    again = PARTS.correlate(0)
    assert again.restore(sections) == ["table.victim"]
    assert again.snapshot()["engine"].state["senders"] == correlate.snapshot()["engine"].state["senders"]
    lost: CorrelateStage = PARTS.correlate(0)
    assert {"engine", "episodes", "table.victim"} <= set(lost.restore({}))


def test_incidents_and_decisions_say_what_they_lost() -> None:
    assert PARTS.incidents().restore({}) == ["incidents"]
    assert PARTS.decide().restore({}) == ["decided"]
    decide = PARTS.decide()
    assert decide.restore(copied(decide.snapshot())) == []
    incidents = PARTS.incidents()
    assert incidents.restore(copied(incidents.snapshot())) == []
    with pytest.raises(SectionError):
        incidents.restore({"incidents": Section(1, np.zeros(3, np.uint8))})


def test_a_state_can_be_looked_at_without_copying_its_arrays() -> None:
    stage = PARTS.detect(0)
    fed(stage, Node(), range(3))
    image = image_of(stage.snapshot())
    assert image.size == sum(section.size for section in image.sections)


def test_the_note_ends_and_goes_on_after_another_restart() -> None:
    cold = ColdStart()
    assert cold.mark(DataQuality(), 1000).notes == ()
    cold.begin([f"part{n}" for n in range(8)])
    assert cold.mark(DataQuality(notes=("x",)), 1000).notes == (
        "x", f"{NOTE}: part0, part1, part2, part3, part4, part5 and 2 more",
    )  # fmt: skip
    again = ColdStart()
    again.restore(cold.snapshot())
    assert again.note(1600) is not None
    assert again.note(1601) is None
    assert again.snapshot() == {}


def test_what_began_cold_at_two_restarts_is_said_together() -> None:
    cold = ColdStart()
    cold.begin(["one"])
    assert cold.note(1000) == f"{NOTE}: one"
    cold.begin(["two"])
    cold.begin([])
    assert cold.note(1500) == cold.note(2100) == f"{NOTE}: one, two"
    assert cold.note(2101) is None
    cold.begin(["three"])
    assert cold.note(2101) == f"{NOTE}: three"
