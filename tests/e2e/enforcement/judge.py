"""Second enforcers with an engine of their own: kube-network-policies judges every new connection over NFQUEUE.

Three programs share it: for NetworkPolicy alone, and with the policies of administrators in either generation.

Its own nftables rules need kernel options that not every machine has, so the queue rules are written here, as its
documentation has them: replies and what the node itself sends pass, everything else is judged.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import ClassVar

from tests.e2e.go_binary import GoProgram
from tests.lab.lab import Lab, wait_for

_MODULE = Path(__file__).with_name("judge")
_COMMANDS = "sigs.k8s.io/kube-network-policies/cmd/kube-network-policies"
QUEUE = "100"
READY_SECONDS = 60.0
_RULES = (
    "-m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT",
    "-m owner --uid-owner 0 -j ACCEPT",
    # Without bypass: when the judge is not there nothing passes, so what passes was judged.
    f"-j NFQUEUE --queue-num {QUEUE}",
)


class Judge:
    """Started with the object, in the node's namespace of a lab."""

    PROGRAM: ClassVar[GoProgram] = GoProgram("judge", _MODULE, f"{_COMMANDS}/standard", 3)

    def __init__(self, lab: Lab, kubeconfig: Path, folder: Path, node: str, *, ipv6: bool = False) -> None:
        self._log = folder / "judge.log"
        command = [str(self.PROGRAM.built()), f"--kubeconfig={kubeconfig}", f"--hostname-override={node}",
                   "--disable-nri", "--metrics-bind-address=127.0.0.1:9080"]  # fmt: skip
        with self._log.open("wb") as log:
            self._process: subprocess.Popen[bytes] = lab.start(
                "node", command, stdout=log.fileno(), stderr=log.fileno()
            )
        wait_for(lambda: self._bound(lab), "the judge to take its queue", READY_SECONDS)
        families = ("iptables-legacy", "ip6tables-legacy") if ipv6 else ("iptables-legacy",)
        for tool in families:
            if tool.startswith("ip6"):
                lab.run("node", [tool, "-t", "mangle", "-A", "POSTROUTING", "-p", "icmpv6", "-j", "ACCEPT"])
            for rule in _RULES:
                lab.run("node", [tool, "-t", "mangle", "-A", "POSTROUTING", *rule.split()])

    def _bound(self, lab: Lab) -> bool:
        if self._process.poll() is not None:
            message = f"the judge ended with {self._process.returncode}: {self._log.read_text(errors='replace')[-800:]}"
            raise RuntimeError(message)
        return QUEUE in lab.run("node", ["cat", "/proc/net/netfilter/nfnetlink_queue"]).split()


class AdminJudge(Judge):
    """The same with AdminNetworkPolicy and BaselineAdminNetworkPolicy (v1alpha1)."""

    PROGRAM = GoProgram("judge-adminnetworkpolicy", _MODULE, f"{_COMMANDS}/npa-v1alpha1", 1)


class ClusterJudge(Judge):
    """The same with ClusterNetworkPolicy (v1alpha2)."""

    PROGRAM = GoProgram("judge-clusternetworkpolicy", _MODULE, f"{_COMMANDS}/npa-v1alpha2", 1)
