"""What a case is, and the stage it is played on: a lab that writes down every command and the truth."""

from __future__ import annotations

import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.lab import lookups, pods
from tests.lab.lab import Lab, wait_for

TCP_STATES, UDP_STATES = ("tcp", "tcp6"), ("udp", "udp6")


@dataclass(frozen=True)
class Case:
    """One recording: who is there (None: everybody), what happens (`play`), what is kept of a frame (bytes).

    With `policies` the inventory also tells NetworkPolicies and endpoints.
    With `rows` the exporter's messages are kept, under tests/torture, and no capture.
    """

    detector: str
    name: str
    title: str
    play: Callable[[Stage], None]
    pods: tuple[str, ...] | None = ("web", "attacker")
    keep: int = 128
    notes: str = ""
    inventory: bool = False
    policies: bool = False
    rows: bool = False

    @property
    def path(self) -> str:
        """Folder under tests/cases, or with `rows` under tests/torture."""
        return f"{self.detector}/{self.name}"


@dataclass
class Expectation:
    """One line of truth. `began` and `ended` (s since 1970) bound the packets that prove it; None: no bounds."""

    expect: str
    kind: str
    src: str = ""
    dst: str = ""
    note: str = ""
    began: float | None = None
    ended: float | None = None
    extra: dict[str, int | str] = field(default_factory=dict)


@dataclass
class Stage:
    """A lab during a recording."""

    lab: Lab
    commands: list[tuple[float, str, str]] = field(default_factory=list)
    truth: list[Expectation] = field(default_factory=list)

    def tool(self, where: str, command: Sequence[str] | str, timeout: float = 120.0) -> str:
        """Run a command line in a pod to its end; it becomes part of the case's record."""
        words = self._noted(where, command)
        return self.lab.run(where, words, timeout)

    def begin(self, where: str, command: Sequence[str] | str) -> subprocess.Popen[bytes]:
        """Start a command line in a pod and go on; it becomes part of the case's record."""
        words = self._noted(where, command)
        return self.lab.start(where, words)

    def attempt(self, where: str, command: Sequence[str] | str, timeout: float = 120.0) -> None:
        """Run a tool whose exit code says what it found rather than whether it ran."""
        child = self.begin(where, command)
        child.wait(timeout)

    def _noted(self, where: str, command: Sequence[str] | str) -> list[str]:
        words = shlex.split(command) if isinstance(command, str) else list(command)
        self.commands.append((time.clock_gettime(time.CLOCK_REALTIME), where, shlex.join(words)))
        return words

    def client(self, where: str, text: str) -> subprocess.Popen[bytes]:
        """Start `clients …` (tests.lab.clients) in a pod."""
        return self.module(where, "clients", text)

    def lookup(self, where: str, text: str) -> subprocess.Popen[bytes]:
        """Start `lookups …` (tests.lab.lookups) in a pod."""
        return self.module(where, "lookups", text)

    def server(self, where: str, text: str, udp: bool = False) -> None:
        """Start `services KIND PORT…` in a pod and wait until all its ports listen."""
        child = self.module(where, "services", text)
        for port in (int(word) for word in text.split() if word.isdigit()):
            self.listening(child, port, udp)

    def module(self, where: str, module: str, text: str) -> subprocess.Popen[bytes]:
        """Start another module of tests.lab in a pod."""
        words = ["python", "-m", f"tests.lab.{module}", *text.split()]
        self.commands.append((time.clock_gettime(time.CLOCK_REALTIME), where, shlex.join(words)))
        return self.lab.start(where, [sys.executable, *words[1:]])

    def listening(self, child: subprocess.Popen[bytes], port: int, udp: bool) -> None:
        """Wait until somebody in the namespace of `child` listens on `port`."""
        tables = [Path(f"/proc/{child.pid}/net/{name}") for name in (UDP_STATES if udp else TCP_STATES)]
        mark = f":{port:04X} "

        def open_now() -> bool:
            if child.poll() is not None:
                raise RuntimeError(f"lab: a server for port {port} ended with {child.returncode}")
            return any(mark in line[:60] for t in tables for line in t.read_text().splitlines())

        wait_for(open_now, f"port {port} to be served", 20.0)

    def dnsmasq(self, where: str, *options: str) -> None:
        """Start a dnsmasq with these options and nothing else, and wait for port 53."""
        fixed = "--keep-in-foreground --conf-file=/dev/null --no-resolv --no-hosts --pid-file= --user=root"
        child = self.begin(where, ["dnsmasq", *fixed.split(), "--local-ttl=60", *options])
        self.listening(child, 53, udp=True)

    @contextmanager
    def attack(
        self, kind: str, src: str, dst: str, *, expect: str = "alert", note: str = "", **extra: int | str
    ) -> Iterator[None]:
        """What happens inside is the truth `kind` from `src` to `dst`.

        Pod names are replaced by addresses; `src` in parentheses means that no single source matters.
        """
        line = Expectation(expect, kind, src, dst, note, began=time.clock_gettime(time.CLOCK_REALTIME))
        line.extra = dict(extra)
        yield
        line.ended = time.clock_gettime(time.CLOCK_REALTIME)
        self.truth.append(line)

    def silence(self, kind: str = "any", src: str = "", note: str = "") -> None:
        """Nothing of `kind` may fire (from `src`), apart from what other lines expect."""
        self.truth.append(Expectation("silence", kind, src, note=note))


