"""The inventory of a real API server: every kind, least rights, restarts, forgotten versions, churn."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from lightkube import ApiError, Client

from exporter.inventory.agent import InventoryAgent
from exporter.inventory.kube_client import KubeClient
from exporter.inventory.kubernetes import KubernetesSource
from exporter.inventory.settings import InventorySettings
from schemas.identity import IdentityTable
from tests.e2e import apiserver
from tests.e2e.churn import Churn, Listener, compare, now
from tests.e2e.conftest import Cluster, PodStatus
from tests.e2e.go_binary import ClusterUnavailableError
from tests.e2e.inventory_objects import RIGHTS, documents

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

Kubeconfigs = Callable[[Sequence[Mapping[str, Any]]], Path]
QUICK = InventorySettings(retry_s=0.1, retry_limit_s=0.5, flush_s=0.1, internal=("10.64.0.0/16",))


class Running:
    """An agent at work, and what a worker knows by it."""

    def __init__(self, kubeconfig: Path, listener: Listener | None = None, known: Sequence[Any] = ()) -> None:
        self.listener = listener or Listener()
        self._client = KubeClient(QUICK, kubeconfig)
        self.agent = InventoryAgent(
            KubernetesSource(self._client, "test", QUICK, now), self.listener, "test", QUICK, now, known
        )
        self._stop = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def table(self) -> IdentityTable:
        return self.listener.table

    async def __aenter__(self) -> Running:
        self._task = asyncio.create_task(self.agent.run(self._stop))
        return self

    async def __aexit__(self, *error: object) -> None:
        self._stop.set()
        if self._task is not None:
            await self._task
        await self._client.close()

    async def until(self, reached: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):
            while not reached():  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.05)

    async def caught_up(self) -> None:
        moment = now()
        await self.until(lambda: self.agent.watermark > moment)


async def test_with_the_rights_of_the_chart_all_kinds_are_told(cluster: Cluster, kubeconfig_with: Kubeconfigs) -> None:
    created = documents(cluster.namespace)
    for kind, document, status in created:
        await asyncio.to_thread(cluster.client.create, kind.from_dict(document))
        if status:
            name = document["metadata"]["name"]
            await asyncio.to_thread(cluster.client.patch, PodStatus, name, {"status": status},
                                    namespace=cluster.namespace)  # fmt: skip
    cluster.closing.callback(_remove, cluster.client, [(k, d) for k, d, _ in created])
    async with Running(kubeconfig_with(RIGHTS)) as running:
        await running.caught_up()
        assert running.agent.problems() == []
        table, at = running.table, running.agent.watermark
        web = table.endpoint("10.64.1.5", at)
        assert (web.pod, web.workload, web.namespace) == ("web-1", "Deployment/web", cluster.namespace)
        assert (web.service, web.node) == (f"{cluster.namespace}/web", f"{cluster.namespace}-node")
        assert table.endpoint("fd00:64::5", at).pod == "web-1"
        assert table.endpoint("10.64.1.6", at).workload == "CronJob/nightly"
        assert table.endpoint("10.64.1.7", at).workload == "ReplicaSet/lonely"
        assert table.find("10.64.1.8", at) is None  # it has ended, and gave its address back
        node = table.endpoint("192.0.2.77", at)
        assert (node.node, node.pod, node.roles) == (f"{cluster.namespace}-node", None, ("shared",))
        assert table.role("10.64.7.1", at) == "shared"  # where the node's bridge has its address
        assert table.role("10.64.7.200", at) == "internal"
        service = table.service(cluster.namespace, "web", at)
        assert service is not None
        assert table.endpoint(service.ips[0], at).service == f"{cluster.namespace}/web"
        assert table.role("10.96.200.200", at) == "internal"  # told by the ServiceCIDR
        told = {(item.kind, item.name): item for item in running.listener.last.values()}
        assert told["EndpointSlice", "web-abc"].endpoints[0].pod == "web-1"
        policy = told["NetworkPolicy", "web"].policy
        assert policy is not None
        assert policy.model_dump(by_alias=True, exclude_unset=True)["policyTypes"] == ("Ingress",)


def _remove(client: Client, created: Sequence[tuple[Any, dict[str, Any]]]) -> None:
    for kind, document in created:
        metadata = document["metadata"]
        scope = {"namespace": metadata["namespace"]} if "namespace" in metadata else {}
        with suppress(ApiError):  # pods and policies go with the namespace
            client.delete(kind, metadata["name"], **scope)


async def test_without_a_right_the_missing_one_is_named_and_nothing_is_called_complete(
    kubeconfig_with: Kubeconfigs,
) -> None:
    rights = [r for r in RIGHTS if r["resources"] != ["networkpolicies", "servicecidrs"]]
    async with Running(kubeconfig_with(rights)) as running:
        await running.until(lambda: running.agent.book.restarts["refused"] > 1)
        (problem,) = (p for p in running.agent.problems() if "networkpolicies" in p)
        assert "grant the role that docs/inventory.md lists" in problem
        assert running.agent.watermark == -1


@pytest.fixture
def own_server(tmp_path: Path) -> tuple[Path, int]:
    """A folder and port for servers that come and go."""
    try:
        apiserver.PROGRAM.built()
    except ClusterUnavailableError as error:
        pytest.skip(str(error))
    return tmp_path, apiserver.free_port()


async def test_nothing_is_missed_over_restarts_and_a_version_that_the_server_forgot(
    own_server: tuple[Path, int],
) -> None:
    folder, port = own_server
    kubeconfig = folder / "agent.yaml"
    url = f"https://127.0.0.1:{port}"
    kubeconfig.write_text(yaml.safe_dump(apiserver.kubeconfig_document(url, apiserver.ADMIN_TOKEN)))
    async with Running(kubeconfig) as running:
        # It is there before the server is.
        await running.until(lambda: running.agent.book.restarts["unreachable"] > 3)
        with apiserver.running(folder, port) as server:
            churn = Churn(server, "churn", gap=2)
            await churn.prepare()
            await churn.fill(20)
            await running.caught_up()
        stopped = running.agent.watermark
        await running.until(lambda: bool(running.agent.problems()))
        # Where the agent does not see it, pods are replaced and the store forgets how.
        with apiserver.running(folder, apiserver.free_port(), ("--etcd-compaction-interval=2s",)) as elsewhere:
            hidden = churn.moved_to(elsewhere)
            await hidden.turn(rate=10, seconds=3)
            assert running.agent.watermark <= stopped + 2
        said = running.agent.book.statements.said
        with apiserver.running(folder, port):
            await running.caught_up()
            assert running.agent.book.restarts["expired"] > 0
            assert running.agent.problems() == []
            until = now()
        again = running.agent.book.statements.said - said
        # The 20 pods that ended and the 20 of 30 new ones that are still there; what came and went is nobody's loss.
        # And what the server itself changes when it starts.
        assert 40 <= again <= 60
        for tenancy in hidden.truth:
            found = running.table.find(tenancy.ip, int(until) + 5)
            if tenancy.end < until:
                assert found is None or found.name != tenancy.pod
            else:
                assert found is not None
                assert found.name == tenancy.pod
        await churn.close()
        await hidden.close()
    kept = running.listener.last.values()
    with apiserver.running(folder, port):
        async with Running(kubeconfig, Listener(), list(kept)) as successor:
            await successor.caught_up()
            # It has read what was said; only what differs since is said again.
            assert successor.agent.book.statements.said <= 10


async def test_identities_are_right_at_the_time_of_the_flow_while_pods_come_and_go(
    own_server: tuple[Path, int],
) -> None:
    folder, port = own_server
    with apiserver.running(folder, port) as server:
        churn = Churn(server, "churn", gap=4)
        await churn.prepare()
        async with Running(server.kubeconfig) as running:
            await churn.fill(100)
            await churn.turn(rate=15, seconds=12)
            until = now()
            await running.until(lambda: running.agent.watermark > until + 1)
        await churn.close()
    verdict = compare(churn.truth, running.table, until, looks=5, seed=1)
    assert verdict.wrong == []
    assert verdict.right == 7 * len(churn.truth) == 7 * 280
    assert len({t.ip for t in churn.truth}) < 280
    assert verdict.free > 0
