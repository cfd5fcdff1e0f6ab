"""Pods as network namespaces on a bridge: a node small enough to start in a second.

    pods (namespaces) ── veth-<pod> ── br0 [node namespace] eth0 ── outside (namespace)

Nothing is created in the host's own namespace except the names of these namespaces, and nothing in them
can reach any network of the host. Leaving the context removes all; a lab left behind by a killed process
is removed when the next one starts.
"""

from __future__ import annotations

import itertools
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.lab import pods
from tests.lab.connections import FIRST_PORT
from tests.lab.pods import BY_NAME, PODS, Pod

ROOT = Path(__file__).resolve().parents[2]
PREFIX = "sluicelab"
NEEDED = {"ip": "iproute2", "ethtool": "ethtool", "dumpcap": "wireshark-common", "ping": "iputils-ping",
          "sysctl": "procps", "unshare": "util-linux"}  # fmt: skip
_serial = itertools.count()


def missing() -> str | None:
    """Why no lab can run here, in one line, or None."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "the lab needs Linux and root (network namespaces)"
    absent = [tool for tool in NEEDED if shutil.which(tool) is None]
    if absent:
        packages = " ".join(NEEDED[tool] for tool in absent)
        return f"the lab needs {', '.join(absent)} (Debian: apt install {packages})"
    probe = subprocess.run(["unshare", "-n", "true"], capture_output=True, check=False)
    return None if probe.returncode == 0 else "this kernel or container forbids network namespaces"


def wait_for(condition: Callable[[], bool], what: str, seconds: float = 10.0) -> None:
    """Poll until `condition` holds; TimeoutError names `what` after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"lab: waited {seconds:.0f} s for {what}")
        time.sleep(0.02)


def leftovers() -> list[str]:
    """Namespaces of labs whose process is gone."""
    listing = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout
    names = re.findall(rf"^({PREFIX}(\d+)-\S+)", listing, re.MULTILINE)
    return [name for name, pid in names if not Path(f"/proc/{pid}").exists()]


def remove_namespace(name: str) -> None:
    """Kill what runs in one namespace of ours and delete it."""
    found = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True, check=False)
    for pid in found.stdout.split():
        try:
            os.kill(int(pid), signal.SIGKILL)
        except ProcessLookupError:
            continue
    subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


