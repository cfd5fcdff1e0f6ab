"""What ``sluicegate doctor`` looks at. Each check answers: does it work, what was found, how to get it."""

from __future__ import annotations

import asyncio
import os
import platform
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

from exporter.privileges import Privilege, missing
from sluicegate.check_finding import Finding
from sluicegate.local_broker import missing_tools
from stream.settings import StreamSettings

_RUN_SECONDS = 20
_CONNECT_SECONDS = 3.0
_LIBRARIES = ("faust-streaming", "aiokafka", "pyarrow", "numpy", "river", "pydantic", "lightkube", "dnspython")
# What the lab's recordings and tests call, by Debian package; nothing else needs them.
_TOOLS = {
    "ip": "iproute2", "nft": "nftables", "nmap": "nmap", "hping3": "hping3", "iodine": "iodine",
    "dnsmasq": "dnsmasq-base", "dumpcap": "wireshark-common", "tshark": "tshark",
}  # fmt: skip
_JAVA = (
    ("Java", ("java", "-version"), "for a local broker install a Java 17 runtime (Debian: default-jre-headless)"),
    ("Maven", ("mvn", "-Dstyle.color=never", "-version"), "needed once, to fetch the local broker (Debian: maven)"),
)
_VERBS = (
    ("list", "pods"), ("list", "namespaces"), ("list", "services"), ("patch", "pods"),
    ("list", "networkpolicies.networking.k8s.io"), ("patch", "networkpolicies.networking.k8s.io"),
    ("delete", "networkpolicies.networking.k8s.io"),
)  # fmt: skip


def all_checks(stream: StreamSettings, cache: Path, kubeconfig: Path | None, context: str | None) -> Iterator[Finding]:
    """Run every check, one after the other; none raises."""
    checks: list[Callable[[], Iterator[Finding]]] = [
        _python, _libraries, lambda: _java(cache), lambda: broker(stream),
        lambda: _cluster(kubeconfig, context), _privileges, _tools,
    ]  # fmt: skip
    for check in checks:
        yield from check()


def _python() -> Iterator[Finding]:
    found = f"{platform.python_version()} at {sys.executable}"
    ok = sys.version_info >= (3, 11)
    yield Finding("Python", "ok" if ok else "missing", found, "" if ok else "install Python 3.11 or newer")


def _libraries() -> Iterator[Finding]:
    absent, present = [], []
    for name in _LIBRARIES:
        try:
            present.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            absent.append(name)
    if absent:
        yield Finding("libraries", "missing", f"not installed: {', '.join(absent)}", "run make setup")
    else:
        yield Finding("libraries", "ok", ", ".join(present))


def _java(cache: Path) -> Iterator[Finding]:
    """Java and Maven, for a local broker; a broker elsewhere makes them unnecessary."""
    for name, command, remedy in _JAVA:
        line = first_line(list(command))
        yield Finding(name, "ok" if line else "off", line or "not on the PATH", "" if line else remedy)
    missing = missing_tools(cache)
    yield Finding("local broker", "off" if missing else "ok", "; ".join(missing) or "make demo can run one",
                  "without it make demo runs embedded, no broker" if missing else "")  # fmt: skip


def broker(stream: StreamSettings) -> Iterator[Finding]:
    """Tell whether the broker answers and its topics are as the settings say."""
    from stream.connection import ConnectionProblem
    from stream.topics_admin import TopicMismatch, check_topics

    servers = stream.kafka.bootstrap
    remedy = "start a broker, or set stream.kafka.bootstrap (SLUICEGATE_STREAM__KAFKA__BOOTSTRAP) to yours"
    if not any(_listens(server) for server in servers.split(",")):
        yield Finding("broker", "missing", f"nothing listens at {servers}", remedy)
        return
    try:
        asyncio.run(check_topics(stream.kafka, stream.topics))
    except ConnectionProblem as error:
        yield Finding("broker", "missing", str(error), remedy)
        return
    except TopicMismatch as error:
        lines = str(error).splitlines()
        yield Finding("broker", "ok", f"answers at {servers}")
        yield Finding(
            "topics", "missing", f"{len(lines)} differ: {lines[0]}", "run sluicegate topics create, then check"
        )
        return
    yield Finding("broker", "ok", f"answers at {servers}; topics under {stream.kafka.prefix} are as the settings say")


def _listens(server: str) -> bool:
    """Try a connection first: a Kafka client would ask again and again for much longer."""
    host, _, port = server.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=_CONNECT_SECONDS):
            return True
    except (OSError, ValueError):
        return False


def _cluster(kubeconfig: Path | None, context: str | None) -> Iterator[Finding]:
    from sluicegate.cluster_checks import read_cluster

    named = kubeconfig is not None or "KUBECONFIG" in os.environ or "KUBERNETES_SERVICE_HOST" in os.environ
    if not named and not (Path.home() / ".kube" / "config").is_file():
        yield Finding("cluster", "off", "no kubeconfig and not in a pod", "to apply policies give --kubeconfig FILE")
        return
    view = read_cluster(kubeconfig, context)
    if isinstance(view, Finding):
        yield view
        return
    yield Finding("cluster", "ok", f"{len(view.pods)} pods and {len(view.policies)} NetworkPolicies can be read")
    yield from _rights(kubeconfig, context)


def _rights(kubeconfig: Path | None, context: str | None) -> Iterator[Finding]:
    if shutil.which("kubectl") is None:
        yield Finding(
            "rights", "off", "kubectl is not on the PATH to ask for them", "install kubectl, or read the role"
        )
        return
    given = (["--kubeconfig", str(kubeconfig)] if kubeconfig else []) + (["--context", context] if context else [])
    denied = []
    for verb, resource in _VERBS:
        command = ["kubectl", *given, "auth", "can-i", verb, resource, "--all-namespaces"]
        if first_line(command) != "yes":
            denied.append(f"{verb} {resource}")
    if denied:
        yield Finding("rights", "missing", f"not allowed: {', '.join(denied)}", "grant the role in docs/response.md")
    else:
        yield Finding("rights", "ok", "may list and patch what responses need")


def _privileges() -> Iterator[Finding]:
    """Root or CAP_NET_RAW: the lab's tests and a live exporter need them."""
    if os.geteuid() == 0:
        yield Finding("privileges", "ok", "root")
        return
    if not missing([Privilege.CAP_NET_RAW]):
        yield Finding("privileges", "ok", "CAP_NET_RAW")
    else:
        found = f"user {os.geteuid()}, no CAP_NET_RAW"
        yield Finding("privileges", "off", found, "recording needs root; for a node see sluicegate doctor --exporter")


def _tools() -> Iterator[Finding]:
    search = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    absent = [name for name in _TOOLS if shutil.which(name, path=search) is None]
    if absent:
        packages = " ".join(_TOOLS[name] for name in absent)
        yield Finding(
            "lab tools", "off", f"not on the PATH: {', '.join(absent)}", f"to record cases: apt install {packages}"
        )
    else:
        yield Finding("lab tools", "ok", ", ".join(_TOOLS))


def first_line(command: list[str]) -> str:
    """Return the first line that a command prints, on whichever stream; empty where it cannot be run."""
    if shutil.which(command[0]) is None:
        return ""
    try:
        done = subprocess.run(command, capture_output=True, timeout=_RUN_SECONDS, check=False)  # noqa: S603 - fixed command
    except (OSError, subprocess.TimeoutExpired):
        return ""
    lines = (done.stdout or done.stderr).decode("utf-8", "replace").splitlines()
    return lines[0].strip()[:200] if lines else ""
