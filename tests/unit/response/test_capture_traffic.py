"""capture_traffic: what is asked for, what a node refuses, where it listens, and what stays known of it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from response.ledger import MAX_EVIDENCE, replayed
from response.node.audit import told_of_capture
from response.node.captured import Captured
from response.node.commands import manifest_of
from response.node.gateway import command_of
from response.node.kernel_tools import ToolError
from response.node.place import interface_of
from response.node.settings import NodeStepSettings
from response.plan import PlanContext, climb
from response.record import incident_record, markdown
from response.settings import ResponseSettings
from schemas.node_command import Capture, NodeCommand
from schemas.policy.cluster import Pod
from schemas.word import iso_time
from tests.unit.response.cluster_cases import NOW, VIEW, WEB, decision, end
from tests.unit.response.test_node_enforcer import SIGNER, Node
from tests.unit.response.test_orders import RESPONSE, Desk

ON = ResponseSettings(opt_in=("capture_traffic",), node_steps=NodeStepSettings(enabled=True, capture_s=30))
SUSPECT = replace(WEB, node="node-1")
WISH = {"address": "10.0.0.10", "packets": 10, "bytes": 8192, "seconds": 5}
FILE = Captured("r1.pcap", "veth1", 7, 900, 0, "ab" * 32, "time")


def tried(pod: Pod = SUSPECT, settings: ResponseSettings = ON, **more: Any) -> Any:
    view = replace(VIEW, pods=(pod, *(item for item in VIEW.pods if item.key != pod.key)))
    asked = decision("capture_traffic", attackers=(end(pod),), **more)
    return climb(PlanContext(asked, view, settings, iso_time(NOW + 600)))[-1]


def test_it_asks_the_pods_node_for_a_bounded_capture_and_claims_nothing() -> None:
    attempt = tried()
    (manifest,) = attempt.plan.manifests
    assert manifest["spec"]["captures"] == [
        {"address": "10.0.0.10", "packets": 10_000, "bytes": 1 << 24, "seconds": 30}
    ]
    assert (attempt.proof.reason, attempt.watch) == ("nothing_to_prove", ())
    command = command_of(manifest, "local", NOW)
    assert manifest_of(command)["spec"] == manifest["spec"], "what the node was told reads back"


@pytest.mark.parametrize(
    ("pod", "settings", "more", "reason"),
    [
        (SUSPECT, ResponseSettings(node_steps=NodeStepSettings(enabled=True)), {}, "not_opted_in"),
        (SUSPECT, ResponseSettings(opt_in=("capture_traffic",)), {}, "no_node_agent"),
        (WEB, ON, {}, "no_node"),
        (SUSPECT, ON, {"spoofable": True}, "spoofable"),
    ],
)
def test_it_is_refused(pod: Pod, settings: ResponseSettings, more: Mapping[str, Any], reason: str) -> None:
    assert tried(pod, settings, **more).refusal.reason == reason


def test_a_node_captures_within_its_bounds_and_only_where_it_has_a_place(tmp_path: Path) -> None:
    now = float(NOW)
    assert Node().say(now, captures=[WISH]) == "no_capture_dir"
    node = Node(capture_dir=tmp_path, capture_packets=10, capture_bytes=8192, capture_s=5)
    assert node.say(now, captures=[WISH]) == ""
    assert node.settle(now) is None
    assert node.entries() == {}, "the tables have nothing of it"
    for more in ({"packets": 11}, {"bytes": 8193}, {"seconds": 6}):
        assert node.say(now, captures=[{**WISH, **more}]) == "too_much"
    for address in ("10.0.0.0/24", "no address", "::ffff:10.0.0.1"):
        assert node.say(now, captures=[{**WISH, "address": address}]) == "bad_entry"


def test_what_is_not_allowed_of_a_command_forbids_all_of_it(tmp_path: Path) -> None:
    node = Node(capture_dir=tmp_path, capture_packets=1)
    cut = {"source": "10.0.0.1", "destination": "192.0.2.1"}
    assert node.say(float(NOW), cuts=[cut], captures=[WISH]) == "too_much"
    assert node.settle(float(NOW)) is None
    assert node.entries() == {}


def test_commands_of_before_there_were_captures_are_still_believed() -> None:
    fields = {"id": "command-1", "issued_at": "x", "cluster": "c", "node": "n", "verb": "lift", "response_id": "r1"}
    plain = NodeCommand.model_validate(fields)
    assert "captures" not in json.loads(plain.canonical())
    asking = NodeCommand.model_validate({**fields, "captures": [WISH]})
    assert SIGNER.sign(asking).signature != SIGNER.sign(plain).signature
    assert json.loads(asking.canonical())["captures"] == [WISH]


ROUTE = {"dst": "10.0.0.10", "dev": "cni0", "flags": []}
ANSWERS: dict[str, list[dict[str, Any]]] = {
    "ip -j route get 10.0.0.10": [ROUTE],
    "ip -j -details link show dev cni0": [{"ifname": "cni0", "linkinfo": {"info_kind": "bridge"}}],
    "ip -j neighbour show 10.0.0.10 dev cni0": [{"dst": "10.0.0.10", "lladdr": "02:00:00:00:00:10"}],
    "bridge -j fdb show br cni0": [
        {"mac": "02:00:00:00:00:11", "ifname": "veth2"}, {"mac": "02:00:00:00:00:10", "ifname": "veth1"},
    ],
}  # fmt: skip


def answering(**changes: list[dict[str, Any]]) -> Any:
    """A node whose programs print this; changes are by the program's third word."""

    def run(argv: Sequence[str], stdin: bytes) -> bytes:
        line = " ".join(argv)
        changed = next((rows for word, rows in changes.items() if word in argv), None)
        return json.dumps(ANSWERS[line] if changed is None else changed).encode()

    return run