class Lab:
    """A running lab; use as a context manager. Commands run with `start` (and go on) or `run` (and end)."""

    def __init__(self, pod_names: Sequence[str] | None = None) -> None:
        self.pods: tuple[Pod, ...] = tuple(BY_NAME[n] for n in pod_names) if pod_names else PODS
        self._id = f"{PREFIX}{os.getpid()}-{next(_serial)}"
        self._spaces: list[str] = []
        self._children: list[subprocess.Popen[bytes]] = []
        self.next_port = FIRST_PORT  # that no counted connection in any of its namespaces had yet

    def __enter__(self) -> Self:
        for name in leftovers():
            remove_namespace(name)
        try:
            self._build()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def space(self, name: str) -> str:
        """The namespace of a pod, of `node` or of `outside`."""
        return f"{self._id}-{name}"

    @property
    def spaces(self) -> tuple[str, ...]:
        """All namespaces of this lab."""
        return tuple(self._spaces)

    def start(self, where: str, command: Sequence[str], **options: int) -> subprocess.Popen[bytes]:
        """Start `command` in a pod; it is killed with the lab at the latest."""
        pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL} | options
        child = subprocess.Popen(  # type: ignore[call-overload]
            ["ip", "netns", "exec", self.space(where), *command], cwd=ROOT, stdin=subprocess.DEVNULL, **pipes
        )
        self._children.append(child)
        return child  # type: ignore[no-any-return]

    def run(self, where: str, command: Sequence[str], timeout: float = 60.0) -> str:
        """Run `command` in a pod to its end and return what it printed; RuntimeError when it failed."""
        done = subprocess.run(
            ["ip", "netns", "exec", self.space(where), *command],
            cwd=ROOT, capture_output=True, text=True, timeout=timeout, check=False,
        )  # fmt: skip
        if done.returncode != 0:
            tail = (done.stderr or done.stdout).strip()[-500:]
            raise RuntimeError(f"lab: {where}: {' '.join(command)}: exit {done.returncode}: {tail}")
        return done.stdout

    def sysctl(self, where: str, **values: int) -> None:
        """Set kernel switches of one namespace; `__` in a name stands for a dot."""
        pairs = [f"{name.replace('__', '.')}={value}" for name, value in values.items()]
        self.run(where, ["sysctl", "-qw", *pairs])

    def close(self) -> None:
        """Stop every process of this lab and delete its namespaces; safe to call twice."""
        for child in self._children:
            if child.poll() is None:
                child.kill()
            child.wait()
        self._children.clear()
        while self._spaces:
            remove_namespace(self._spaces.pop())

    def _ip(self, where: str, text: str) -> None:
        subprocess.run(["ip", "-n", self.space(where), *text.split()], check=True)

    def _add_space(self, name: str) -> None:
        subprocess.run(["ip", "netns", "add", self.space(name)], check=True)
        self._spaces.append(self.space(name))
        # A pod asks no router and sends no solicitations: its addresses come from the lab.
        self.sysctl(name, net__ipv6__conf__default__accept_ra=0, net__ipv6__conf__default__accept_dad=0)
        self._ip(name, "link set lo up")

    def _build(self) -> None:
        self._add_space("node")
        self._ip("node", "link add br0 address 02:0a:f4:01:00:01 type bridge mcast_snooping 0")
        self._ip("node", f"addr add {pods.GATEWAY4}/24 dev br0")
        self._ip("node", f"addr add {pods.GATEWAY6}/64 dev br0 nodad")
        self._ip("node", "link set br0 up")
        self.sysctl(
            "node", net__ipv4__ip_forward=1, net__ipv6__conf__all__forwarding=1,
            net__ipv4__conf__all__rp_filter=0, net__ipv4__conf__default__rp_filter=0,
        )  # fmt: skip
        for pod in self.pods:
            self._add_pod(pod)
        self._add_outside()

    def _add_pod(self, pod: Pod) -> None:
        self._add_space(pod.name)
        peer = f"peer name eth0 address {pod.mac} netns {self.space(pod.name)}"
        self._ip("node", f"link add {pod.veth} type veth {peer}")
        self._plain_frames("node", pod.veth)
        self._plain_frames(pod.name, "eth0")
        self._ip("node", f"link set {pod.veth} master br0 up")
        self._ip(pod.name, "link set eth0 up")
        self._ip(pod.name, f"addr add {pod.ip4}/24 dev eth0")
        self._ip(pod.name, f"addr add {pod.ip6}/64 dev eth0 nodad")
        self._ip(pod.name, f"route add default via {pods.GATEWAY4}")
        self._ip(pod.name, f"-6 route add default via {pods.GATEWAY6}")

    def _add_outside(self) -> None:
        self._add_space(pods.OUTSIDE)
        peer = f"peer name eth0 address 02:0a:f4:00:00:64 netns {self.space(pods.OUTSIDE)}"
        self._ip("node", f"link add {pods.UPLINK} address 02:0a:f4:00:00:01 type veth {peer}")
        for where, four, six in (
            ("node", pods.NODE_UPLINK4, pods.NODE_UPLINK6),
            (pods.OUTSIDE, pods.OUTSIDE4, pods.OUTSIDE6),
        ):
            self._plain_frames(where, "eth0")
            self._ip(where, "link set eth0 up")
            self._ip(where, f"addr add {four}/24 dev eth0")
            self._ip(where, f"addr add {six}/64 dev eth0 nodad")
        self._ip("node", f"route add default via {pods.OUTSIDE4}")
        self._ip("node", f"-6 route add default via {pods.OUTSIDE6}")
        self._ip(pods.OUTSIDE, f"route add default via {pods.NODE_UPLINK4}")
        self._ip(pods.OUTSIDE, f"-6 route add default via {pods.NODE_UPLINK6}")
        for address in (pods.OUTSIDE_DNS, pods.OUTSIDE_SINK, pods.OUTSIDE_IODINE, *pods.OUTSIDE_WEB):
            self._ip(pods.OUTSIDE, f"addr add {address}/32 dev lo")

    def _plain_frames(self, where: str, device: str) -> None:
        """No offloads: a captured frame is what a wire would carry, with its checksum and its size."""
        switches = ("tx", "tso", "gso", "gro")
        self.run(where, ["ethtool", "-K", device, *(word for s in switches for word in (s, "off"))])
