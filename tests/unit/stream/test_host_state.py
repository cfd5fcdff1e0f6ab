"""What a host keeps on state.v1: what is written, cleared, and made of it by the next owner."""

import time
from collections.abc import Mapping

import numpy as np
import pytest

from detectors.snapshot import Section
from stream.checkpoint import StateMismatch
from stream.checkpointer import CheckpointTooLarge
from stream.host import PartitionHost
from stream.outbox import SendFailed
from tests.unit.stream.memory import Broker, Sum, SumRole, deliver, index_of, make_host, taken


@pytest.fixture
def broker() -> Broker:
    return Broker()


def counted(host: PartitionHost, name: str, **labels: str) -> float | None:
    return host._telemetry.registry.get_sample_value(f"sluicegate_{name}", labels)


async def saved(broker: Broker, values: dict[int, str]) -> None:
    """A worker that takes these values and stops cleanly."""
    host = make_host(broker, SumRole())
    await host.assigned(taken(broker))
    await deliver(host, broker, values)
    await host.close()


class OtherSections(SumRole):
    """A build that keeps `total` in another version, and a section that the former did not know."""

    def open(self, partition: int) -> Sum:
        stage = super().open(partition)
        whole = stage.restore

        def restore(sections: Mapping[str, Section]) -> list[str]:
            return whole({n: Section(s.version + (n == "total"), s.state) for n, s in sections.items()})

        stage.restore = restore  # type: ignore[method-assign]
        return stage


async def test_a_section_of_another_version_starts_cold_and_the_rest_is_kept(broker: Broker) -> None:
    await saved(broker, {0: "1", 1: "5"})
    role = OtherSections()
    host = make_host(broker, role)
    await host.assigned(taken(broker))
    await deliver(host, broker, {2: "5"})
    assert (role.stages[-1].total, int(role.stages[-1].seen[5])) == (5, 2)
    assert counted(host, "sections_cold_total", agent="sum", section="total") == 1
    assert counted(host, "restores_total", agent="sum", outcome="snapshot") == 1


async def test_a_section_that_is_not_understood_starts_cold_and_the_rest_is_kept(broker: Broker) -> None:
    class Wordy(SumRole):
        def open(self, partition: int) -> Sum:
            stage = super().open(partition)
            kept = stage.snapshot
            stage.snapshot = lambda: {**kept(), "total": Section(1, {"total": "many"})}  # type: ignore[method-assign]
            return stage

    first = make_host(broker, Wordy())
    await first.assigned(taken(broker))
    await deliver(first, broker, {0: "5"})
    await first.close()
    role = SumRole()
    host = make_host(broker, role)
    await host.assigned(taken(broker))
    await deliver(host, broker, {1: "5"})
    assert (role.stages[-1].total, int(role.stages[-1].seen[5])) == (5, 2)
    assert counted(host, "sections_cold_total", agent="sum", section="total") == 1


async def test_a_stage_whose_state_is_lost_is_told_so(broker: Broker) -> None:
    await saved(broker, {0: "1"})
    broker.state.clear()
    told: list[Mapping[str, Section]] = []

    class Told(SumRole):
        def open(self, partition: int) -> Sum:
            stage = super().open(partition)
            stage.restore = lambda sections: told.append(sections) or []  # type: ignore[method-assign,func-returns-value]
            return stage

    host = make_host(broker, Told())
    await host.assigned(taken(broker))
    assert told == [{}]
    assert counted(host, "restores_total", agent="sum", outcome="lost") == 1


async def test_a_state_above_its_limit_is_refused_with_the_remedy(broker: Broker) -> None:
    role = SumRole()
    host = make_host(broker, role, checkpoint_bytes=1 << 20)
    await host.assigned(taken(broker))
    await deliver(host, broker, {0: "1"})
    role.stages[0].seen = np.zeros((1 << 20) + 1, np.int64)
    with pytest.raises(CheckpointTooLarge, match=r"worker\.checkpoint_bytes"):
        await host.close()
    assert broker.acked == []


async def test_a_state_of_another_partition_count_is_refused_with_the_remedy(broker: Broker) -> None:
    await saved(broker, {0: "1"})
    other = make_host(broker, SumRole(), partitions=8)
    with pytest.raises(StateMismatch, match="sluicegate state drop sum"):
        await other.assigned(taken(broker))


