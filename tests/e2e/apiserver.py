"""A real kube-apiserver for tests: built with Go, started on loopback, stopped with the session."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml

from sluicegate.local_broker import death_signal
from tests.e2e.go_binary import KUBERNETES, GoProgram
from tests.lab.processes import ended

MODULE = Path(__file__).with_name("cluster")
PROGRAM = GoProgram("apiserver", MODULE, ".", 7, KUBERNETES)
READY_DEADLINE_S = 120.0
ADMIN_TOKEN = "admin-token"


@dataclass(frozen=True)
class ApiServer:
    """Where the server listens and keeps its files, and the administrator's kubeconfig."""

    url: str
    directory: Path

    @property
    def kubeconfig(self) -> Path:
        return self.directory / "kubeconfig.yaml"


def kubeconfig_document(url: str, token: str) -> dict[str, object]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "test", "cluster": {"server": url, "insecure-skip-tls-verify": True}}],
        "users": [{"name": "test", "user": {"token": token}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        "current-context": "test",
    }


@contextmanager
def running(directory: Path, port: int | None = None, flags: Sequence[str] = ()) -> Iterator[ApiServer]:
    """A server with its store in a directory, ready; it ends with the block.

    The store outlives the server: a second one in the same directory has what the first had.
    """
    binary = PROGRAM.built()
    (directory / "tokens.csv").write_text(f"{ADMIN_TOKEN},admin,0,system:masters\n")
    port = port or free_port()
    command = [
        str(binary),
        str(directory),
        "--bind-address=127.0.0.1",
        f"--secure-port={port}",
        f"--token-auth-file={directory / 'tokens.csv'}",
        "--authorization-mode=RBAC",
        "--service-cluster-ip-range=10.96.0.0/16",
        "--disable-admission-plugins=ServiceAccount",
        *flags,
    ]
    with (directory / "apiserver.log").open("wb") as log:
        process = subprocess.Popen([*death_signal(), *command], stdout=log, stderr=log, cwd=directory)
        with ended(process):
            server = ApiServer(f"https://127.0.0.1:{port}", directory)
            server.kubeconfig.write_text(yaml.safe_dump(kubeconfig_document(server.url, ADMIN_TOKEN)))
            _wait_ready(server, process)
            yield server


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_ready(server: ApiServer, process: subprocess.Popen[bytes]) -> None:
    trusting = ssl._create_unverified_context()
    request = urllib.request.Request(f"{server.url}/readyz", headers={"Authorization": f"Bearer {ADMIN_TOKEN}"})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=trusting))
    deadline = time.monotonic() + READY_DEADLINE_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        try:
            with opener.open(request, timeout=5) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            pass
        time.sleep(0.1)
    tail = (server.directory / "apiserver.log").read_text(errors="replace")[-2000:]
    message = f"kube-apiserver was not ready within {READY_DEADLINE_S:.0f} s (exit {process.poll()}):\n{tail}"
    raise RuntimeError(message)


def external_kubeconfig() -> Path | None:
    """The kubeconfig of a cluster that the caller wants the tests to run on, if any."""
    named = os.environ.get("KUBECONFIG")
    return Path(named) if named else None
