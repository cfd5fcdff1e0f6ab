"""Whose packets they are, by the interface that they entered by: floods and scans under addresses of others."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from detectors.detect import DetectEngine
from detectors.registry import build_detectors
from detectors.settings import EngineSettings
from schemas.alert import Alert
from schemas.event_codec import EventMessage
from schemas.events import LinkClaim
from schemas.identity import IdentityTable
from schemas.inventory import InventoryObject
from stream.pipeline import Pipeline
from stream.stages import Parts, PipelineSettings
from tests.event_rows import CONVERSATION, ICMP, UDP, Node, Row, flow

SENDER, VICTIM, OTHER = "10.0.1.5", "10.0.2.3", "10.0.3.7"
VETH = "veth-a5"


def pod(name: str, ip: str, **more: object) -> InventoryObject:
    fields = {"kind": "Pod", "uid": name, "namespace": "shop", "name": name, "ips": (ip,)} | more
    return InventoryObject.model_validate(fields)


PODS = (pod("sender", SENDER), pod("victim", VICTIM), pod("other", OTHER))


def behind(interface: str = VETH, address: str = SENDER, claim: int = LinkClaim.POD_INTERFACE) -> Row:
    """The node's word about one of its interfaces."""
    return {"claim": claim, "interface": interface, "claimed": address if claim == LinkClaim.POD_INTERFACE else "::"}


def syns(count: int, src: str = OTHER, **more: object) -> list[Row]:
    return [flow(src, VICTIM, 8000) | {"src_port": 1024 + n, "interface": VETH} | more for n in range(count)]


def alerts(messages: Sequence[EventMessage], detector: str, pods: Sequence[InventoryObject] = PODS) -> list[Alert]:
    pipeline = Pipeline(Parts(PipelineSettings(), IdentityTable(pods)))
    return [a for output in pipeline.run(messages) for a in output.alerts if a.detector == detector]


def two_nodes(seconds: Sequence[tuple[Sequence[Row], Sequence[Row]]], said: Sequence[Row]) -> list[EventMessage]:
    """Seconds of the sender's and of the victim's node; the sender's says first whose interfaces its are."""
    one, two = Node("node1"), Node("node2")
    out = [one.second(0, link=said), two.second(0)]
    for at, (sent, seen) in enumerate(seconds, 1):
        out += [one.second(at, flows=sent), two.second(at, flows=seen)]
    return [*out, one.second(90), two.second(90)]


def evidence(alert: Alert) -> dict[str, float]:
    return {item.name: item.value for item in alert.evidence}


def test_a_forged_flood_is_counted_once_and_names_the_pod_behind_the_interface() -> None:
    copies = syns(1000, interface="eth0", copy=True)
    messages = two_nodes([(syns(1000), ()), (syns(1000), copies), (syns(1000), copies), ((), copies)], [behind()])
    alert = alerts(messages, "syn_flood")[-1]
    assert evidence(alert)["attempts"] == 3000
    assert evidence(alert)["by_interfaces_of_pods"] == 3000
    assert not alert.spoofable
    (attacker,) = alert.attackers
    assert (attacker.pod, attacker.ip, attacker.interface, attacker.forged) == ("sender", SENDER, VETH, (OTHER,))
    assert "shop/sender (interface veth-a5 of node1)" in alert.explanation


def test_inventory_may_say_whose_interface_it_is_with_its_time() -> None:
    pods = (*PODS, pod("sender", SENDER, node="node1", interface=VETH), pod("late", "10.0.1.6", node="node1",
            interface=VETH, valid_from=1 << 32))  # fmt: skip
    (attacker,) = alerts(two_nodes([(syns(2000), ())], ()), "syn_flood", pods)[-1].attackers
    assert (attacker.pod, attacker.forged) == ("sender", (OTHER,))


def test_copies_count_where_the_senders_node_tells_nothing() -> None:
    copies = syns(1000, interface="eth0", copy=True)
    alert = alerts(two_nodes([((), copies), ((), copies)], [behind()]), "syn_flood")[-1]
    assert evidence(alert)["attempts"] == 2000
    assert alert.spoofable
    assert alert.victims[0].port == 8000
    assert [end.pod for end in alert.attackers] == ["other"]


def test_what_comes_by_an_uplink_too_leaves_the_sender_unproven() -> None:
    mixed = [*syns(1000), *syns(1000, interface="eth0")]
    alert = alerts(two_nodes([(mixed, ())], [behind()]), "syn_flood")[-1]
    assert alert.spoofable
    assert [end.pod for end in alert.attackers] == ["sender", "other"]


