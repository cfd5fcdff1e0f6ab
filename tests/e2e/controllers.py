"""The real kube-controller-manager for tests, with the controllers that own pods and what is made from them."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from sluicegate.local_broker import death_signal
from tests.e2e.apiserver import MODULE, ApiServer
from tests.e2e.go_binary import KUBERNETES, GoProgram
from tests.lab.processes import ended

PROGRAM = GoProgram("controllers", MODULE, "./controllers", 2, KUBERNETES)
# Those that touch nodes or want a cloud stay out: the tests' nodes have no kubelet that would say it is alive.
RUNNING = (
    "deployment-controller", "replicaset-controller", "statefulset-controller", "daemonset-controller",
    "job-controller", "namespace-controller", "endpointslice-controller", "garbage-collector-controller",
    "disruption-controller",
)  # fmt: skip


@contextmanager
def running(server: ApiServer) -> Iterator[subprocess.Popen[bytes]]:
    """The controllers of a server; they end with the block. Wait for what they do, not for them."""
    command = [
        str(PROGRAM.built()),
        f"--kubeconfig={server.kubeconfig}",
        f"--service-account-private-key-file={server.directory / 'service-account.key'}",
        "--leader-elect=false",
        "--secure-port=0",
        f"--controllers={','.join(RUNNING)}",
    ]
    with (server.directory / "controllers.log").open("wb") as log:
        process = subprocess.Popen([*death_signal(), *command], stdout=log, stderr=log, cwd=server.directory)
        with ended(process):
            yield process