def test_a_pod_on_a_bridge_is_behind_the_port_that_the_bridge_learned() -> None:
    assert interface_of("10.0.0.10", answering()) == "veth1"


def test_a_pod_that_is_routed_to_is_behind_that_interface() -> None:
    veth = [{"ifname": "cali1", "linkinfo": {"info_kind": "veth"}}]
    assert interface_of("10.0.0.10", answering(route=[{**ROUTE, "dev": "cali1"}], link=veth)) == "cali1"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"route": []}, "not_here"),
        ({"route": [{**ROUTE, "gateway": "10.1.0.1"}]}, "not_here"),
        ({"route": [{**ROUTE, "type": "local", "dev": "lo"}]}, "not_here"),
        ({"route": [{**ROUTE, "dev": "-x"}]}, "not_here"),
        ({"neighbour": []}, "not_learned"),
        ({"neighbour": [{"lladdr": "nonsense"}]}, "not_learned"),
        ({"fdb": []}, "not_learned"),
        ({"fdb": [{"mac": "02:00:00:00:00:10", "ifname": "cni0"}]}, "not_learned"),
    ],
)
def test_where_a_pod_is_is_not_guessed(changes: dict[str, list[dict[str, Any]]], reason: str) -> None:
    with pytest.raises(ToolError) as caught:
        interface_of("10.0.0.10", answering(**changes))
    assert caught.value.reason == reason


def told(response_id: str = RESPONSE, number: int = 0) -> Any:
    command = NodeCommand(
        id=f"command-{number}", issued_at=iso_time(NOW), cluster="test", node="node-1", verb="apply",
        response_id=response_id, alert_id="alert-1", action="capture_traffic", captures=(Capture.model_validate(WISH),),
    )  # fmt: skip
    return told_of_capture(command, "10.0.0.10", FILE, NOW + 5, "test", "node-1")


def test_the_hash_is_in_the_ledger_and_in_the_record() -> None:
    desk = Desk()
    desk.decided(decision("quarantine_pod", mode="enforce"))
    action = told()
    assert (action.outcome, action.reason) == ("node_captured", "time")
    ledger = replayed([*desk.audit, action, action])
    known = ledger.get(RESPONSE)
    assert known is not None
    assert (known.phase, known.reason) == ("applied", "proven"), "the step says nothing of the containment"
    assert known.evidence == (f"node/node-1: {FILE.text('10.0.0.10')}",)
    record = incident_record("alert-1", "test", None, (), [*desk.audit, action])
    assert FILE.sha256 in record.captures[0]
    assert FILE.sha256 in markdown(record)


def test_what_is_remembered_of_captures_is_bounded() -> None:
    desk = Desk()
    desk.decided(decision("quarantine_pod", mode="enforce"))
    many = [
        told(number=number).model_copy(update={"message": f"capture {number}"}) for number in range(MAX_EVIDENCE + 5)
    ]
    known = replayed([*desk.audit, *many]).get(RESPONSE)
    assert known is not None
    assert len(known.evidence) == MAX_EVIDENCE
    assert replayed([told("unknown")]).get("unknown") is None


def test_what_is_listed_of_a_capture_is_the_file() -> None:
    (listed,) = told().manifests
    assert {name: listed[name] for name in ("kind", "node", "file", "sha256")} == {
        "kind": "Capture", "node": "node-1", "file": "r1.pcap", "sha256": "ab" * 32,
    }  # fmt: skip
