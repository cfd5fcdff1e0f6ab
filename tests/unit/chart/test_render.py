"""Every rendered object is what Kubernetes accepts, and no pod has more rights than it needs."""

import subprocess
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from detectors.rule_file import load_rules
from exporter.live_sources import LIVE_SOURCES
from response.plan import load_dialects
from response.policyfile import parse_policy
from response.signing import load_operators
from sluicegate.settings import Settings
from tests.contract.command_line import parse
from tests.e2e.inventory_objects import RIGHTS

ROOT = Path(__file__).resolve().parents[3]
CHART = ROOT / "helm" / "sluicegate"
EVERYTHING = str(Path(__file__).with_name("everything.yaml"))

# Root of the container, with one right: Kubernetes gives added capabilities to nobody else.
NODE_AGENT = {
    "runAsNonRoot": False, "runAsUser": 0, "runAsGroup": 0, "capabilities": {"drop": ["ALL"], "add": ["NET_ADMIN"]},
}  # fmt: skip

Documents = list[dict[str, Any]]
Render = Callable[..., Documents]
RunHelm = Callable[..., subprocess.CompletedProcess[str]]


def _pods(objects: Documents) -> Iterator[tuple[str, dict[str, Any]]]:
    for item in objects:
        if item["kind"] in ("Deployment", "StatefulSet", "Job", "DaemonSet"):
            yield item["metadata"]["labels"]["app.kubernetes.io/component"], item["spec"]["template"]


def _one(objects: Documents, kind: str, component: str) -> dict[str, Any]:
    (found,) = (
        item
        for item in objects
        if item["kind"] == kind and item["metadata"]["labels"]["app.kubernetes.io/component"] == component
    )
    return found


def _files(objects: Documents) -> dict[str, str]:
    (found,) = (item["data"] for item in objects if item["kind"] == "ConfigMap")
    files: dict[str, str] = found
    return files


def _settings(objects: Documents) -> Settings:
    return Settings(**yaml.safe_load(_files(objects)["settings.yaml"]))


@pytest.mark.parametrize("values", [(), ("--values", EVERYTHING)], ids=["defaults", "everything"])
def test_lints(run_helm: RunHelm, values: tuple[str, ...]) -> None:
    done = run_helm("lint", "--strict", str(CHART), *values)
    assert done.returncode == 0, done.stdout + done.stderr


def test_objects_are_valid(objects: Documents) -> None:
    # ServiceMonitor belongs to the Prometheus operator; Kubernetes' schemas do not know it.
    for item in objects:
        if item["kind"] != "ServiceMonitor":
            kubernetes_validate.validate(item, "1.34", strict=True)


def test_kinds_are_complete(render: Render) -> None:
    everything = {item["kind"] for item in render("--values", EVERYTHING)}
    assert everything == {
        "ClusterRole", "ClusterRoleBinding", "ConfigMap", "DaemonSet", "Deployment", "Job", "NetworkPolicy",
        "PodDisruptionBudget", "Role", "RoleBinding", "Service", "ServiceAccount", "ServiceMonitor", "StatefulSet",
    }  # fmt: skip
    assert everything - {item["kind"] for item in render()} == {"DaemonSet", "ServiceMonitor"}


def test_names_are_unique(objects: Documents) -> None:
    names = [(item["kind"], item["metadata"]["name"]) for item in objects]
    assert len(names) == len(set(names))


def test_pods_are_confined(objects: Documents) -> None:
    components = set()
    for component, template in _pods(objects):
        components.add(component)
        pod = template["spec"]
        if component == "exporter":
            continue  # It cannot be: test_the_exporter_has_what_its_sources_need.
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
                **(NODE_AGENT if component == "node-agent" else {}),
            }
            assert "memory" in container["resources"]["limits"]
            # The image's entry point is the command; the chart gives arguments only.
            assert "command" not in container
        assert pod.get("hostNetwork", False) is (component == "node-agent")
        assert not any("hostPath" in volume for volume in pod["volumes"])
    assert components - {"node-agent", "exporter"} == {"worker", "responder", "inventory", "topics"}


