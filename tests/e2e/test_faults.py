"""Many containments applied, expired, reverted and stopped while the API fails: exact, and nobody else's is touched.

SLUICEGATE_E2E_CONTAINMENTS sets how many (60; a fifth as many faults): 1000 with 200 faults is the full size.
"""

from __future__ import annotations

import os
import queue
import re
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml
from lightkube import Client, KubeConfig
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.core_v1 import ConfigMap, Namespace
from lightkube.types import PatchType

from response.gateway import ClusterError
from response.kube import KubeGateway
from response.kube_kinds import RawEvent, RawNetworkPolicy, RawPod
from response.lease import Candidate
from response.ledger import STANDING, replayed
from response.responder import Responder
from response.settings import BudgetSettings, ResponseSettings, UpkeepSettings
from response.signing import Operator, Signer, Verifier, load_operators, load_signer, new_keys, write_private_key
from schemas.action import Action
from schemas.command import Command, Verb
from schemas.finding import Endpoint
from schemas.response import ActionName, ResponseDecision
from schemas.word import iso_time
from sluicegate.leadership import Leadership
from tests.e2e.conftest import Cluster, PodStatus
from tests.e2e.fault_proxy import Faults, Write, faulty

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(3600)]

SIZE = int(os.environ.get("SLUICEGATE_E2E_CONTAINMENTS", "60"))
PER_NAMESPACE = 20
NOW = 1_800_000_000
SETTINGS = ResponseSettings(
    budgets=BudgetSettings(
        per_namespace=SIZE, per_minute=SIZE, cluster=SIZE + 1, stop_after=10 * SIZE, replica_share=1
    ),
    upkeep=UpkeepSettings(repairs=1000),
)
# Requests of one applied containment and of taking it back, as counted; faults are spread over them.
_REQUESTS = 20


