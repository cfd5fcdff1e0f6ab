"""A Kubernetes API for the tests: the one of KUBECONFIG, or one that is built and started here."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from lightkube import ApiError, Client, KubeConfig
from lightkube.core.resource import ApiInfo, ResourceDef
from lightkube.generic_resource import GenericGlobalResource, GenericNamespacedResource, create_api_info
from lightkube.models.authentication_v1 import TokenRequestSpec
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.core_v1 import Namespace, ServiceAccount, ServiceAccountToken
from lightkube.types import PatchType

from response.kube import KubeGateway
from response.kube_kinds import RawNetworkPolicy, RawPod
from tests.e2e import apiserver
from tests.e2e.go_binary import ClusterUnavailableError


class ClusterRole(GenericGlobalResource):
    _api_info = create_api_info("rbac.authorization.k8s.io", "v1", "ClusterRole", "clusterroles")


class ClusterRoleBinding(GenericGlobalResource):
    _api_info = create_api_info("rbac.authorization.k8s.io", "v1", "ClusterRoleBinding", "clusterrolebindings")


class PodStatus(GenericNamespacedResource):
    _api_info = ApiInfo(
        resource=ResourceDef("", "v1", "Pod"),
        parent=ResourceDef("", "v1", "Pod"),
        plural="pods",
        verbs=["get", "patch", "put"],
        action="status",
    )


def kubeconfig_of(running: AbstractContextManager[apiserver.ApiServer]) -> Iterator[Path]:
    """An administrator's, of the cluster that KUBECONFIG names, else of a server of our own."""
    given = apiserver.external_kubeconfig()
    if given is not None:
        yield given
        return
    try:
        with running as server:
            yield server.kubeconfig
    except ClusterUnavailableError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def admin_kubeconfig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    yield from kubeconfig_of(apiserver.running(tmp_path_factory.mktemp("apiserver")))


@dataclass(frozen=True)
class Cluster:
    """A namespace of its own in a real cluster, with administrator's hands."""

    client: Client
    kubeconfig: Path
    namespace: str
    closing: ExitStack

    def gateway(self, kubeconfig: Path | None = None) -> KubeGateway:
        """A gateway of the administrator, or of whoever a kubeconfig names; closed with the test."""
        made = KubeGateway(kubeconfig or self.kubeconfig)
        self.closing.callback(made.close)
        return made

    def pod(self, name: str, ip: str, labels: Mapping[str, str]) -> None:
        """A pod that no scheduler takes, so that the status given here stays on any cluster."""
        self.client.create(
            RawPod(
                metadata=ObjectMeta(name=name, namespace=self.namespace, labels=dict(labels)),
                spec={
                    "schedulerName": "sluicegate-e2e",
                    "terminationGracePeriodSeconds": 0,
                    "containers": [{"name": "main", "image": "example.invalid/none"}],
                },
            )
        )
        status = {"status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}]}}
        self.client.patch(PodStatus, name, status, namespace=self.namespace, patch_type=PatchType.MERGE)

    def create_policy(self, name: str, spec: Mapping[str, Any], labels: Mapping[str, str] | None = None) -> None:
        metadata = ObjectMeta(name=name, namespace=self.namespace, labels=dict(labels or {}))
        self.client.create(RawNetworkPolicy(metadata=metadata, spec=dict(spec)))

    def policies(self) -> dict[str, dict[str, Any]]:
        return {
            item["metadata"]["name"]: dict(item)
            for item in self.client.list(RawNetworkPolicy, namespace=self.namespace)
        }

    def get_pod(self, name: str) -> dict[str, Any]:
        return dict(self.client.get(RawPod, name, namespace=self.namespace))


@pytest.fixture
def cluster(admin_kubeconfig: Path) -> Iterator[Cluster]:
    client = Client(KubeConfig.from_file(admin_kubeconfig).get())
    name = f"sluicegate-e2e-{uuid.uuid4().hex[:8]}"
    client.create(Namespace(metadata=ObjectMeta(name=name)))
    with ExitStack() as closing:
        closing.callback(client.close)
        closing.callback(client.delete, Namespace, name)
        # Without a namespace controller a namespace never finishes deleting, so its objects go first.
        for kind in (RawNetworkPolicy, RawPod):
            closing.callback(client.deletecollection, kind, namespace=name)
        yield Cluster(client, admin_kubeconfig, name, closing)


@pytest.fixture
def kubeconfig_with(cluster: Cluster, tmp_path: Path) -> Iterator[Callable[[Sequence[Mapping[str, Any]]], Path]]:
    """Makes a kubeconfig of a service account that has just the given RBAC rules."""
    made: list[str] = []

    def make(rules: Sequence[Mapping[str, Any]]) -> Path:
        name = f"{cluster.namespace}-{len(made)}"
        made.append(name)
        cluster.client.create(ServiceAccount(metadata=ObjectMeta(name=name, namespace=cluster.namespace)))
        cluster.client.create(ClusterRole(metadata=ObjectMeta(name=name), rules=list(rules)))
        role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name}
        subject = {"kind": "ServiceAccount", "name": name, "namespace": cluster.namespace}
        cluster.client.create(ClusterRoleBinding(metadata=ObjectMeta(name=name), roleRef=role, subjects=[subject]))
        request = ServiceAccountToken(metadata=ObjectMeta(), spec=TokenRequestSpec(audiences=[]))
        status = cluster.client.create(request, name, namespace=cluster.namespace).status
        assert status is not None
        document = yaml.safe_load(cluster.kubeconfig.read_text())
        document["users"] = [{"name": user["name"], "user": {"token": status.token}} for user in document["users"]]
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(document))
        return path

    yield make
    for name in made:
        for kind in (ClusterRoleBinding, ClusterRole):
            try:
                cluster.client.delete(kind, name)
            except ApiError as error:
                if error.status.code != 404:
                    raise
