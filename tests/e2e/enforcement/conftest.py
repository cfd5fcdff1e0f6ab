"""The API server of these tests is their own: they say which node and which pods there are."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

import pytest

from response.kube import KubeGateway
from response.responder import Responder
from response.settings import ResponseSettings
from tests.e2e import apiserver
from tests.e2e.enforcement.lab_cluster import LabCluster, server_flags
from tests.e2e.enforcement.stack import CLUSTER
from tests.e2e.go_binary import ClusterUnavailableError
from tests.integration.conftest import bootstrap, local_kafka
from tests.lab.lab import missing

__all__ = ("bootstrap", "local_kafka")  # the broker of a session

TOOLS = {"iptables": "iptables", "ipset": "ipset"}


def unavailable() -> str | None:
    """Why nothing can be enforced here, in one line, or None."""
    if reason := missing():
        return reason
    absent = [tool for tool in TOOLS if shutil.which(tool) is None]
    if absent:
        return f"the enforcer needs {', '.join(absent)} (Debian: apt install {' '.join(TOOLS[t] for t in absent)})"
    return None


def server_of(running: AbstractContextManager[apiserver.ApiServer]) -> Iterator[apiserver.ApiServer]:
    """A server for the lab, where something can be enforced."""
    if reason := unavailable():
        pytest.skip(reason)
    if apiserver.external_kubeconfig() is not None:
        pytest.skip("KUBECONFIG names a cluster whose nodes are not this lab's")
    try:
        with running as server:
            yield server
    except ClusterUnavailableError as error:
        pytest.skip(str(error))


def enforced_server(folder: Path) -> AbstractContextManager[apiserver.ApiServer]:
    return apiserver.running(folder, flags=server_flags(folder))


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[apiserver.ApiServer]:
    yield from server_of(enforced_server(tmp_path_factory.mktemp("enforced-apiserver")))


_AS_SHIPPED = ResponseSettings()
Enforced = Callable[..., LabCluster]


@pytest.fixture
def enforced(server: apiserver.ApiServer, tmp_path: Path) -> Iterator[Enforced]:
    """Makes a lab of the named pods, known to the API server and guarded by the enforcer; all ends with the test."""
    with ExitStack() as closing:

        def make(names: Sequence[str], **options: Any) -> LabCluster:
            return closing.enter_context(LabCluster(server, tmp_path, names, **options))

        yield make


Respond = Callable[..., Responder]


@pytest.fixture
def respond() -> Iterator[Respond]:
    """Makes a responder for a lab's cluster."""
    with ExitStack() as closing:

        def make(cluster: LabCluster, settings: ResponseSettings = _AS_SHIPPED) -> Responder:
            gateway = KubeGateway(cluster.server.kubeconfig)
            closing.callback(gateway.close)
            return Responder(gateway, settings, CLUSTER)

        yield make