async def checkpoint(host: PartitionHost) -> None:
    """One that is due: how long that takes after the last one is not what these tests are about."""
    await host._checkpoint("interval")


def alive(broker: Broker) -> set[bytes]:
    return set(index_of(broker.state).keys)


async def test_what_a_checkpoint_replaced_is_cleared_after_its_commit(broker: Broker) -> None:
    host = make_host(broker, SumRole())
    await host.assigned(taken(broker))
    for offset in range(20):
        await deliver(host, broker, {offset: str(offset)})
        await checkpoint(host)
    manifests = [key for key in alive(broker) if key.endswith(b"/manifest")]
    assert [key.split(b"/")[3] for key in manifests] == [b"20"]
    found = index_of(broker.state).complete()[0]
    assert alive(broker) - {b"sum/0/claim"} == {*found.offsets, *manifests}


async def test_an_owner_whose_commit_the_group_refuses_clears_nothing(broker: Broker) -> None:
    await saved(broker, {0: "1"})
    before = alive(broker)
    broker.refuse_commits = True
    late = make_host(broker, SumRole())
    await late.assigned(taken(broker))
    await deliver(late, broker, {1: "2"})
    await late.close()
    assert before <= alive(broker)


async def test_a_former_owner_that_goes_on_late_costs_the_newer_one_nothing(broker: Broker) -> None:
    former = make_host(broker, SumRole())
    await former.assigned(taken(broker))
    await deliver(former, broker, {0: "1"})
    newer = make_host(broker, SumRole())
    await newer.assigned(taken(broker))
    await deliver(newer, broker, {0: "1", 1: "2"})
    await checkpoint(newer)
    await deliver(newer, broker, {2: "3"})
    # The paused one wakes up and writes what it has; the group takes no commit from it.
    broker.refuse_commits = True
    await former.close()
    broker.refuse_commits = False
    await newer.close()
    role = SumRole()
    last = make_host(broker, role)
    await last.assigned(taken(broker))
    assert role.stages[-1].total == 6


@pytest.mark.parametrize("where", [b"/3/", b"/manifest"])
async def test_a_kill_while_a_checkpoint_is_written_leaves_the_one_before(broker: Broker, where: bytes) -> None:
    killed = make_host(broker, SumRole())
    await killed.assigned(taken(broker))
    await deliver(killed, broker, {0: "1", 1: "2"})
    await checkpoint(killed)
    await deliver(killed, broker, {2: "4"})
    broker.stop_at = where
    with pytest.raises(SendFailed):
        await checkpoint(killed)
    broker.stop_at = None
    assert broker.committed == 2
    role = SumRole()
    second = make_host(broker, role)
    await second.assigned(taken(broker))
    await deliver(second, broker, {2: "4"})
    assert role.stages[-1].total == 7


async def test_a_partition_kept_goes_on_with_its_chain_and_a_new_one_begins_with_everything(broker: Broker) -> None:
    host = make_host(broker, SumRole())
    await host.assigned(taken(broker))
    await deliver(host, broker, {0: "1"})
    await host.revoked()
    broker.generation += 1
    await host.assigned(taken(broker))
    await deliver(host, broker, {1: "1"})
    await host.close()
    assert len({p.next_offset for p in index_of(broker.state).complete()[0].manifest.chunks}) == 2
    await saved(broker, {2: "1"})
    assert {p.next_offset for p in index_of(broker.state).complete()[0].manifest.chunks} == {3}


async def test_what_was_only_repeated_is_acknowledged_without_another_snapshot(broker: Broker) -> None:
    await saved(broker, {0: "1", 1: "2"})
    broker.committed = 1
    count = len(broker.state)
    await saved(broker, {1: "2"})
    assert broker.committed == 2
    assert len(broker.state) == count + 1  # the claim


async def test_a_checkpoint_is_overdue_only_while_something_waits_for_it(broker: Broker) -> None:
    host = make_host(broker, SumRole(), checkpoint_interval_s=10)
    await host.assigned(taken(broker))
    later = time.monotonic() + 1000
    assert host.overdue(later) == {}
    await deliver(host, broker, {0: "1"})
    assert 985 < host.overdue(later)[0] < 995
    assert host.oldest_uncovered(later) > 990
    await host.revoked()
    assert host.overdue(later) == {}
    assert host.oldest_uncovered(later) == 0
