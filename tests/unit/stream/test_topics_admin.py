from pathlib import Path

from schemas.topics import TOPICS
from stream.settings import TopicSettings
from stream.topics_admin import mismatches, topics_markdown, wanted_topics

ROOT = Path(__file__).parents[3]

SETTINGS = TopicSettings(event_partitions=6, rollup_partitions=3)
WANTED = wanted_topics("sg", SETTINGS)
PARTITIONS = {w.name: w.partitions for w in WANTED}
CONFIGS = {w.name: dict(w.config) for w in WANTED}


def test_every_topic_is_wanted_with_its_prefix_and_partitions() -> None:
    assert [w.name for w in WANTED] == [f"sg.{spec.word}" for spec in TOPICS]
    assert (PARTITIONS["sg.events.v1"], PARTITIONS["sg.rollups.v1"], PARTITIONS["sg.alerts.v1"]) == (6, 3, 1)
    assert all(w.config["compression.type"] == "lz4" for w in WANTED)
    assert all(w.config["message.timestamp.type"] == "LogAppendTime" for w in WANTED)


def test_topics_as_wanted_are_accepted() -> None:
    assert mismatches(WANTED, PARTITIONS, CONFIGS) == []


def test_a_missing_topic_names_the_command() -> None:
    partitions = {name: count for name, count in PARTITIONS.items() if name != "sg.alerts.v1"}
    assert mismatches(WANTED, partitions, CONFIGS) == ["sg.alerts.v1 is missing: run `sluicegate topics create`"]


def test_another_partition_count_is_refused() -> None:
    (line,) = mismatches(WANTED, {**PARTITIONS, "sg.events.v1": 4}, CONFIGS)
    assert "sg.events.v1 has 4 partitions, settings say 6" in line


def test_create_time_is_refused_with_the_command_that_mends_it() -> None:
    configs = {**CONFIGS, "sg.events.v1": {**CONFIGS["sg.events.v1"], "message.timestamp.type": "CreateTime"}}
    (line,) = mismatches(WANTED, PARTITIONS, configs)
    assert "--topic sg.events.v1 --add-config message.timestamp.type=LogAppendTime" in line


def test_a_larger_message_limit_is_fine_and_a_smaller_is_not() -> None:
    large = {**CONFIGS, "sg.events.v1": {**CONFIGS["sg.events.v1"], "max.message.bytes": str(64 << 20)}}
    small = {**CONFIGS, "sg.events.v1": {**CONFIGS["sg.events.v1"], "max.message.bytes": "1000"}}
    assert mismatches(WANTED, PARTITIONS, large) == []
    assert len(mismatches(WANTED, PARTITIONS, small)) == 1


def test_retention_is_the_operators_to_change() -> None:
    configs = {**CONFIGS, "sg.alerts.v1": {**CONFIGS["sg.alerts.v1"], "retention.ms": "1"}}
    assert mismatches(WANTED, PARTITIONS, configs) == []


def test_the_documentation_is_what_the_definitions_say() -> None:
    text = (ROOT / "docs" / "topics.md").read_text()
    assert text == topics_markdown(), "write stream.topics_admin.topics_markdown() to docs/topics.md"
