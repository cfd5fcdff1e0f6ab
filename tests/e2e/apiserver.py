"""A real kube-apiserver for tests: built with Go, started on loopback, stopped with the session."""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml

PROJECT = Path(__file__).resolve().parents[2]
MODULE = Path(__file__).with_name("cluster")
BINARY = PROJECT / ".cache" / "bin" / "apiserver"
GO_MINIMUM = (1, 26)
READY_DEADLINE_S = 120.0
ADMIN_TOKEN = "admin-token"


class ClusterUnavailableError(Exception):
    """There is no way to get an API server here; the text says what is missing."""


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


def build() -> Path:
    """The server's binary, built if it is missing or older than its sources."""
    sources = [path for path in MODULE.iterdir() if path.is_file()]
    if BINARY.exists() and all(BINARY.stat().st_mtime >= path.stat().st_mtime for path in sources):
        return BINARY
    go = shutil.which("go")
    if go is None:
        message = "Go is not installed: the API server tests need Go 1.26 to build kube-apiserver"
        raise ClusterUnavailableError(message)
    version = subprocess.run([go, "env", "GOVERSION"], capture_output=True, text=True, check=True).stdout.strip()
    if tuple(int(part) for part in version.removeprefix("go").split(".")[:2]) < GO_MINIMUM:
        message = f"{version} is too old: the API server tests need Go 1.26"
        raise ClusterUnavailableError(message)
    print(f"building kube-apiserver into {BINARY} (about 7 minutes the first time)", file=sys.stderr, flush=True)
    BINARY.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["sh", str(MODULE / "build.sh"), str(BINARY.parent)], check=True)
    return BINARY


@contextmanager
def running(directory: Path, port: int | None = None, flags: Sequence[str] = ()) -> Iterator[ApiServer]:
    """A server with its store in a directory, ready; it ends with the block.

    The store outlives the server: a second one in the same directory has what the first had.
    """
    binary = build()
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
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=directory)
        try:
            server = ApiServer(f"https://127.0.0.1:{port}", directory)
            server.kubeconfig.write_text(yaml.safe_dump(kubeconfig_document(server.url, ADMIN_TOKEN)))
            _wait_ready(server, process)
            yield server
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


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
