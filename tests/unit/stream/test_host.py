import asyncio

import pytest

from stream.deadletters import TooManyDeadLetters
from stream.host import RecordsMissed
from stream.outbox import SendFailed
from tests.unit.stream.memory import Broker, SumRole, deliver, index_of, make_host, taken


@pytest.fixture
def broker() -> Broker:
    return Broker()


async def test_outputs_are_durable_before_the_snapshot_and_the_snapshot_before_the_acknowledgement(
    broker: Broker,
) -> None:
    host = make_host(broker, SumRole())
    await host.assigned(taken(broker))
    await deliver(host, broker, {0: "1", 1: "2"})
    assert broker.happened == []
    await host.close()
    assert broker.happened == [
        ("sent", ("alerts.v1", b"1")),
        ("sent", ("alerts.v1", b"3")),
        ("saved", 2),
        ("acked", 0),
        ("acked", 1),
        ("committed", 2),
    ]


async def test_nothing_is_claimed_when_an_output_is_not_durable(broker: Broker) -> None:
    host = make_host(broker, SumRole())
    await host.assigned(taken(broker))
    await deliver(host, broker, {0: "1"})
    broker.refuse = True
    with pytest.raises(SendFailed):
        await host.close()
    assert broker.acked == []
    assert index_of(broker.state).complete() == []


async def test_a_successor_goes_on_from_the_snapshot_and_skips_what_it_contains(broker: Broker) -> None:
    first = make_host(broker, SumRole())
    await first.assigned(taken(broker))
    await deliver(first, broker, {0: "1", 1: "2"})
    await first.close()
    broker.committed = 1  # the commit of the second message got lost
    broker.happened.clear()
    role = SumRole()
    second = make_host(broker, role)
    await second.assigned(taken(broker))
    await deliver(second, broker, {1: "2", 2: "10"})
    await second.close()
    assert role.stages[0].total == 13
    assert broker.happened[0] == ("sent", ("alerts.v1", b"13"))
    assert broker.happened[1:] == [("saved", 3), ("acked", 1), ("acked", 2), ("committed", 3)]


async def test_a_killed_worker_s_work_is_done_again_from_its_last_checkpoint(broker: Broker) -> None:
    killed = make_host(broker, SumRole(), checkpoint_interval_s=1e-9)
    await killed.assigned(taken(broker))
    await deliver(killed, broker, {0: "1"})
    await killed.checkpoint_due()
    await deliver(killed, broker, {1: "2"})
    role = SumRole()
    second = make_host(broker, role)
    await second.assigned(taken(broker))
    await deliver(second, broker, {1: "2"})
    assert role.stages[0].total == 3


async def test_a_stage_is_fed_while_its_snapshot_is_written_and_the_snapshot_is_of_before(broker: Broker) -> None:
    role = SumRole()
    killed = make_host(broker, role, checkpoint_interval_s=1e-9)
    await killed.assigned(taken(broker))
    await deliver(killed, broker, {0: "1"})
    broker.writable = asyncio.Event()
    saving = asyncio.create_task(killed.checkpoint_due())
    await broker.asked.wait()
    await asyncio.wait_for(deliver(killed, broker, {1: "2"}), 30)
    assert role.stages[0].total == 3
    broker.writable.set()
    await saving
    assert broker.committed == 1
    successor = SumRole()
    second = make_host(broker, successor)
    await second.assigned(taken(broker))
    await deliver(second, broker, {1: "2"})
    assert (successor.stages[0].total, successor.stages[0].seen[:3].tolist()) == (3, [0, 1, 1])


async def test_a_partition_kept_through_a_rebalance_keeps_its_stage(broker: Broker) -> None:
    role = SumRole()
    host = make_host(broker, role)
    await host.assigned(taken(broker))
    await deliver(host, broker, {0: "1"})
    await host.revoked()
    broker.generation += 1
    await host.assigned(taken(broker))
    await deliver(host, broker, {0: "1", 1: "2"})
    assert len(role.stages) == 1
    assert role.stages[0].total == 3


async def test_a_partition_that_somebody_else_moved_on_is_restored_anew(broker: Broker) -> None:
    role = SumRole()
    ours = make_host(broker, role)
    await ours.assigned(taken(broker))
    await deliver(ours, broker, {0: "1"})
    await ours.revoked()
    other = make_host(broker, SumRole())
    await other.assigned(taken(broker))
    await deliver(other, broker, {1: "5"})
    await other.close()
    await ours.assigned(taken(broker))
    await deliver(ours, broker, {2: "10"})
    assert [stage.total for stage in role.stages] == [1, 16]


async def test_a_partition_taken_away_is_checkpointed_and_dropped(broker: Broker) -> None:
    host = make_host(broker, SumRole())
    await host.assigned(taken(broker))
    await deliver(host, broker, {0: "1"})
    await host.revoked()
    assert broker.committed == 1
    await host.assigned({})
    assert host.positions() == {}
    await deliver(host, broker, {1: "2"})
    await host.close()
    assert broker.committed == 1


async def test_messages_of_an_assignment_that_is_over_are_left_to_their_owner(broker: Broker) -> None:
    role = SumRole()
    host = make_host(broker, role)
    await host.assigned(taken(broker))
    broker.generation += 1
    await deliver(host, broker, {5: "100"}, generation=1)
    await deliver(host, broker, {0: "1"})
    assert role.stages[0].total == 1


