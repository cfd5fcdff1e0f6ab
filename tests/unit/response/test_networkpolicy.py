from __future__ import annotations

from typing import Any

import pytest

from schemas.policy.networkpolicy import PolicyError, read_policy


def document(**spec: Any) -> dict[str, Any]:
    return {"metadata": {"namespace": "shop", "name": "p"}, "spec": spec}


@pytest.mark.parametrize(
    ("spec", "place"),
    [
        ({"ingress": [{"from": [{}]}]}, "spec.ingress.0.from.0"),
        ({"ingress": [{"from": [{"newKindOfPeer": {"a": 1}}]}]}, "spec.ingress.0.from.0"),
        ({"ingress": [{"from": [{"ipBlock": {"cidr": "10.0.0.0/8"}, "podSelector": {}}]}]}, "spec.ingress.0.from.0"),
        ({"ingress": [{"from": [{"ipBlock": {"cidr": "10.0.0.0/33"}}]}]}, "spec.ingress.0.from.0.ipBlock.cidr"),
        ({"ingress": [{"from": [{"ipBlock": {"except": []}}]}]}, "spec.ingress.0.from.0.ipBlock.cidr"),
        (
            {"ingress": [{"from": [{"ipBlock": {"cidr": "::/0", "except": ["x"]}}]}]},
            "spec.ingress.0.from.0.ipBlock.except",
        ),
        ({"ingress": [{"ports": [{"protocol": "ICMP"}]}]}, "spec.ingress.0.ports.0.protocol"),
        ({"ingress": [{"ports": [{"port": 0}]}]}, "spec.ingress.0.ports.0.port"),
        ({"ingress": [{"ports": [{"port": 65536}]}]}, "spec.ingress.0.ports.0.port"),
        ({"ingress": [{"ports": [{"port": True}]}]}, "spec.ingress.0.ports.0.port"),
        ({"ingress": [{"ports": [{"port": "80"}]}]}, "spec.ingress.0.ports.0.port"),
        ({"ingress": [{"ports": [{"port": "http", "endPort": 90}]}]}, "spec.ingress.0.ports.0"),
        ({"ingress": [{"ports": [{"port": 90, "endPort": 80}]}]}, "spec.ingress.0.ports.0"),
        ({"ingress": [{"ports": [{"endPort": 80}]}]}, "spec.ingress.0.ports.0"),
        ({"policyTypes": ["Sideways"]}, "spec.policyTypes.0"),
        ({"podSelector": {"matchExpressions": [{"key": "a", "operator": "Gt"}]}}, "matchExpressions.0.operator"),
        ({"podSelector": {"matchExpressions": [{"key": "a", "operator": "In"}]}}, "matchExpressions.0"),
        (
            {"podSelector": {"matchExpressions": [{"key": "a", "operator": "Exists", "values": ["b"]}]}},
            "matchExpressions.0",
        ),
    ],
)
def test_what_cannot_be_read_with_certainty_is_refused_in_one_line(spec: dict[str, Any], place: str) -> None:
    with pytest.raises(PolicyError) as caught:
        read_policy(document(**spec))
    text = str(caught.value)
    assert text.startswith("NetworkPolicy shop/p: spec.")
    assert place in text
    assert "\n" not in text


def test_unknown_fields_elsewhere_are_tolerated() -> None:
    made = read_policy({**document(podSelector={}, later=1), "status": {"x": 1}, "kind": "NetworkPolicy"})
    assert made.key == "shop/p"


def test_control_characters_do_not_reach_the_message() -> None:
    with pytest.raises(PolicyError) as caught:
        read_policy({"metadata": {"namespace": "a\x1b[2J", "name": "p"}, "spec": {"policyTypes": ["x"]}})
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize("value", [None, [], "text", {"metadata": None}, {"metadata": {"name": ""}}])
def test_things_that_are_no_policy(value: Any) -> None:
    with pytest.raises(PolicyError):
        read_policy(value)


def test_old_objects_with_host_bits_and_mapped_blocks_are_read_as_the_server_does() -> None:
    made = read_policy(document(ingress=[{"from": [{"ipBlock": {"cidr": "::ffff:10.1.2.3/104"}}]}]))
    block = made.spec.ingress[0].peers[0].ip_block
    assert block is not None
    span, _ = block.spans()
    assert (span.family, span.address()) == (4, "10.0.0.0")
