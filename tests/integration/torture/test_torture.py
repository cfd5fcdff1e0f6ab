"""The shorter form of `make torture`: real workers on a real Kafka answer like a replay, also when they are killed."""

from __future__ import annotations

import pytest

from tests.torture import in_process
from tests.torture.answer import Replayed, replayed
from tests.torture.disturbance import coming_and_going, kills
from tests.torture.inputs import Log, generated, recorded
from tests.torture.kafka_run import Disturbance, through_kafka
from tests.torture.truth import graded

pytestmark = pytest.mark.timeout(240)

SEED = 1


@pytest.fixture(scope="module")
def log() -> Log:
    return generated(4000, SEED, rows=10, nodes=4)


@pytest.fixture(scope="module")
def wanted(log: Log) -> Replayed:
    return replayed(log.messages())


@pytest.mark.kafka
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    ("workers", "disturbance", "disturbed"),
    [(2, kills(2, SEED), 2), (1, coming_and_going(10, 5, SEED), 2)],
    ids=["two SIGKILLs", "coming and going"],
)
async def test_workers_answer_like_a_replay(
    workers: int, disturbance: Disturbance, disturbed: int, bootstrap: str, log: Log, wanted: Replayed
) -> None:
    found, _ = await through_kafka(log, wanted, bootstrap, workers, disturbance)
    assert found["first_differences"] == []
    assert found["differences"] == 0
    assert found["complete"]
    assert found["dead_letters"] == 0
    assert found["disturbed"] == disturbed
    assert (found["alerts"], found["incidents"]) == (len(wanted.answer.alerts), len(wanted.answer.incidents))
    assert found["alerts"] > 10


@pytest.mark.kafka
async def test_workers_that_wait_for_the_first_event_answer_like_a_replay(
    bootstrap: str, log: Log, wanted: Replayed
) -> None:
    found, _ = await through_kafka(log, wanted, bootstrap, 2, waiting=True)
    assert found["first_differences"] == []
    assert found["complete"]


@pytest.mark.kafka
async def test_names_that_change_meanwhile_are_those_of_the_logs(bootstrap: str, log: Log, wanted: Replayed) -> None:
    found, answer = await through_kafka(log, wanted, bootstrap, 2, kills(1, SEED), naming=True)
    assert found["first_differences"] == []
    assert found["complete"]
    assert any(b'"pod":"pod-' in value for value in answer.alerts.values())


async def test_the_replay_command_writes_the_same_alerts_and_incidents(log: Log, wanted: Replayed) -> None:
    found = await in_process.replay_command(log, wanted)
    assert found["first_differences"] == []
    assert (found["alerts"], found["incidents"]) == (len(wanted.answer.alerts), len(wanted.answer.incidents))
    assert found["incidents"] > 0


def test_every_recorded_attack_is_found_and_nothing_else() -> None:
    found = graded(replayed(recorded(shifts=1, nodes=2).messages()), shifts=1, nodes=2)
    assert found["wrong"] == []
    assert found["hits"] == found["attacks"] == 10