@pytest.mark.parametrize("had_nothing", [False, True])
async def test_a_message_that_comes_before_its_assignment_is_restored_waits(broker: Broker, had_nothing: bool) -> None:
    """At the start; and where there was no partition: such a client reads on through the rebalance."""
    role = SumRole()
    host = make_host(broker, role)
    if had_nothing:
        await host.assigned({})
        await host.revoked()
        broker.generation += 1
    early = asyncio.create_task(deliver(host, broker, {0: "7"}))
    await asyncio.sleep(0)
    assert not early.done()
    await host.assigned(taken(broker))
    await early
    assert role.stages[0].total == 7


async def test_bad_messages_are_set_aside_and_acknowledged_with_the_rest(broker: Broker) -> None:
    role = SumRole()
    host = make_host(broker, role)
    await host.assigned(taken(broker))
    await deliver(host, broker, {0: "1", 1: "bad", 2: "-4", 3: "2"})
    await host.close()
    letters = [value for what, value in broker.happened if what == "sent" and value[0] == "deadletter.v1"]
    assert sorted(letters) == [("deadletter.v1", b"-4"), ("deadletter.v1", b"bad")]
    assert role.stages[0].total == 3
    assert broker.committed == 4


async def test_messages_that_come_together_say_what_they_say_one_by_one(broker: Broker) -> None:
    values = {0: "1", 1: "2", 2: "not a number", 3: "4"}
    alone = Broker()
    for place, together in ((broker, True), (alone, False)):
        host = make_host(place, SumRole())
        await host.assigned(taken(place))
        await deliver(host, place, {0: "1"})
        await deliver(host, place, values, together=together)  # the first one again
        await host.close()
    assert [what for what in broker.happened if what[0] != "acked"] == [w for w in alone.happened if w[0] != "acked"]
    assert broker.committed == alone.committed == 4


async def test_an_engine_that_fails_sets_aside_what_it_was_given_and_goes_on(broker: Broker) -> None:
    host = make_host(broker, SumRole())
    await host.assigned(taken(broker))
    await deliver(host, broker, {0: "1", 1: "-2", 2: "3"}, together=True)
    await deliver(host, broker, {3: "4"})
    await host.close()
    topics = [what[1][0] for what in broker.happened if what[0] == "sent"]
    assert topics.count("deadletter.v1") == 3
    assert topics.count("alerts.v1") == 1
    assert broker.committed == 4


async def test_too_many_bad_messages_stop_the_line_unacknowledged(broker: Broker) -> None:
    host = make_host(broker, SumRole(), limit=2)
    await host.assigned(taken(broker))
    with pytest.raises(TooManyDeadLetters):
        await deliver(host, broker, {0: "a", 1: "b", 2: "c"})
    host.abandon()
    await host.close()
    assert broker.acked == []


async def test_only_a_partition_with_nothing_to_read_is_announced(broker: Broker) -> None:
    empty = make_host(broker, SumRole())
    await empty.assigned(taken(broker, end=0))
    assert broker.happened == [("sent", ("rollups.v1", b"empty"))]
    broker.happened.clear()
    busy = make_host(broker, SumRole())
    await busy.assigned(taken(broker, end=1))
    assert broker.happened == []


async def test_quiet_is_said_where_everything_is_read_and_ours(broker: Broker) -> None:
    host = make_host(broker, SumRole())
    await host.assigned(taken(broker, end=1))
    await deliver(host, broker, {0: "1"})
    await host.quiet({0: 2, 7: 1})
    assert ("sent", ("rollups.v1", b"idle")) not in broker.happened, "something is left to read, or not ours"
    await host.quiet({0: 1})
    assert broker.happened.count(("sent", ("rollups.v1", b"idle"))) == 1
    await host.revoked()
    await host.quiet({0: 1})
    assert broker.happened.count(("sent", ("rollups.v1", b"idle"))) == 1


async def test_a_topic_that_was_made_again_is_read_from_its_beginning(broker: Broker) -> None:
    first = make_host(broker, SumRole())
    await first.assigned(taken(broker))
    await deliver(first, broker, {49: "1"})
    await first.close()
    role = SumRole()
    second = make_host(broker, role)
    await second.assigned(taken(broker, end=3))
    await deliver(second, broker, {0: "5"})
    assert role.stages[0].total == 5


async def test_records_that_are_on_the_broker_and_did_not_come_end_the_worker(broker: Broker) -> None:
    role = SumRole()
    host = make_host(broker, role)
    await host.assigned(taken(broker))
    await deliver(host, broker, {0: "1"})
    broker.kept = {3, 4}
    with pytest.raises(RecordsMissed, match=r"offsets 3 to 4 of t\.events\.v1-0"):
        await deliver(host, broker, {5: "5"})
    assert (role.stages[0].total, broker.acked) == (1, [])


async def test_offsets_that_no_record_has_are_passed(broker: Broker) -> None:
    """Retention removed them, or they were a transaction's markers."""
    role = SumRole()
    host = make_host(broker, role)
    await host.assigned(taken(broker))
    broker.kept = {3, 4}
    await deliver(host, broker, {0: "1", 3: "5"})
    assert role.stages[0].total == 6


async def test_retention_that_overtook_the_group_is_no_stall(broker: Broker) -> None:
    broker.committed = 5
    host = make_host(broker, SumRole())
    await host.assigned(taken(broker, begin=20, end=20))
    assert host.positions() == {0: 20}
