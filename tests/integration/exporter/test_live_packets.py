"""The live exporter in namespaces that the test makes: real sockets, real tools, the command as users run it."""

from __future__ import annotations

import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from schemas.event_codec import EventMessage, batch_to_rows, read_file
from schemas.events import FlowMark, LinkClaim
from tests.lab import pods
from tests.lab.lab import ROOT, Lab, missing, wait_for

pytestmark = [
    pytest.mark.lab, pytest.mark.timeout(180), pytest.mark.skipif(missing() is not None, reason=str(missing())),
]  # fmt: skip

LOAD = str(ROOT / "benchmarks" / "live_load.py")
EXPORT = str(Path(sys.executable).with_name("sluicegate"))
WEB, ATTACKER, CLIENT = (pods.BY_NAME[name] for name in ("web", "attacker", "client1"))
CONNECTIONS = 400


# A conversation that goes on, and its server, which takes one after the other.
ECHO = """
import socket
listener = socket.create_server(("", 8100))
while True:
    peer = listener.accept()[0]
    while data := peer.recv(99):
        peer.send(data)
"""
TALK = f"""
import socket, sys, time
peer = socket.create_connection(("{WEB.ip4}", 8100))
def talk(times):
    for _ in range(times):
        peer.send(b"a")
        peer.recv(9)
        time.sleep(0.02)
talk({{times}})
"""


class Exporter:
    """``sluicegate export`` on the lab's node, writing a file; use as a context manager."""

    def __init__(self, lab: Lab, folder: Path, *options: str) -> None:
        self._lab, self._out = lab, folder / f"events{time.monotonic_ns()}"
        self._command = [EXPORT, "export", "--to", "file", "--output", str(self._out), "--node", "node1",
                         "--uplink", pods.UPLINK, *options]  # fmt: skip
        self.messages: list[EventMessage] = []

    def __enter__(self) -> Exporter:
        self.child = self._lab.start("node", self._command)
        # The file is opened once the sources are.
        wait_for(lambda: Path(f"{self._out}.partial").exists(), "the exporter to listen", 60.0)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        if self.child.poll() is None:
            self.child.terminate()
            assert self.child.wait(60) == 0
        with self._out.open("rb") as file:
            self.messages = list(read_file(file))

    def rows(self, kind: str) -> list[dict[str, Any]]:
        found = []
        for message in self.messages:
            if kind in message.batches:
                found += [row | {"cut": message.header.cut} for row in batch_to_rows(kind, message.batches[kind])]
        return found

    def flows(self, **wanted: object) -> list[dict[str, Any]]:
        return [row for row in self.rows("flow") if all(row[name] == value for name, value in wanted.items())]


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab(("web", "attacker", "client1")) as running:
        running.start("web", [sys.executable, LOAD, "serve"])
        once = [sys.executable, LOAD, "connect", WEB.ip4, "1", "0.1"]
        wait_for(lambda: tried(running, "client1", *once) == 0, "the server", 20.0)
        yield running


def tried(lab: Lab, where: str, *command: str) -> int:
    return subprocess.run(
        ["ip", "netns", "exec", lab.space(where), *command], capture_output=True, check=False, timeout=60
    ).returncode


def without_loss(lab: Lab, folder: Path) -> Exporter:
    """Connect and return what an exporter saw that lost nothing; on a busy machine the kernel drops, and says so."""
    for _ in range(3):
        with Exporter(lab, folder) as exporter:
            for where in ("client1", pods.OUTSIDE):
                lab.run(where, [sys.executable, LOAD, "connect", WEB.ip4, "200", str(CONNECTIONS / 200)])
        if not sum(m.header.lost_packets for m in exporter.messages):
            return exporter
    pytest.fail("the kernel dropped packets in each of three runs: the machine is too busy for this test")


def test_every_connection_once_with_its_bytes_and_direction(lab: Lab, tmp_path: Path) -> None:
    exporter = without_loss(lab, tmp_path)
    for source, interface in ((CLIENT.ip4, CLIENT.veth), (pods.OUTSIDE4, pods.UPLINK)):
        rows = exporter.flows(src=source, dst=WEB.ip4, dst_port=8000)
        opened = Counter(row["src_port"] for row in rows if row["marks"] & FlowMark.OPENED)
        made = len(opened)
        assert CONNECTIONS * 0.9 <= made <= CONNECTIONS + 5
        assert set(opened.values()) == {1}
        assert sum(row["src_payload"] for row in rows) == sum(row["dst_payload"] for row in rows) == 64 * made
        assert sum(bool(row["marks"] & FlowMark.CLOSED) for row in rows) == made
        assert {row["interface"] for row in rows} == {interface}
        assert not any(row["copy"] for row in rows)
    assert not exporter.flows(src=WEB.ip4)
    heads = [m.header for m in exporter.messages]
    assert [h.sequence for h in heads] == list(range(len(heads)))
    assert len({h.boot for h in heads}) == 1
    assert sum(h.lost_packets + h.lost_rows + h.malformed for h in heads) == 0
    assert [h.final for h in heads] == [False] * (len(heads) - 1) + [True]
    cuts = sorted({h.cut for h in heads})
    assert cuts == list(range(cuts[0], cuts[-1] + 1)), "a second without a heartbeat"