def test_nodes_obey_the_key_that_the_responder_signs_with(render: Render) -> None:
    objects = render("--values", EVERYTHING)
    variables = {component: _variables(template) for component, template in _pods(objects)}
    responder, agent = variables["responder"], variables["node-agent"]
    assert responder["SLUICEGATE_RESPONSE__NODE_STEPS__ENABLED"] == "true"
    keys = yaml.safe_load(_files(objects)["node-keys.yaml"])
    assert responder["SLUICEGATE_RESPONSE__NODE_STEPS__KEY_ID"] in keys
    assert agent["SLUICEGATE_RESPONSE__NODE_AGENT__PUBLIC_KEYS_FILE"] == "/etc/sluicegate/settings/node-keys.yaml"
    assert not any("NODE" in name for name in variables["worker"])


def test_agents_without_a_key_are_not_rendered(run_helm: RunHelm) -> None:
    done = run_helm("template", "demo", str(CHART), "--kube-version", "1.34.0", "--set", "nodeAgent.enabled=true")
    assert done.returncode != 0
    assert "nodeAgent.keys" in done.stderr


def _variables(template: dict[str, Any]) -> dict[str, str]:
    (container,) = template["spec"]["containers"]
    return {item["name"]: str(item.get("value", "")) for item in container["env"]}


@pytest.mark.parametrize(
    ("sources", "added", "processes"),
    [
        ("packets", ["NET_RAW"], False),
        ("packets,conntrack", ["NET_RAW", "NET_ADMIN"], False),
        ("packets,conntrack,host", ["NET_RAW", "NET_ADMIN", "SYS_PTRACE"], True),
    ],
)
def test_the_exporter_has_what_its_sources_need(
    render: Render, sources: str, added: list[str], processes: bool
) -> None:
    names = sources.split(",")
    needs = {privilege.name.removeprefix("CAP_") for name in names for privilege in LIVE_SOURCES[name].needs}
    assert needs == set(added)
    made = render("--set", f"exporter.enabled=true,exporter.sources={{{sources}}}")
    pod = _one(made, "DaemonSet", "exporter")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"], "add": added},
    }  # fmt: skip
    assert (pod["hostNetwork"], pod["hostPID"], pod["securityContext"]["seccompProfile"]) == (
        True, processes, {"type": "RuntimeDefault"},
    )  # fmt: skip
    assert [a for a in container["args"] if a.startswith("--source")] == [f"--source={name}" for name in names]
    assert "memory" in container["resources"]["limits"]


def test_the_exporter_is_told_of_its_network_and_has_a_place_for_what_waits(render: Render) -> None:
    made = render("--values", EVERYTHING)
    exporter = _settings(made).exporter
    assert exporter.packets.uplinks == ("eth*",)
    assert [str(network) for network in exporter.packets.cluster_networks] == ["10.244.0.0/16"]
    (container,) = _one(made, "DaemonSet", "exporter")["spec"]["template"]["spec"]["containers"]
    assert str(exporter.live.spool) in {mount["mountPath"] for mount in container["volumeMounts"]}


def test_only_responder_and_inventory_can_talk_to_the_cluster(objects: Documents) -> None:
    for component, template in _pods(objects):
        may = component in ("responder", "inventory")
        assert template["spec"].get("automountServiceAccountToken") is may
        assert ("serviceAccountName" in template["spec"]) is may


def test_own_pods_carry_the_label_that_the_guard_protects(objects: Documents) -> None:
    for _, template in _pods(objects):
        assert template["metadata"]["labels"]["app.kubernetes.io/part-of"] == "sluicegate"


def test_selectors_match_their_pods(objects: Documents) -> None:
    labels = {component: template["metadata"]["labels"] for component, template in _pods(objects)}
    for item in objects:
        component = item["metadata"]["labels"]["app.kubernetes.io/component"]
        spec = item.get("spec", {})
        selector = {
            "Deployment": lambda spec: spec["selector"]["matchLabels"],
            "StatefulSet": lambda spec: spec["selector"]["matchLabels"],
            "DaemonSet": lambda spec: spec["selector"]["matchLabels"],
            "PodDisruptionBudget": lambda spec: spec["selector"]["matchLabels"],
            "NetworkPolicy": lambda spec: spec["podSelector"]["matchLabels"],
            "Service": lambda spec: spec["selector"],
        }.get(item["kind"])
        if selector is not None:
            wanted = selector(spec)
            matched = [name for name, have in labels.items() if wanted.items() <= have.items()]
            assert matched == [component], item["metadata"]["name"]


