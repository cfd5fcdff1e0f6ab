"""What was learned of a workload outlives its pods, and does not pass on with an address.

Pods here come and go as in a rollout: new names, new addresses, and old addresses given to others ten seconds later.
"""

from __future__ import annotations

import numpy as np

from detectors.models.traffic_anomaly import TrafficAnomaly
from schemas.finding import Finding
from schemas.identity import IdentityTable
from schemas.inventory import InventoryObject
from tests.event_rows import BEGIN, CONVERSATION, Node, Row, flow
from tests.unit.detectors.one_detector import run
from tests.unit.detectors.test_traffic_anomaly import START, generated, step, view

OLD, NEW, GIT, FAR = "10.0.0.5", "10.0.0.77", "10.0.0.9", "203.0.113.9"
DAY = 86_400
MEGABYTE = 1_000_000


def pod(name: str, ip: str, workload: str, begin: int, end: int | None = None) -> InventoryObject:
    """A pod of namespace shop from a second of the play up to, not including, another."""
    return InventoryObject(
        kind="Pod", uid=name, namespace="shop", name=name, ips=(ip,), workload=workload, node="node1",
        valid_from=BEGIN + begin, valid_to=None if end is None else BEGIN + end,
    )  # fmt: skip


def rollout(at: int) -> list[InventoryObject]:
    """A Deployment whose pod is replaced; ten seconds later its address is a stranger's."""
    return [
        pod("ship-aaa-1", OLD, "Deployment/ship", 0, at), pod("ship-bbb-1", NEW, "Deployment/ship", at - 5),
        pod("stranger-1", OLD, "Deployment/stranger", at + 10), pod("git-0", GIT, "StatefulSet/git", 0),
    ]  # fmt: skip


class TestEdges:
    """Connections to admin ports, after the node has been watched for longer than it takes to know its habits."""

    AT = 200

    def told(self, src: str, at: int) -> list[Finding]:
        def talk(who: str) -> list[Row]:
            return [flow(who, GIT, 22, marks=CONVERSATION)]

        node = Node()
        messages = [node.second(second, flows=talk(OLD)) for second in (5, 50, 150)]
        messages.append(node.second(at, flows=talk(src)))
        return run("lateral_movement", messages, rollout(self.AT), learning=100)

    def test_the_new_pod_of_a_rollout_uses_what_the_old_one_used(self) -> None:
        assert self.told(NEW, self.AT + 1) == []

    def test_who_gets_the_old_address_does_not_inherit_it(self) -> None:
        (found,) = self.told(OLD, self.AT + 11)
        assert (found.evidence[0].name, found.attackers[0].pod) == ("watched", "stranger-1")

    def test_in_between_the_address_is_nobodys(self) -> None:
        (found,) = self.told(OLD, self.AT + 5)
        assert (found.attackers[0].identity, found.attackers[0].pod) == ("unknown", None)


