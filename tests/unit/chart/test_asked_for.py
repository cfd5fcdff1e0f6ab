"""What must be asked for in the chart brings its rights with it, and nothing else has them."""

from __future__ import annotations

from typing import Any, get_args

import yaml

from response.plan import load_actions
from response.settings import OptIn
from tests.unit.chart.conftest import EVERYTHING, Render
from tests.unit.chart.test_render import READ, WRITE, _granted, _one, _pods


def test_captures_bring_one_more_right_and_a_directory_of_the_node(render: Render) -> None:
    def agent(*options: str) -> dict[str, Any]:
        objects = render("--values", EVERYTHING, *options)
        return next(template["spec"] for component, template in _pods(objects) if component == "node-agent")

    without, asked = agent(), agent("--set", "nodeAgent.captures.enabled=true")
    added = asked["containers"][0]["securityContext"]["capabilities"]["add"]
    assert added == ["NET_ADMIN", "NET_RAW"]
    (place,) = [item for item in asked["volumes"] if item["name"] == "captures"]
    (mount,) = [item for item in asked["containers"][0]["volumeMounts"] if item["name"] == "captures"]
    assert place["hostPath"]["path"] == "/var/lib/sluicegate/captures"
    variables = {item["name"]: item.get("value") for item in asked["containers"][0]["env"]}
    assert variables["SLUICEGATE_RESPONSE__NODE_AGENT__CAPTURE_DIR"] == mount["mountPath"]
    assert variables["SLUICEGATE_RESPONSE__NODE_AGENT__CAPTURE_ROOM"] == "1073741824"
    assert not any("CAPTURE" in item["name"] for item in without["containers"][0]["env"])


def test_actions_that_must_be_asked_for_bring_their_rights_and_no_others(render: Render) -> None:
    actions = get_args(OptIn)
    objects = render("--set", "responder.enforce=true", "--set", f"responder.optIn={{{','.join(actions)}}}")
    granted = _granted(_one(objects, "ClusterRole", "responder"), {*READ, *WRITE})
    for name in load_actions():
        for right in load_actions()[name].RBAC:
            assert set(right.verbs) <= granted[right.group, right.resource], f"{name}: {right.resource}"
    settings = yaml.safe_load(_one(objects, "ConfigMap", "settings")["data"]["settings.yaml"])
    assert settings["response"]["opt_in"] == list(actions)
    none = _granted(_one(render("--set", "responder.optIn={detach_pod}"), "ClusterRole", "responder"), WRITE)
    assert none == {}