def test_probes_ask_the_health_port(objects: Documents) -> None:
    port = _settings(objects).stream.health.port
    for component, template in _pods(objects):
        (container,) = template["spec"]["containers"]
        probes = {name: probe["httpGet"] for name, probe in container.items() if name.endswith("Probe")}
        if component == "topics":
            assert probes == {}
            continue
        if component == "node-agent":
            assert container["ports"] == [{"name": "metrics", "containerPort": 19465}]
            assert _variables(template)["SLUICEGATE_STREAM__HEALTH__PORT"] == "19465"
        else:
            assert container["ports"] == [{"name": "metrics", "containerPort": port}]
        assert probes == {
            "startupProbe": {"path": "/healthz", "port": "metrics"},
            "livenessProbe": {"path": "/healthz", "port": "metrics"},
            "readinessProbe": {"path": "/readyz", "port": "metrics"},
        }


def test_grace_period_exceeds_the_stop_deadline(objects: Documents) -> None:
    deadline = Settings().stream.worker.stop_deadline_s
    for component, template in _pods(objects):
        if component != "topics":
            assert template["spec"]["terminationGracePeriodSeconds"] > deadline


def test_settings_are_what_the_program_reads(render: Render) -> None:
    stream = _settings(render("--values", EVERYTHING)).stream
    assert stream.kafka.bootstrap == "broker-0.kafka:9093,broker-1.kafka:9093"
    assert (stream.kafka.prefix, stream.kafka.security) == ("prod", "sasl_tls")
    assert stream.kafka.sasl_password_file == Path("/etc/sluicegate/login/password")
    assert stream.kafka.key_file == Path("/etc/sluicegate/tls/tls.key")
    assert (stream.topics.event_partitions, stream.topics.rollup_partitions, stream.topics.replication) == (16, 8, 3)
    # What the operator adds is merged, not replaced.
    assert (stream.worker.checkpoint_interval_s, stream.health.stall_s, stream.health.host) == (30, 120, "0.0.0.0")


def test_files_named_in_the_settings_are_mounted(render: Render) -> None:
    for _, template in _pods(render("--values", EVERYTHING)):
        (container,) = template["spec"]["containers"]
        mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
        volumes = {volume["name"] for volume in template["spec"]["volumes"]}
        assert set(mounts.values()) == volumes
        assert {"/etc/sluicegate/settings", "/etc/sluicegate/login", "/etc/sluicegate/tls"} <= set(mounts)


def test_policy_is_one_that_the_program_accepts(render: Render) -> None:
    assert parse_policy(_files(render("--values", EVERYTHING))["policy.yaml"], "policy.yaml").mode == "approve"


def test_rules_are_ones_that_the_program_accepts(render: Render) -> None:
    (rule,) = load_rules(_files(render("--values", EVERYTHING))["rules.yaml"])
    assert rule.name == "ddos_attack"


def test_files_that_were_not_asked_for_are_left_out(render: Render) -> None:
    assert set(_files(render())) == {"settings.yaml"}


def test_program_is_told_of_every_file_it_is_given(objects: Documents) -> None:
    for component, template in _pods(objects):
        (container,) = template["spec"]["containers"]
        variables = {item["name"]: item.get("value") for item in container["env"]}
        assert variables["SLUICEGATE_CONFIG"] == "/etc/sluicegate/settings/settings.yaml"
        told = [
            *container["args"],
            variables.get("SLUICEGATE_RESPONSE__COMMANDS__PUBLIC_KEYS_FILE") or "",
            variables.get("SLUICEGATE_RESPONSE__NODE_AGENT__PUBLIC_KEYS_FILE") or "",
        ]
        given = {argument.rsplit("/", 1)[-1] for argument in told if argument.startswith("/etc/")}
        operators = {"operators.yaml"} & set(_files(objects))
        nodes = {"node-keys.yaml"} & set(_files(objects))
        rest = set(_files(objects)) - {"settings.yaml"} - operators - nodes
        wanted = {"worker": rest, "responder": operators, "node-agent": nodes}
        assert given == wanted.get(component, set())


def test_arguments_are_commands_of_ours(objects: Documents) -> None:
    commands = {component: parse(template["spec"]["containers"][0]["args"]) for component, template in _pods(objects)}
    assert commands.pop("node-agent", "node-agent") == "node-agent"
    assert commands.pop("exporter", "export") == "export"
    assert commands == {
        "worker": "worker", "responder": "respond", "inventory": "inventory", "topics": "topics create",
    }  # fmt: skip


def test_members_of_consumer_groups_keep_their_names(objects: Documents) -> None:
    named = {
        component: item
        for component, template in _pods(objects)
        for item in template["spec"]["containers"][0]["env"]
        if item["name"] == "SLUICEGATE_STREAM__WORKER__INSTANCE"
    }
    assert set(named) == {"worker", "responder"}
    assert named["worker"]["valueFrom"]["fieldRef"]["fieldPath"] == "metadata.name"
    # A Deployment's pod has another name after every restart; as a group member that would be a stranger.
    assert named["responder"]["value"] == "responder"