def clock() -> Callable[[float], None]:
    """Return what waits until so many seconds after this moment have passed."""
    begun = time.monotonic()
    return lambda seconds: time.sleep(max(0.0, begun + seconds - time.monotonic()))


def finish(*children: subprocess.Popen[bytes], seconds: float = 400.0) -> None:
    """Wait for clients to end; RuntimeError when one failed."""
    for child in children:
        if child.wait(seconds) != 0:
            raise RuntimeError(f"lab: {child.args!r} ended with {child.returncode}")


def cluster_dns(stage: Stage) -> None:
    """The cluster's name server: service names itself, two zones to their own servers, the rest forwarded."""
    records = [
        f"--host-record={name}.shop.svc.cluster.local,{pods.BY_NAME[name].ip4},{pods.BY_NAME[name].ip6}"
        for name in ("web", "api", "db")
    ]
    zones = (f"--server=/hidden.example/{pods.OUTSIDE_IODINE}", f"--server=/leak.example/{pods.OUTSIDE_SINK}")
    stage.dnsmasq("dns", "--local=/cluster.local/", *records, *zones, f"--server={pods.OUTSIDE_DNS}")


def outside_dns(stage: Stage) -> None:
    """The outside world's name server: every site of the lookups, no reverse names, an empty block list."""
    webs = pods.OUTSIDE_WEB
    sites = [f"--address=/{site}.example/{webs[n % len(webs)]}" for n, site in enumerate(lookups.SITES)]
    networks = ["--address=/front.example/203.0.113.50", "--address=/edge.example/203.0.113.51"]
    none = ["--local=/bl.example/", "--local=/in-addr.arpa/", "--local=/example/"]
    listen = [f"--listen-address={pods.OUTSIDE_DNS}", "--bind-interfaces"]
    stage.dnsmasq(pods.OUTSIDE, *listen, *sites, *networks, *none)


def shop(stage: Stage) -> None:
    """The ordinary servers: web, api, db, the cluster's DNS and the outside world."""
    stage.server("web", "http 80")
    stage.server("api", "http 8080")
    stage.server("db", "query 5432")
    cluster_dns(stage)
    stage.server(pods.OUTSIDE, "http 80")
    outside_dns(stage)


def ordinary(stage: Stage, seconds: int) -> list[subprocess.Popen[bytes]]:
    """Clients of the shop for so many seconds: pages, queries, lookups, a monitor, visitors from outside."""
    web, api, db, dns = (pods.BY_NAME[name] for name in ("web", "api", "db", "dns"))
    during = f"--seconds {seconds}"
    some_webs = " ".join(pods.OUTSIDE_WEB[:6])
    runs = [
        stage.client("client1", f"browse --to {web.ip4} --rate 0.9 --requests 5 --seed 11 {during}"),
        stage.client("client2", f"browse --to {web.ip4} {web.ip6} --rate 0.5 --requests 3 --seed 12 {during}"),
        stage.client("client3", f"browse --to {api.ip4} --port 8080 --rate 0.6 --seed 13 {during}"),
        stage.client("client4", f"browse --to {some_webs} --rate 0.15 --requests 2 --seed 14 {during}"),
        stage.client("web", f"browse --to {api.ip4} --port 8080 --rate 0.5 --requests 4 --seed 15 {during}"),
        stage.client("api", f"query --to {db.ip4} --port 5432 --rate 2 --seed 16 {during}"),
        stage.client("client3", f"query --to {db.ip6} --port 5432 --rate 0.5 --seed 17 {during}"),
        stage.client("monitor", f"browse --to {web.ip4} --rate 0.1 --seed 18 {during}"),
        stage.client("monitor", f"browse --to {api.ip4} --port 8080 --rate 0.1 --seed 19 {during}"),
        stage.client(pods.OUTSIDE, f"browse --to {web.ip4} --rate 0.4 --requests 4 --seed 20 {during}"),
        stage.begin("monitor", f"ping -q -i 5 -c {seconds // 5} {db.ip4}"),
    ]
    styles = (("client1", "search", 0.5), ("client2", "service", 0.4), ("client4", "browsing", 0.8),
              ("api", "service", 0.4), ("web", "hashed", 0.15))  # fmt: skip
    for number, (pod, style, rate) in enumerate(styles):
        count = int(seconds * rate * 0.9)
        text = f"{style} --server {dns.ip4} --rate {rate} --count {count} --seed {30 + number}"
        runs.append(stage.lookup(pod, text))
    return runs
