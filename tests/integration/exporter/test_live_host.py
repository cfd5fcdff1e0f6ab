"""The node's own state, live: sockets and interfaces inside a pod, found by an exporter that may do nothing else."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from exporter.privileges import Privilege
from schemas.events import LinkClaim
from tests.integration.exporter.test_live_packets import Exporter
from tests.lab import pods
from tests.lab.lab import Lab, missing, wait_for

pytestmark = [
    pytest.mark.lab, pytest.mark.timeout(180), pytest.mark.skipif(missing() is not None, reason=str(missing())),
]  # fmt: skip

ATTACKER, WEB = (pods.BY_NAME[name] for name in ("attacker", "web"))
LISTEN = "import socket, time; s = socket.create_server(('', 4444)); time.sleep(60)"


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab(("web", "attacker")) as running:
        yield running


def test_what_a_pod_does_to_listen_is_told_with_its_address(lab: Lab, tmp_path: Path) -> None:
    old = lab.start("web", [sys.executable, "-c", LISTEN])
    wait_for(lambda: ":115C " in Path(f"/proc/{old.pid}/net/tcp").read_text(), "the old listener", 20.0)
    exporter = Exporter(lab, tmp_path, "--source", "host")
    settings = tmp_path / "settings.yaml"
    settings.write_text("exporter: {host: {listener_seconds: 1}}\n")
    exporter._command[1:1] = ["--config", str(settings)]
    with exporter:
        held = next(
            line.split()[1] for line in Path(f"/proc/{exporter.child.pid}/status").read_text().splitlines()
            if line.startswith("CapEff")
        )  # fmt: skip
        tool = lab.start("attacker", ["tcpdump", "-i", "eth0", "-w", "/dev/null"])
        new = lab.start("attacker", [sys.executable, "-c", LISTEN])
        wait_for(lambda: ":115C " in Path(f"/proc/{new.pid}/net/tcp").read_text(), "the new listener", 20.0)
        sockets = Path(f"/proc/{tool.pid}/net/packet")
        wait_for(lambda: len(sockets.read_text().splitlines()) > 1, "tcpdump's socket", 20.0)
        lab.run("node", ["ip", "link", "add", "extra", "type", "bridge"])
        time.sleep(2.5)  # two looks, one a second
        lab.run("node", ["ip", "link", "del", "extra"])
        time.sleep(1.5)
    kept = 1 << Privilege.CAP_NET_ADMIN | 1 << Privilege.CAP_SYS_PTRACE
    assert int(held, 16) == kept
    rows = [
        (row["claim"], row["claimed"], row["interface"], row["text"], row["number"]) for row in exporter.rows("link")
    ]
    assert rows.count((LinkClaim.PACKET_SOCKET, ATTACKER.ip4, "eth0", "tcpdump", 0)) == 1
    assert rows.count((LinkClaim.PROMISCUOUS, ATTACKER.ip4, "eth0", "", 0)) == 1
    assert [row for row in rows if row[0] == LinkClaim.LISTENER] == [
        (LinkClaim.LISTENER, ATTACKER.ip4, "", Path(sys.executable).name, 4444)
    ]
    changed = [(row[0], row[2]) for row in rows if row[2] == "extra"]
    assert changed == [(LinkClaim.INTERFACE_ADDED, "extra"), (LinkClaim.INTERFACE_REMOVED, "extra")]
    assert {row[0] for row in rows if row[1] == WEB.ip4} == {LinkClaim.POD_INTERFACE}
    behind = {row[2]: row[1] for row in rows if row[0] == LinkClaim.POD_INTERFACE}
    assert behind == {pod.veth: pod.ip4 for pod in (WEB, ATTACKER)}
