"""Attack tools run live: found with pod names, and how long each stage took from the deciding packet to the alert."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from schemas.alert import Alert
from schemas.event_codec import EventMessage, batch_to_rows
from tests.lab import pods
from tests.lab.lab import wait_for
from tests.lab.pods import BY_NAME, GATEWAY4, OUTSIDE, OUTSIDE_IODINE, POD_CIDR4, PODS, Pod
from tests.lab.processes import ended
from tests.lab.stage import Stage
from tests.live.cluster import LiveCluster, until

NODE = "node1"
SETTINGS = {
    "packets": {"uplinks": [pods.UPLINK], "cluster_networks": [POD_CIDR4, pods.POD_CIDR6, f"{pods.NODE_UPLINK4}/32"]}
}
SOURCES = ("--source", "packets", "--source", "conntrack", "--source", "host")
# An attacker and a victim each; a later round has others, because an attack that goes on is no new alert.
ROUNDS = (("attacker", "web"), ("client4", "api"), ("monitor", "db"), ("client3", "web"), ("client2", "api"))
_PATIENCE_S = 30.0
_WINDOW_S = 12  # of the detectors of floods
_KNOWN_S = 12.0  # until machines and servers count as known
_ASK = "udhcpc -i eth0 -n -q -f -t 2 -T 2 -s /bin/true"
_DHCP = (
    "dnsmasq --keep-in-foreground --conf-file=/dev/null --port=0 --pid-file= --user=root --no-ping --dhcp-authoritative"
)

Start = Callable[[Stage, Pod, Pod], subprocess.Popen[bytes]]


@dataclass(frozen=True)
class Attack:
    """One tool: the kind of alert that it must raise, and whether the attacker is named by its packets.

    Attributes:
        tool: what is run.
        kind: of the alert.
        start: begins it, from an attacker's pod towards a victim's.
        names: whose pod the alert must name.
        rounds: in how many rounds it can be played; the rest of the cluster must be left to be attacked.
    """

    tool: str
    kind: str
    start: Start
    names: str = "attacker"
    rounds: int = len(ROUNDS)


def _command(text: str, where: str = "") -> Start:
    def start(stage: Stage, attacker: Pod, victim: Pod) -> subprocess.Popen[bytes]:
        return stage.begin(where or attacker.name, text.format(attacker=attacker.ip4, victim=victim.ip4))

    return start


def _rogue_dhcp(stage: Stage, attacker: Pod, victim: Pod) -> subprocess.Popen[bytes]:
    host = attacker.host
    leases = f"--dhcp-leasefile=/dev/shm/sluicelab-live-{host}.leases"
    pool = f"--interface=eth0 --dhcp-range=10.244.1.{host + 120},10.244.1.{host + 125},255.255.255.0,2m"
    serving = stage.begin(attacker.name, f"{_DHCP} {leases} {pool}")
    stage.listening(serving, 67, udp=True)
    stage.attempt("client1", _ASK)
    return serving


def _iodine(stage: Stage, attacker: Pod, victim: Pod) -> subprocess.Popen[bytes]:
    """A tunnel with pings inside; it is left open when they end."""
    stage.begin(attacker.name, f"iodine -f -r -m 1000 -T NULL -P lab {OUTSIDE_IODINE} t.hidden.example")
    shown = ["ip", "-n", stage.lab.space(attacker.name), "-4", "addr"]
    wait_for(lambda: b"10.99.0." in subprocess.run(shown, capture_output=True, check=True).stdout, "the tunnel", 40.0)
    return stage.begin(attacker.name, "ping -q -i 0.1 -s 600 10.99.0.1")


ATTACKS = (
    # First: other tools open such sockets too.
    Attack("tcpdump", "packet_socket", _command("tcpdump -p -i eth0 -w /dev/null")),
    Attack("tcpdump", "promiscuous_interface", _command("tcpdump -i eth0 -w /dev/null")),
    Attack("nmap -sS", "port_scan_vertical", _command("nmap -n -Pn --max-retries 1 -sS --max-rate 200 {victim}")),
    Attack("nmap -sS of a /24", "port_scan_horizontal",
           _command("nmap -n --max-retries 0 -Pn -sS -p 22 --max-rate 100 198.51.100.0/24")),
    Attack("arp-scan", "arp_scan", _command("arp-scan -q -I eth0 10.244.1.0/24")),
    Attack("hping3 -S", "syn_flood", _command("hping3 -q -S -p 80 -i u500 -c 12000 {victim}"), names="victim"),
    Attack("hping3 --udp", "udp_flood", _command("hping3 -q --udp -p 9999 -d 32 -i u300 -c 24000 {victim}"),
           names="victim"),
    Attack("hping3 --icmp", "icmp_flood", _command("hping3 -q --icmp -i u300 -c 24000 {victim}"), names="victim"),
    Attack("iodine", "dns_tunnel", _iodine, rounds=1),
    # All claim one address, one after the other: each is told apart from those before.
    Attack("arpspoof", "arp_spoof", _command(f"arpspoof -i eth0 -t {BY_NAME['client1'].ip4} {GATEWAY4}")),
    Attack("dnsmasq", "rogue_dhcp", _rogue_dhcp),
)  # fmt: skip


@dataclass
class Found:
    """One attack in one round; times in ms.

    Attributes:
        named: pods that the alert named as attackers or as victims, as was asked.
        collected: from the attacker's first packet of the deciding second until the exporter handed over that second.
        delivered: from there until the broker had it.
        judged: from there until the broker had the alert.
    """

    attack: Attack
    attacker: str
    victim: str
    named: tuple[str, ...] = ()
    collected: float = float("nan")
    delivered: float = float("nan")
    judged: float = float("nan")
    alert: Alert | None = None

    @property
    def total(self) -> float:
        """From the deciding packet to the alert, ms."""
        return self.collected + self.delivered + self.judged

    @property
    def right(self) -> bool:
        """It was found, and the right pod named."""
        wanted = self.attacker if self.attack.names == "attacker" else self.victim
        return pod_name(BY_NAME[wanted]) in self.named


def pod_name(pod: Pod) -> str:
    """Return the name that the inventory gives a pod."""
    return f"{pod.workload}-0" if pod.workload_kind == "StatefulSet" else f"{pod.workload}-7d9f{pod.host:02d}"


async def run_attacks(live: LiveCluster, rounds: int = 1, attacks: Sequence[Attack] = ATTACKS) -> list[Found]:
    """Play the attacks one after the other while the exporter listens, and wait for the alert about each.

    Args:
        live: the exporter is not started yet.
        rounds: how often, each time from another pod.
        attacks: which.
    """
    stage = Stage(live.lab)
    live.exporters[NODE].start(*SOURCES)
    await live.listening()
    with ended(stage.begin(OUTSIDE, f"iodined -f -c -P lab -l {OUTSIDE_IODINE} 10.99.0.1/24 t.hidden.example")):
        await asyncio.to_thread(_peace, stage)
        found: list[Found] = []
        for number in range(rounds):
            attacker, victim = ROUNDS[number]
            found += [
                await _play(live, stage, attack, attacker, victim) for attack in attacks if number < attack.rounds
            ]
    await live.exporters[NODE].stop()
    return found


def _peace(stage: Stage) -> None:
    """Ordinary traffic and a DHCP server, until everybody is known."""
    leases = "--dhcp-leasefile=/dev/shm/sluicelab-live.leases"
    pool = "--interface=eth0 --dhcp-range=10.244.1.150,10.244.1.170,255.255.255.0,2m"
    serving = stage.begin("dns", f"{_DHCP} {leases} {pool}")
    stage.listening(serving, 67, udp=True)
    for name in ("web", "api", "db"):
        stage.server(name, "http 80")
    for _ in range(3):
        for pod in PODS:
            stage.attempt(pod.name, f"ping -q -c 1 -W 1 {GATEWAY4}")
            for server in ("web", "api", "db"):
                if server != pod.name:
                    stage.attempt(pod.name, f"curl -sS -o /dev/null --max-time 2 http://{BY_NAME[server].ip4}/page/500")
        for name in ("client1", "client2"):
            stage.attempt(name, _ASK)
    time.sleep(_KNOWN_S)


async def _play(live: LiveCluster, stage: Stage, attack: Attack, attacker: str, victim: str) -> Found:
    heard = live.heard
    before = len(heard.alerts)
    found = Found(attack, attacker, victim)
    wanted = pod_name(BY_NAME[attacker if attack.names == "attacker" else victim])

    def match() -> tuple[Alert, int] | None:
        for alert, appended in heard.alerts[before:]:
            ends = alert.attackers if attack.names == "attacker" else alert.victims
            if alert.kind == attack.kind and wanted in {end.pod for end in ends}:
                return alert, appended
        return None

    with ended(await asyncio.to_thread(attack.start, stage, BY_NAME[attacker], BY_NAME[victim])):
        try:
            await until(lambda: match() is not None, attack.kind, _PATIENCE_S)
        except TimeoutError:
            told = [f"{a.kind}: {[e.pod for e in a.attackers]}" for a, _ in heard.alerts[before:]]
            packets = _most_packets(heard.events[NODE], BY_NAME[victim])
            found.named = (*told, f"at most {packets} packets towards the victim in {_WINDOW_S} s")
            return found
    matched = match()
    assert matched is not None
    found.alert, appended = matched
    ends = found.alert.attackers if attack.names == "attacker" else found.alert.victims
    found.named = tuple(end.pod for end in ends if end.pod)
    _stages(found, heard.events[NODE], BY_NAME[attacker], found.alert.tick, appended)
    return found


def _stages(found: Found, events: Sequence[tuple[EventMessage, int]], attacker: Pod, cut: int, appended: int) -> None:
    deciding = [(message, when) for message, when in events if message.header.cut == cut]
    if not deciding:
        return
    first = min((when for message, _ in deciding for when in _times(message, attacker)), default=(cut - 1) * 10**9)
    # A flow that goes on has rows from an earlier second at most where it was quiet; the second decides.
    first = max(first, (cut - 1) * 10**9)
    message, when = deciding[-1]
    found.collected = (message.header.sent_at - first) / 1e6
    found.delivered = when - message.header.sent_at / 1e6
    found.judged = appended - when


def _most_packets(events: Sequence[tuple[EventMessage, int]], victim: Pod) -> int:
    """Return the most packets that were told towards a victim within the window: a tool may have been too slow."""
    cuts: dict[int, int] = {}
    for message, _ in events:
        for row in batch_to_rows("flow", message.batches["flow"]) if "flow" in message.batches else ():
            if row["dst"] == victim.ip4:
                cuts[message.header.cut] = cuts.get(message.header.cut, 0) + row["src_packets"]
    return max((sum(cuts.get(cut - n, 0) for n in range(_WINDOW_S)) for cut in cuts), default=0)


def _times(message: EventMessage, attacker: Pod) -> Iterator[int]:
    """Give the times of the rows that the attacker's packets made."""
    for kind, batch in message.batches.items():
        for row in batch_to_rows(kind, batch):
            if row.get("interface") == attacker.veth or attacker.ip4 in (row.get("client"), row.get("claimed")):
                yield int(row.get("start") or row.get("time") or 0)


def table(found: Sequence[Found]) -> str:
    """Return the latencies by stage as a table of Markdown, in ms."""
    lines = ["| tool | alert | found | packet to hand-over | to the broker | to the alert | in all |",
             "|---|---|---|---|---|---|---|"]  # fmt: skip
    for attack in dict.fromkeys(each.attack for each in found):
        some = [each for each in found if each.attack == attack]
        good = [each for each in some if each.right]
        values = [f"{max(getattr(each, name) for each in good):,.0f}" if good else "" for name in _STAGES]
        lines.append(f"| {attack.tool} | {attack.kind} | {len(good)} of {len(some)} | {' | '.join(values)} |")
    for share in (50, 99):
        values = [f"{np.nanpercentile([getattr(e, name) for e in found], share):,.0f}" for name in _STAGES]
        lines.append(f"| p{share} of all | | | {' | '.join(values)} |")
    return "\n".join(lines)


_STAGES = ("collected", "delivered", "judged", "total")