class TestDailyVolume:
    """A nightly upload of 90 MB; 20 MB is what a workload may send that never sent more than a little."""

    AT = 3 * DAY

    def told(self, src: str, amount: int) -> list[Finding]:
        def upload(who: str, second: int, size: int) -> list[Row]:
            times = {"start": (BEGIN + second - 1) * 10**9, "end": (BEGIN + second) * 10**9}
            return [flow(who, FAR, 443, marks=0, src_bytes=size, dst_bytes=0, src_packets=size // 1400, **times)]

        node = Node()
        messages = [node.second(n * DAY + 10, flows=upload(OLD, n * DAY + 10, 90 * MEGABYTE)) for n in range(3)]
        second = self.AT + 100
        messages.append(node.second(second, flows=upload(src, second, amount)))
        return run("exfiltration", messages, rollout(self.AT))

    def test_the_new_pod_uploads_what_the_old_one_did(self) -> None:
        # Three times as much is above what any unknown workload may send, and within this one's habit.
        assert self.told(NEW, 300 * MEGABYTE) == []

    def test_and_is_held_to_its_habit(self) -> None:
        (found,) = self.told(NEW, 400 * MEGABYTE)
        assert found.attackers[0].workload == "Deployment/ship"
        assert found.evidence[0].limit == 4 * 90 * MEGABYTE

    def test_on_a_node_to_which_the_workload_came_its_first_day_is_told_and_slight(self) -> None:
        second = self.AT + 100
        times = {"start": (BEGIN + second - 1) * 10**9, "end": (BEGIN + second) * 10**9}
        rows = [flow(NEW, FAR, 443, marks=0, src_bytes=300 * MEGABYTE, src_packets=9, **times)]
        node = Node()
        messages = [node.second(1), node.second(second, flows=rows)]
        here = pod("ship-bbb-1", NEW, "Deployment/ship", self.AT).model_copy(update={"node": "node1"})
        before = pod("ship-aaa-1", OLD, "Deployment/ship", 0).model_copy(update={"node": "node2"})
        for inventory, severity in (([here, before], "low"), ([here], "medium")):
            (found,) = run("exfiltration", messages, inventory)
            assert found.severity == severity

    def test_who_gets_the_old_address_is_a_workload_that_nobody_knows(self) -> None:
        (found,) = self.told(OLD, 110 * MEGABYTE)
        assert found.attackers[0].workload == "Deployment/stranger"
        assert found.evidence[0].limit == 100 * MEGABYTE


class TestTrafficOfAMinute:
    """The learned anomaly; its rows come from all nodes, so that a pod may go to another one as well."""

    def model(
        self, table: IdentityTable, members: dict[str, range], more: tuple[int, float] = (0, 1.0)
    ) -> list[Finding]:
        model, found = TrafficAnomaly(), list[Finding]()
        rows = {
            ip: generated(150, step(more[0], 150, bytes_out=more[1]), seed=number)
            for number, ip in enumerate(sorted(members), 1)
        }
        for minute in range(150):
            items = [(ip, rows[ip][minute]) for ip, there in members.items() if minute in there]
            found += model.evaluate(view(minute, items, identities=table))
        return found

    @staticmethod
    def told(
        name: str, ip: str, begin: int, end: int | None = None, workload: str = "Deployment/web"
    ) -> InventoryObject:
        return InventoryObject(
            kind="Pod", uid=name, namespace="shop", name=name, ips=(ip,), workload=workload,
            valid_from=START + 60 * begin, valid_to=None if end is None else START + 60 * end + 1,
        )  # fmt: skip

    def test_rollouts_and_new_replicas_are_silent_and_their_baseline_is_one(self) -> None:
        table = IdentityTable([
            self.told("web-a-1", "10.0.0.1", 0, 100), self.told("web-a-2", "10.0.0.2", 0, 100),
            self.told("web-b-1", "10.0.0.3", 99), self.told("web-b-2", "10.0.0.4", 99),
            self.told("web-b-3", "10.0.0.5", 120),
        ])  # fmt: skip
        members = {
            "10.0.0.1": range(100), "10.0.0.2": range(100), "10.0.0.3": range(100, 150), "10.0.0.4": range(100, 150),
            "10.0.0.5": range(121, 150),
        }  # fmt: skip
        assert self.model(table, members) == []
        # The rollout brings a version that sends eight times as much: known by the old pods' baseline.
        found = self.model(table, members, (100, 8.0))
        assert found[0].subject == "shop/Deployment/web"
        assert {e.pod for e in found[0].attackers} == {"web-b-1", "web-b-2"}

    def test_who_gets_an_address_starts_from_nothing(self) -> None:
        table = IdentityTable([
            self.told("web-a-1", "10.0.0.1", 0, 100), self.told("batch-1", "10.0.0.1", 100, workload="Job/batch"),
        ])  # fmt: skip
        # Eight times as much from minute 101 on would be an alarm for web; of batch nothing is known yet.
        assert self.model(table, {"10.0.0.1": range(110)}, (101, 8.0)) == []

    def test_without_identities_an_address_is_what_is_known(self) -> None:
        found = self.model(IdentityTable(), {"10.0.0.1": range(150)}, (101, 8.0))
        assert found[0].subject == "10.0.0.1"
        assert found[0].attackers[0].identity == "unknown"
        assert np.isfinite([e.value for f in found for e in f.evidence]).all()