def test_refused_and_dropped_attempts_and_odd_probes(lab: Lab, tmp_path: Path) -> None:
    lab.run("node", ["nft", "add table bridge lab"])
    lab.run("node", ["nft", "add chain bridge lab f { type filter hook forward priority 0; }"])
    lab.run("node", ["nft", f"add rule bridge lab f ip daddr {WEB.ip4} tcp dport 4444 drop"])
    with Exporter(lab, tmp_path) as exporter:
        assert tried(lab, "attacker", "ping", "-c", "1", WEB.ip4) == 0
        tried(lab, "attacker", "curl", "-s", "-m", "1", f"http://{WEB.ip4}:81/")
        tried(lab, "attacker", "curl", "-s", "-m", "1", f"http://{WEB.ip4}:4444/")
        for scan in ("-sN", "-sF", "-sX"):
            lab.run("attacker", ["nmap", scan, "-n", "-Pn", "-p", "22", "--max-retries", "0", WEB.ip4])
        lab.run("attacker", ["nmap", "-sU", "-n", "-Pn", "-p", "162", "--max-retries", "0", WEB.ip4])
        time.sleep(3.5)  # until an attempt that nobody answers counts as such
    lab.run("node", ["nft", "delete table bridge lab"])

    def marks(**wanted: object) -> int:
        total = 0
        for row in exporter.flows(src=ATTACKER.ip4, dst=WEB.ip4, **wanted):
            total |= row["marks"]
        return total

    assert marks(dst_port=81) & FlowMark.REFUSED
    assert marks(dst_port=4444) & FlowMark.UNANSWERED
    assert not marks(dst_port=4444) & FlowMark.ESTABLISHED
    assert marks(proto=17, dst_port=162) & FlowMark.REFUSED
    odd = {row["src_flags"] for row in exporter.flows(src=ATTACKER.ip4, dst_port=22) if row["src_packets"]}
    assert odd == {0, 1, 0x29}
    pinged = exporter.flows(src=ATTACKER.ip4, dst=WEB.ip4, proto=1, icmp_type=8)
    assert sum(row["src_packets"] for row in pinged) == 1


def test_dns_and_arp_are_told_once(lab: Lab, tmp_path: Path) -> None:
    false_claim = "\n".join([
        "import socket",
        "s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)",
        "s.bind(('eth0', 0x0806))",
        "mac = s.getsockname()[4]",
        f"ip = socket.inet_aton('{pods.GATEWAY4}')",
        "s.send(b'\\xff' * 6 + mac + bytes.fromhex('0806000108000604') + b'\\0\\2' + mac + ip + b'\\xff' * 6 + ip)",
    ])  # fmt: skip
    with Exporter(lab, tmp_path) as exporter:
        lab.run("client1", [sys.executable, LOAD, "ask", WEB.ip4, "100", "1"])
        lab.run("attacker", [sys.executable, "-c", false_claim])
    dns = exporter.rows("dns")
    assert {(row["client"], row["server"]) for row in dns} == {(CLIENT.ip4, WEB.ip4)}
    assert len(dns) == len({row["qname"] for row in dns}) >= 90
    assert all(row["answer_number"] == 1 and row["latency"] > 0 for row in dns)
    false = [row for row in exporter.rows("link") if row["claimed"] == pods.GATEWAY4]
    assert [(row["claim"], row["interface"], row["mac"]) for row in false] == [
        (LinkClaim.ARP_REPLY, ATTACKER.veth, int(ATTACKER.mac.replace(":", ""), 16))
    ]


def test_a_pod_that_comes_and_goes(lab: Lab, tmp_path: Path) -> None:
    """Its first packet is seen, and its flows end with its interface."""
    with Exporter(lab, tmp_path) as exporter:
        subprocess.run(["ip", "netns", "add", lab.space("late")], check=True)
        try:
            late, address = lab.space("late"), "10.244.1.99"
            script = (
                f"ip -n {lab.space('node')} link add veth-late type veth peer name eth0 netns {late} && "
                f"ip -n {lab.space('node')} link set veth-late master br0 up && "
                f"ip -n {late} link set eth0 up && ip -n {late} addr add {address}/24 dev eth0 && "
                f"ip netns exec {late} ping -c 2 -i 0.01 -W 2 {WEB.ip4}"
            )
            subprocess.run(["sh", "-c", script], check=True, stdout=subprocess.DEVNULL)
            hold = f"import socket, time; s = socket.create_connection(('{WEB.ip4}', 8000)); time.sleep(600)"
            holder = subprocess.Popen(["ip", "netns", "exec", late, sys.executable, "-c", hold])
            table = Path(f"/proc/{holder.pid}/net/tcp")
            wait_for(lambda: ":1F40 01 " in table.read_text(), "the connection", 20.0)
            time.sleep(1.2)  # so that the second of its handshake is over
            subprocess.run(["ip", "-n", lab.space("node"), "link", "del", "veth-late"], check=True)
            holder.kill()
            holder.wait()
            time.sleep(2.2)
        finally:
            subprocess.run(["ip", "netns", "del", lab.space("late")], check=True)
    pinged = exporter.flows(src=address, proto=1)
    assert sum(row["src_packets"] for row in pinged) == 2
    assert {row["interface"] for row in pinged} == {"veth-late"}
    held = exporter.flows(src=address, proto=6)
    closing = [row["cut"] for row in held if row["marks"] & FlowMark.CLOSED]
    # Not only because the exporter ended.
    assert len(closing) == 1
    assert closing[0] < exporter.messages[-1].header.cut


