"""Cost and losses of the live exporter in namespaces of this machine: ``python benchmarks/exporter_live.py [SECONDS]``.

Needs root. Pods are network namespaces; no packet leaves them. The load generator shares the cores: its share is
stated. A packet between two pods of a node is read twice, where it enters and where it leaves.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path

from schemas.event_codec import read_file
from tests.lab import pods
from tests.lab.lab import ROOT, Lab, wait_for

LOAD = str(ROOT / "benchmarks" / "live_load.py")
EXPORT = str(Path(sys.executable).with_name("sluicegate"))
MIXED = (("connect", 1000), ("send", 10_000), ("ask", 1000))
PACED = (50_000, 100_000, 150_000, 200_000, 300_000)
ALL = ("packets", "conntrack", "host")
_TICKS = os.sysconf("SC_CLK_TCK")
_WARM_S = 4


def cpu(pid: int) -> float:
    """CPU seconds of a process, system time included."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def resident(pid: int) -> float:
    """Resident memory of a process in MB."""
    line = next(x for x in Path(f"/proc/{pid}/status").read_text().splitlines() if x.startswith("VmRSS"))
    return int(line.split()[1]) / 1000


def command_of(kind: str, rate: int, seconds: int) -> list[str]:
    """The command that makes a load against the web pod; ``flood``: as fast as it can, for about that long."""
    address = pods.BY_NAME["web"].ip4
    if kind == "flood":
        # One flow: the source port stays.
        hping = ["hping3", "-q", "--udp", "-p", "9000", "-s", "5000", "--keep", "-d", "64", "--flood", address]
        return ["timeout", str(seconds), *hping]
    return [sys.executable, LOAD, kind, address, str(rate), str(seconds)]


def measure(load: tuple[tuple[str, int], ...], seconds: int, sources: tuple[str, ...] = ALL[:1]) -> dict[str, object]:
    """Run one load and return what the exporter cost, saw and lost, and how busy the machine was."""
    with tempfile.TemporaryDirectory() as folder, Lab(("web", "client1", "client2", "client3")) as lab:
        out = Path(folder) / "events"
        serving = lab.start("web", [sys.executable, LOAD, "serve"])
        # As a node agent is: other work on the cores must not keep it from emptying its ring.
        command = [
            "nice",
            "-n",
            "-15",
            EXPORT,
            "export",
            "--to",
            "file",
            "--output",
            str(out),
            "--node",
            "node1",
            "--uplink",
            "eth0",
            *(f"--source={name}" for name in sources),
        ]
        exporter = lab.start("node", command)
        wait_for(lambda: out.with_suffix(".partial").exists(), "the exporter to start", 30.0)
        time.sleep(_WARM_S)
        begin, before = time.monotonic(), cpu(exporter.pid)
        clients = [
            lab.start(f"client{1 + n % 3}", command_of(kind, rate, seconds)) for n, (kind, rate) in enumerate(load)
        ]  # fmt: skip
        time.sleep(seconds - 1)
        spent, passed = cpu(exporter.pid) - before, time.monotonic() - begin
        generator = sum(cpu(child.pid) for child in [serving, *clients])
        memory = resident(exporter.pid)
        for child in clients:
            child.wait(60)
        time.sleep(2)
        exporter.terminate()
        exporter.wait(60)
        with out.open("rb") as file:
            messages = list(read_file(file))
        rows = {k: sum(m.rows(k) for m in messages) for k in ("flow", "dns")}
        flows = [m.batches["flow"] for m in messages if "flow" in m.batches]
        sent = sum(int(b.column(f"{side}_packets").to_numpy().sum()) for b in flows for side in ("src", "dst"))
        lost = sum(m.header.lost_packets for m in messages)
        return {
            "load": [f"{kind} {rate}" for kind, rate in load], "sources": "+".join(sources),
            "load_average": round(os.getloadavg()[0], 1),
            "cpu_percent": round(100 * spent / passed, 1), "rss_mb": round(memory, 1),
            "generator_percent": round(100 * generator / passed, 1), "packets_per_s": round(sent / seconds),
            "lost": lost, "lost_percent": round(100 * lost / max(1, 2 * sent + lost), 2), "rows": rows,
        }  # fmt: skip


if __name__ == "__main__":
    span = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    print(json.dumps(measure((), span)), flush=True)
    print(json.dumps(measure(MIXED, span)), flush=True)
    print(json.dumps(measure(MIXED, span, ALL)), flush=True)
    for pace in PACED:
        print(json.dumps(measure((("blast", pace),), span)), flush=True)
    print(json.dumps(measure((("flood", 0),), span)), flush=True)