class Field:
    """Namespaces with pods and foreign policies on a real API server, and what they looked like before."""

    def __init__(self, kubeconfig: Path, closing: ExitStack) -> None:
        self.client = Client(KubeConfig.from_file(kubeconfig).get())
        closing.callback(self.client.close)
        run = secrets.token_hex(3)
        self.namespaces = [f"sluicegate-faults-{run}-{n}" for n in range(-(-SIZE // PER_NAMESPACE))]
        for name in self.namespaces:
            self.client.create(Namespace(metadata=ObjectMeta(name=name)))
            closing.callback(self.client.delete, Namespace, name)
            for kind in (RawNetworkPolicy, RawPod, RawEvent):
                closing.callback(self.client.deletecollection, kind, namespace=name)
            spec = {"podSelector": {"matchLabels": {"app": "nobody"}}, "policyTypes": ["Ingress"]}
            for foreign in ("theirs", "sluicegate-like"):
                self.client.create(RawNetworkPolicy(metadata=ObjectMeta(name=foreign, namespace=name), spec=spec))
        for number in range(SIZE):
            self._pod(number)
        self.before = self.snapshot()

    def _pod(self, number: int) -> None:
        name, namespace, ip = self.subject(number)
        labels = {"app": name, "team": "blue"}
        spec = {"schedulerName": "sluicegate-e2e", "containers": [{"name": "main", "image": "example.invalid/none"}],
                "terminationGracePeriodSeconds": 0}  # fmt: skip
        self.client.create(RawPod(metadata=ObjectMeta(name=name, namespace=namespace, labels=labels), spec=spec))
        status = {"status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}]}}
        self.client.patch(PodStatus, name, status, namespace=namespace, patch_type=PatchType.MERGE)

    def subject(self, number: int) -> tuple[str, str, str]:
        """Name, namespace and address of a pod."""
        return f"web-{number}", self.namespaces[number // PER_NAMESPACE], f"198.18.{number // 250}.{number % 250 + 1}"

    def snapshot(self) -> dict[str, Any]:
        """Every policy and pod of the namespaces, as far as it does not change by being looked at."""
        found = {}
        for kind in (RawNetworkPolicy, RawPod):
            for namespace in self.namespaces:
                for item in self.client.list(kind, namespace=namespace, chunk_size=500):
                    document = dict(item)
                    document["metadata"] = dict(document["metadata"])
                    for name in ("resourceVersion", "managedFields", "generation"):
                        document["metadata"].pop(name, None)
                    found[f"{kind.__name__} {namespace}/{document['metadata']['name']}"] = document
        return found

    def decision(self, number: int) -> ResponseDecision:
        name, namespace, ip = self.subject(number)
        action: ActionName = "quarantine_pod" if number % 4 == 0 else "block_egress_destination"
        return ResponseDecision(
            id=f"faults-{number}", alert_id=f"alert-{number}", alert_revision=1, cluster="test", detector="port_scan",
            kind="port_scan_vertical", severity="high", confidence=0.9, category="intrusion", mode="enforce",
            actions=(action,), attackers=(Endpoint(ip=ip, pod=name, namespace=namespace, identity="known"),),
            victims=(Endpoint(ip="203.0.113.9", port=443, protocol="TCP"),), spoofable=False, decided_tick=NOW,
            # A third is due long before the others.
            deadline_s=60, ttl_s=600 if number % 3 == 0 else 3600, reason="test",
        )  # fmt: skip


class Actor:
    """A responder behind the proxy, and all that it said."""

    def __init__(self, gateway: KubeGateway, operators: dict[str, Operator], signer: Signer) -> None:
        self.gateway, self._operators, self._signer = gateway, operators, signer
        self.audit: list[Action] = []
        self.restart()

    def restart(self) -> None:
        ledger = replayed(Action.decode(action.encode()) for action in self.audit)
        self.responder = Responder(self.gateway, SETTINGS, "test", ledger, Verifier(self._operators))

    def apply(self, decision: ResponseDecision, now: float) -> int:
        """Tries until it is applied, as later revisions of an alert would."""
        for tries in range(1, 12):
            self.audit += self.responder.respond(decision, now)
            known = self.responder.ledger.get(decision.id)
            if known is not None and known.phase in STANDING:
                return tries
        pytest.fail(f"{decision.id} was not applied: {[a.message for a in self.audit[-3:]]}")

    def command(self, verb: Verb, target: str, now: float) -> None:
        word = Command(id=secrets.token_hex(8), cluster="test", verb=verb, target=target, issued_at=iso_time(now))
        self.audit += self.responder.obey(self._signer.sign(word), now)

    def look(self, now: float) -> list[Action]:
        said = self.responder.reconcile(now)
        self.audit += said
        return list(said)

    def settle(self, now: float, phases: set[str]) -> None:
        """Looks until everything that stands is in one of some responses, as every minute would."""
        for _ in range(15 + SIZE // 25):
            self.look(now)
            if (
                not self.responder.unfinished
                and {item.response_id for item in self.responder.ledger.all(STANDING)} == phases
            ):
                return
        left = {item.response_id for item in self.responder.ledger.all(STANDING)} ^ phases
        pytest.fail(f"not settled: {sorted(left)[:5]}: {[a.message for a in self.audit[-3:]]}")


@pytest.fixture
def field(admin_kubeconfig: Path) -> Iterator[Field]:
    with ExitStack() as closing:
        yield Field(admin_kubeconfig, closing)


def keys(place: Path) -> tuple[dict[str, Operator], Signer]:
    private, lines = new_keys("ana-1", "Ana")
    write_private_key(place / "ana.pem", private)
    (place / "operators.yaml").write_text(lines)
    return load_operators(place / "operators.yaml"), load_signer(place / "ana.pem", "ana-1")


def through(kubeconfig: Path, url: str, place: Path) -> Path:
    document = yaml.safe_load(kubeconfig.read_text())
    document["clusters"][0]["cluster"] = {"server": url}
    path = place / "proxied.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


def test_the_end_is_exact_and_nobody_elses_object_is_touched(
    field: Field, admin_kubeconfig: Path, tmp_path: Path
) -> None:
    server = yaml.safe_load(admin_kubeconfig.read_text())["clusters"][0]["cluster"]["server"]
    wanted = SIZE // 5
    faults = Faults(share=min(0.3, 2 * wanted / (_REQUESTS * SIZE)), most=wanted)
    began = time.monotonic()
    with faulty(server, faults) as url:
        gateway = KubeGateway(through(admin_kubeconfig, url, tmp_path), timeout_s=1.0 + SIZE / 200)
        faults.slow_s = 1.5 + SIZE / 200
        actor = Actor(gateway, *keys(tmp_path))
        tries, took = Counter[int](), []
        for number in range(SIZE):
            at = time.monotonic()
            tries[actor.apply(field.decision(number), NOW + number / 1000)] += 1
            took.append(time.monotonic() - at)
        everything = {f"faults-{number}" for number in range(SIZE)}
        applied_s = time.monotonic() - began
        actor.restart()
        actor.settle(NOW + 30, everything)
        proven_s = time.monotonic() - began - applied_s
        held = {name for name in field.snapshot() if "sluicegate-faults-" in name.split("/")[-1]}
        assert len(held) == SIZE
        at = time.monotonic()
        quiet = [action.message for action in actor.look(NOW + 31) if action.outcome == "repaired"]
        quiet_s = time.monotonic() - at
        assert quiet == [], "what nobody touched is no drift"

        due = {f"faults-{number}" for number in range(0, SIZE, 3)}
        actor.settle(NOW + 700, everything - due)
        reverted = {f"faults-{number}" for number in range(1, SIZE, 3)}
        for response_id in sorted(reverted):
            actor.command("revert", response_id, NOW + 701)
        actor.restart()
        actor.settle(NOW + 730, everything - due - reverted)
        actor.command("stop", "*", NOW + 740)
        actor.settle(NOW + 760, set())
        actor.look(NOW + 770)
        gateway.close()
    assert field.snapshot() == field.before
    assert faults.injected.total() == wanted, f"only {faults.injected.total()} faults in {faults.requests} requests"
    strange = [write for write in faults.writes if not _ours(write, field)]
    assert strange == []
    print(f"\n{SIZE} containments, {faults.requests} requests, {len(faults.writes)} writes, faults "
          f"{dict(sorted(faults.injected.items()))}, tries {dict(sorted(tries.items()))}, "
          f"applied in {applied_s:.0f} s, proven again in {proven_s:.0f} s, a look with nothing new {quiet_s:.2f} s, "
          f"{time.monotonic() - began:.0f} s in all")  # fmt: skip
    for standing in (10, 100, SIZE):
        near = sorted(took[max(0, standing - 10) : standing])
        print(f"with {standing} standing: {near[len(near) // 2] * 1000:.0f} ms a containment" if near else "")


def _ours(write: Write, field: Field) -> bool:
    """Whether a write concerns only what is ours: our policies by name, our label on contained pods, our Events."""
    path = write.path.split("?")[0]
    space = "|".join(map(re.escape, field.namespaces))
    if re.fullmatch(rf"/apis/networking\.k8s\.io/v1/namespaces/({space})/networkpolicies/sluicegate-faults-\d+", path):
        return write.method in ("PATCH", "DELETE")
    if re.fullmatch(rf"/api/v1/namespaces/({space})/events", path):
        return write.method == "POST" and write.body["metadata"]["labels"] == {
            "app.kubernetes.io/managed-by": "sluicegate"
        }
    if not re.fullmatch(rf"/api/v1/namespaces/({space})/pods/web-\d+", path) or write.method != "PATCH":
        return False
    metadata = write.body["metadata"]
    keys_written = {*metadata.get("labels", {}), *metadata.get("annotations", {})}
    return set(write.body) == {"apiVersion", "kind", "metadata"} and all(
        key.startswith("sluicegate.io/") for key in keys_written
    )


def test_of_two_responders_one_leads_and_the_other_takes_over(field: Field, admin_kubeconfig: Path) -> None:
    namespace = field.namespaces[0]
    gateways = [KubeGateway(admin_kubeconfig) for _ in range(2)]
    one, two = (Candidate(namespace, "responder", name) for name in ("one", "two"))
    moment = [100.0]
    first, second = (Leadership(g, c, lambda: moment[0]) for g, c in zip(gateways, (one, two), strict=True))
    assert first.attempt()
    assert not second.attempt()
    assert (one.leads(moment[0]), two.leads(moment[0])) == (True, False)
    moment[0] += 3
    assert first.attempt(), "renewing"
    assert not second.attempt()
    moment[0] += 10.1
    assert not one.leads(moment[0]), "a leader that cannot renew stops before the other begins"
    assert not second.attempt()
    moment[0] += 5.1
    assert second.attempt()
    assert not first.attempt()
    second.release()
    assert first.attempt(), "a released Lease is taken at once"
    for gateway in gateways:
        gateway.close()


def test_a_change_in_the_cluster_is_noticed_by_its_watch(field: Field, admin_kubeconfig: Path) -> None:
    gateway = KubeGateway(admin_kubeconfig)
    changes = gateway.changes("NetworkPolicy")
    for _ in range(2 * len(field.namespaces)):
        next(changes)
    spec = {"podSelector": {}, "policyTypes": ["Egress"]}
    field.client.create(RawNetworkPolicy(metadata=ObjectMeta(name="deny", namespace=field.namespaces[0]), spec=spec))
    next(changes)
    gateway.close()


def test_the_kill_switch_is_noticed_by_its_watch_and_nobody_elses_config_map_is(
    cluster: Cluster, kubeconfig_with: Callable[[Sequence[Mapping[str, Any]]], Path]
) -> None:
    name = f"{cluster.namespace}/stop"
    rule = {"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["stop"]}
    gateway = cluster.gateway(kubeconfig_with([{**rule, "verbs": ["get", "watch"]}]))
    seen: queue.Queue[float] = queue.Queue()
    ended = threading.Event()

    def watch() -> None:
        for _ in gateway.kill_switch_changes(name):
            seen.put(time.monotonic())
            if ended.is_set():
                return

    watching = threading.Thread(target=watch, daemon=True)
    watching.start()
    took = []
    for _ in range(5):
        cluster.client.create(ConfigMap(metadata=ObjectMeta(name="other", namespace=cluster.namespace)))
        cluster.client.delete(ConfigMap, "other", namespace=cluster.namespace)
        at = time.monotonic()
        cluster.client.create(ConfigMap(metadata=ObjectMeta(name="stop", namespace=cluster.namespace)))
        took.append(seen.get(timeout=30) - at)
        assert gateway.kill_switch(name)
        cluster.client.delete(ConfigMap, "stop", namespace=cluster.namespace)
        seen.get(timeout=30)
    assert seen.empty()
    print(f"\nnoticed after {min(took) * 1000:.0f} to {max(took) * 1000:.0f} ms")
    polling = cluster.gateway(kubeconfig_with([{**rule, "verbs": ["get"]}]))
    with pytest.raises(ClusterError) as lost:
        next(polling.kill_switch_changes(name))
    assert lost.value.reason == "forbidden"
    assert polling.kill_switch(name) == ""
    ended.set()
    cluster.client.create(ConfigMap(metadata=ObjectMeta(name="stop", namespace=cluster.namespace)))
    watching.join(30)
    assert polling.kill_switch(name), "without the watch it is looked for"
    cluster.client.delete(ConfigMap, "stop", namespace=cluster.namespace)


def test_a_default_deny_that_arrives_later_makes_ours_go(field: Field, admin_kubeconfig: Path, tmp_path: Path) -> None:
    gateway = KubeGateway(admin_kubeconfig)
    actor = Actor(gateway, *keys(tmp_path))
    actor.apply(field.decision(1), NOW)
    _, namespace, _ = field.subject(1)
    spec = {"podSelector": {}, "policyTypes": ["Egress"]}
    field.client.create(RawNetworkPolicy(metadata=ObjectMeta(name="deny", namespace=namespace), spec=spec))
    said = actor.look(NOW + 5)
    assert said[0].outcome == "cancelled", said
    assert said[0].reason in ("widens", "already_blocked")
    held = [name for name in field.snapshot() if "sluicegate-faults" in name.split("/")[-1]]
    assert held == []
    gateway.close()