def test_a_restart_reports_nothing_old_as_new(lab: Lab, tmp_path: Path) -> None:
    lab.start("web", [sys.executable, "-c", ECHO])
    wait_for(lambda: tried(lab, "client1", sys.executable, "-c", TALK.format(times=10)) == 0, "the echo server", 20.0)
    lab.start("client1", [sys.executable, "-c", TALK.format(times=3000)])
    lab.start("client1", [sys.executable, LOAD, "send", WEB.ip4, "200", "30"])
    with Exporter(lab, tmp_path) as first:
        time.sleep(1)
        first.child.terminate()
    with Exporter(lab, tmp_path) as second:
        time.sleep(1)
        lab.run("client1", [sys.executable, LOAD, "connect", WEB.ip4, "50", "1"])
    opened = [row for row in second.rows("flow") if row["marks"] & FlowMark.OPENED]
    assert {(row["proto"], row["dst_port"]) for row in opened if row["src"] == CLIENT.ip4} == {(6, 8000)}
    for port in (8100, 9000):
        assert second.flows(src=CLIENT.ip4, dst_port=port), "what goes on is reported"
    boots = [m.header.boot for m in (*first.messages[:1], *second.messages[:1])]
    assert len(set(boots)) == len(boots)


def test_what_the_ring_cannot_hold_is_counted(lab: Lab, tmp_path: Path) -> None:
    settings = tmp_path / "settings.yaml"
    settings.write_text("exporter:\n  packets: {ring_bytes: 262144, block_bytes: 65536}\n  live: {collect_ms: 1000}\n")
    with Exporter(lab, tmp_path) as exporter:
        pass
    exporter._command[1:1] = ["--config", str(settings)]
    with exporter:
        lab.run("client1", [sys.executable, LOAD, "send", WEB.ip4, "20000", "3"])
        time.sleep(1.5)
    lost = sum(m.header.lost_packets for m in exporter.messages)
    seen = sum(row["src_packets"] for row in exporter.flows(src=CLIENT.ip4, dst_port=9000))
    assert lost > 0
    # Each packet passes two interfaces, and is one row at most.
    assert seen < 60_000 <= 60_500
    assert seen * 2 + lost >= 50_000


def test_several_rings_see_each_packet_once(lab: Lab, tmp_path: Path) -> None:
    settings = tmp_path / "settings.yaml"
    settings.write_text("exporter: {packets: {rings: 3}}\n")
    exporter = Exporter(lab, tmp_path)
    exporter._command[1:1] = ["--config", str(settings)]
    with exporter:
        lab.run("client1", [sys.executable, LOAD, "connect", WEB.ip4, "100", "1"])
    rows = exporter.flows(src=CLIENT.ip4, dst_port=8000)
    opened = Counter(row["src_port"] for row in rows if row["marks"] & FlowMark.OPENED)
    assert len(opened) >= 90
    assert set(opened.values()) == {1}
    assert sum(row["dst_payload"] for row in rows) == 64 * len(opened)


def test_without_the_privilege_it_is_named(lab: Lab) -> None:
    done = subprocess.run(
        ["ip", "netns", "exec", lab.space("node"), "capsh", "--drop=cap_net_raw", "--",
         "-c", f"{EXPORT} export --to jsonl"], capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 3
    assert "CAP_NET_RAW is missing, without which packets cannot be exported" in done.stderr
    assert "Traceback" not in done.stderr


def test_it_keeps_no_privilege_while_it_works(lab: Lab, tmp_path: Path) -> None:
    with Exporter(lab, tmp_path) as exporter:
        status = Path(f"/proc/{exporter.child.pid}/status").read_text()
    held = next(line.split()[1] for line in status.splitlines() if line.startswith("CapEff"))
    assert int(held, 16) == 0


def test_a_pipe_from_tcpdump_gives_rows_while_it_is_open(lab: Lab, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    command = f"tcpdump -U -i {CLIENT.veth} -w - 2>{tmp_path}/log | {EXPORT} export - --to jsonl >{out}"
    piped = lab.start("node", ["sh", "-c", command])
    log = tmp_path / "log"
    wait_for(lambda: log.exists() and "listening" in log.read_text(), "tcpdump to listen", 30.0)
    lab.run("client1", [sys.executable, LOAD, "connect", WEB.ip4, "20", "1"])
    wait_for(lambda: out.read_text().count('"dst_port":8000') > 5, "rows while the pipe is open", 60.0)
    assert piped.poll() is None