def test_an_interface_that_has_gone_proves_nothing() -> None:
    gone = behind(claim=LinkClaim.INTERFACE_REMOVED)
    alert = alerts(two_nodes([(syns(2000), ())], [behind(), gone]), "syn_flood")[-1]
    assert alert.spoofable
    assert [end.pod for end in alert.attackers] == ["other"]


@pytest.mark.parametrize("detector", ["udp_flood", "icmp_flood"])
def test_floods_of_packets_name_the_pod(detector: str) -> None:
    if detector == "udp_flood":
        rows = [flow(OTHER, VICTIM, 9999, proto=UDP, src_port=n, interface=VETH) for n in range(12_500)]
    else:
        rows = [flow(OTHER, VICTIM, 0, proto=ICMP, icmp_type=8, icmp_id=1, src_packets=4000, interface=VETH)]
    alert = alerts(two_nodes([(rows, ())], [behind()]), detector)[-1]
    assert [(end.pod, end.forged) for end in alert.attackers] == [("sender", (OTHER,))]
    assert not alert.spoofable


def test_who_was_made_to_answer_a_forged_question_is_not_proven_to_be_the_sender() -> None:
    rows = [flow(SENDER, VICTIM, 0, proto=ICMP, icmp_type=0, icmp_id=1, src_packets=4000, interface=VETH)]
    alert = alerts(two_nodes([(rows, ())], [behind()]), "icmp_flood")[-1]
    assert alert.spoofable
    assert "interface" not in alert.explanation


def test_a_scan_under_anothers_address_names_the_scanner() -> None:
    probes = [flow(OTHER, VICTIM, port, interface=VETH) for port in range(1, 200)]
    alert = alerts(two_nodes([(probes, ())], [behind()]), "port_scan")[-1]
    assert [(end.pod, end.forged) for end in alert.attackers] == [("sender", (OTHER,))]
    assert not alert.spoofable


def test_who_scans_under_the_address_of_a_neighbour_that_failed_before_does_not_frame_it() -> None:
    """OTHER's failed connection comes first, by its own interface; then SENDER scans the same host in its name."""
    said = [behind(), behind("veth-o", OTHER)]
    failed = [flow(OTHER, VICTIM, port, interface="veth-o") for port in (81, 82)]
    probes = [flow(OTHER, VICTIM, port, interface=VETH) for port in range(1, 200)]
    (attacker,) = alerts(two_nodes([(failed, ()), (probes, ())], said), "port_scan")[-1].attackers
    assert (attacker.pod, attacker.forged) == ("sender", (OTHER,))
    both = alerts(two_nodes([([*failed, *probes], ())], said), "port_scan")[-1]
    assert both.spoofable
    assert both.attackers[0].interface is None


def test_a_second_family_of_a_pod_is_not_taken_for_forged() -> None:
    six, victim6 = "fd00::1:5", "fd00::2:3"
    probes = [flow(six, victim6, port, interface=VETH) for port in range(1, 200)]
    for pods in (PODS, (*PODS, pod("sender", SENDER, ips=(SENDER, six)))):
        (attacker,) = alerts(two_nodes([(probes, ())], [behind()]), "port_scan", pods)[-1].attackers
        assert (attacker.ip, attacker.interface, attacker.forged) == (six, VETH, ())


def test_batches_change_nothing_and_few_packets_are_not_looked_at() -> None:
    copies = syns(1000, interface="eth0", copy=True)
    messages = two_nodes([(syns(1000), ()), (syns(1000), copies), (syns(40), copies)], [behind()])

    def rollups(size: int) -> list[bytes]:
        engine = DetectEngine(0, EngineSettings(), build_detectors({}), IdentityTable(PODS))
        steps = [messages[at : at + size] for at in range(0, len(messages), size)]
        return [rollup.encode() for step in steps for rollup in engine.feed(step).rollups]

    assert rollups(1) == rollups(3) == rollups(len(messages))


def test_a_conversation_is_no_flood_whose_entrance_is_told() -> None:
    rows = [flow(SENDER, VICTIM, 80, marks=CONVERSATION, src_port=n, interface=VETH) for n in range(3000)]
    engine = DetectEngine(0, EngineSettings(), build_detectors({}), IdentityTable(PODS))
    out = [rollup for m in two_nodes([(rows, ())], [behind()]) for rollup in engine.feed([m]).rollups]
    assert not any("entrance" in rollup.batches for rollup in out)
