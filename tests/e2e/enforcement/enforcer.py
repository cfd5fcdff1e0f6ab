"""The policy enforcer of the lab's node: kube-router's policy controller as a process in the node's namespace."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

from tests.e2e.go_binary import GoProgram
from tests.lab.lab import Lab, wait_for

PROGRAM = GoProgram("enforcer", Path(__file__).with_name("enforcer"), ".", 3)
SYNCED = "sync iptables took"
SYNC_SECONDS = 60.0
CLUSTER_ADDRESSES = "10.96.0.0/16"
CLUSTER_ADDRESSES6 = "fd96::/112"


class Enforcer:
    """Started with the object; `stop` ends it and leaves its rules, as a crash or an eviction would."""

    def __init__(self, lab: Lab, kubeconfig: Path, folder: Path, node: str, *, ipv6: bool = False) -> None:
        self._lab = lab
        self._log = folder / "enforcer.log"
        self._command = [
            str(PROGRAM.built()), f"--kubeconfig={kubeconfig}", f"--hostname-override={node}", "--run-firewall=true",
            "--run-router=false", "--run-service-proxy=false", f"--service-cluster-ip-range={CLUSTER_ADDRESSES}",
            "--iptables-sync-period=5m", "--v=1",
        ]  # fmt: skip
        if ipv6:
            self._command += ["--enable-ipv6=true", f"--service-cluster-ip-range={CLUSTER_ADDRESSES6}"]
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Start it (again) and wait for its first complete sync.

        Raises:
            RuntimeError: it ended; with the end of its log.
        """
        with self._log.open("wb") as log:
            self._process = self._lab.start("node", self._command, stdout=log.fileno(), stderr=log.fileno())
        wait_for(self._ready, "the enforcer's first sync", SYNC_SECONDS)

    def syncs(self) -> int:
        """How many times it has written its rules since it was started."""
        return self._log.read_text(errors="replace").count(SYNCED)

    def _ready(self) -> bool:
        if self._process is not None and self._process.poll() is not None:
            tail = self._log.read_text(errors="replace")[-800:]
            message = f"the enforcer ended with {self._process.returncode}: {tail}"
            raise RuntimeError(message)
        return self.syncs() > 0

    def pause(self) -> None:
        """It stands still and says nothing: stuck, starved, or stopped by somebody."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Go on."""
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it at once; its rules stay in the kernel."""
        self._signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait()

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)