def _verbs(role: dict[str, Any]) -> dict[str, set[str]]:
    verbs: dict[str, set[str]] = {}
    for rule in role["rules"]:
        for resource in rule["resources"]:
            verbs.setdefault(resource, set()).update(rule["verbs"])
    return verbs


def test_operators_are_ones_that_the_program_believes(render: Render, tmp_path: Path) -> None:
    settings = _one(render("--values", EVERYTHING), "ConfigMap", "settings")
    (tmp_path / "operators.yaml").write_text(settings["data"]["operators.yaml"])
    assert [operator.person for operator in load_operators(tmp_path / "operators.yaml").values()] == ["Ana"]


READ, WRITE = {"get", "list", "watch"}, {"create", "patch", "delete", "update"}


def _declared(wanted: set[str]) -> dict[tuple[str, str], set[str]]:
    """What the dialects say that they need, by API group and resource, of some verbs."""
    needs: dict[tuple[str, str], set[str]] = {}
    for permission in (item for module in load_dialects().values() for item in module.RBAC):
        needs.setdefault((permission.group, permission.resource), set()).update(wanted.intersection(permission.verbs))
    return {key: verbs for key, verbs in needs.items() if verbs}


def _granted(role: dict[str, Any], wanted: set[str]) -> dict[tuple[str, str], set[str]]:
    grants: dict[tuple[str, str], set[str]] = {}
    for rule in role["rules"]:
        for group, resource in product(rule["apiGroups"], rule["resources"]):
            grants.setdefault((group, resource), set()).update(wanted.intersection(rule["verbs"]))
    return {key: verbs for key, verbs in grants.items() if verbs}


def test_responder_may_only_read_unless_told(render: Render) -> None:
    role = _one(render(), "ClusterRole", "responder")
    assert _granted(role, WRITE) == {}
    read = _granted(role, READ)
    for resource in ("namespaces", "pods", "services"):
        assert read["", resource] == READ
    assert read["networking.k8s.io", "networkpolicies"] == READ
    assert all(verbs <= read[key] for key, verbs in _declared(READ).items())
    own = _verbs(_one(render(), "Role", "responder"))
    assert own == {"configmaps": {"get", "watch"}, "leases": {"get", "create", "update"}}


def test_enforcing_responder_may_write_policies_of_its_dialects_and_label_pods(render: Render) -> None:
    role = _one(render("--set", "responder.enforce=true"), "ClusterRole", "responder")
    besides = {("", "pods"): {"patch"}, ("", "events"): {"create"}}
    assert _granted(role, WRITE) == {**_declared(WRITE), **besides}


@pytest.mark.parametrize("component", ["responder", "inventory"])
def test_role_is_bound_to_its_component_alone(objects: Documents, component: str) -> None:
    binding = _one(objects, "ClusterRoleBinding", component)
    account = _one(objects, "ServiceAccount", component)["metadata"]["name"]
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": account, "namespace": "sluicegate"}]
    assert binding["roleRef"]["name"] == _one(objects, "ClusterRole", component)["metadata"]["name"]


def test_inventory_has_just_the_rights_that_it_was_tried_with(objects: Documents) -> None:
    # tests/e2e runs the agent with these on a real API server, and without one of them.
    assert _one(objects, "ClusterRole", "inventory")["rules"] == RIGHTS


def test_inventory_can_be_left_out(render: Render) -> None:
    components = {
        item["metadata"]["labels"]["app.kubernetes.io/component"] for item in render("--set", "inventory.enabled=false")
    }
    assert components == {"worker", "responder", "topics", "settings"}


def test_responder_can_be_left_out(render: Render) -> None:
    components = {
        item["metadata"]["labels"]["app.kubernetes.io/component"] for item in render("--set", "responder.enabled=false")
    }
    assert components == {"worker", "inventory", "topics", "settings"}


def test_changed_settings_roll_the_pods(render: Render) -> None:
    def checksum(*arguments: str) -> str:
        pod = _one(render(*arguments), "StatefulSet", "worker")["spec"]["template"]
        return str(pod["metadata"]["annotations"]["checksum/settings"])

    assert checksum() == checksum()
    assert checksum() != checksum("--set", "kafka.prefix=other")
