"""Who uses the servers of the hour: curl, pgbench, psql, redis-cli, rsync, logger and kubelets."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

from tests.lab.hour import nodes, servers
from tests.lab.hour.nodes import BY_NAME, OUTSIDE, POD_PORTS
from tests.lab.hour.servers import POSTGRES, SITE_NAMES, Town

PROBE_SECONDS = 10
CURL = "curl -s -o /dev/null --max-time 60"
_PAGE = "$((RANDOM % 20))"
_DB = "host=db.shop user=postgres dbname=postgres connect_timeout=5"


def loop(town: Town, where: str, wait: str, command: str, seed: int) -> subprocess.Popen[bytes]:
    """Run a shell command again and again; `wait` is a shell expression in milliseconds."""
    rest = f"ms=$(({wait})); sleep $((ms / 1000)).$(printf %03d $((ms % 1000)))"
    script = f"cd {town.folder}; RANDOM={seed}; while :; do {command}; {rest}; done"
    return town.lab.start(where, ["bash", "-c", script])


def _pages(base: str, count: int) -> str:
    """One curl that asks for pages over one connection."""
    return " ".join(f"{base}/page/{_PAGE}" for _ in range(count))


def visitors(town: Town) -> None:
    """Browsers outside: pages over kept connections, single short ones, TLS, the API through the ingress."""
    shop = BY_NAME["ingress"].ip
    tls = f"{CURL} -k --resolve shop.example:443:{shop}"
    loop(town, OUTSIDE, "200 + RANDOM % 1600", f"{CURL} --interface {nodes.SITES[0]} {_pages(f'http://{shop}', 4)}", 11)
    loop(
        town,
        OUTSIDE,
        "100 + RANDOM % 1400",
        f"{CURL} --interface 203.0.113.$((101 + RANDOM % 30)) {_pages(f'http://{shop}', 1)}",
        12,
    )
    loop(town, OUTSIDE, "500 + RANDOM % 3000", f"{tls} {_pages('https://shop.example', 3)}", 13)
    loop(town, OUTSIDE, "500 + RANDOM % 4000", f"{CURL} http://{shop}/item/$((RANDOM % 900)) http://{shop}/item/7", 14)
    for number in (0, 1):  # a player asks for four seconds of film every four seconds
        segment = f"{CURL} --interface {nodes.SITES[10 + number]} http://{BY_NAME['video'].ip}/seg/$((RANDOM % 10))"
        loop(town, OUTSIDE, "3600 + RANDOM % 300", segment, 15 + number)


def workloads(town: Town) -> None:
    """Pods that call each other by name through the search path, the database, the cache, and places outside."""
    database = f"{POSTGRES}/pgbench -n -h db.shop -U postgres -T 900"
    loop(town, "worker-1", "1000", f"{database} -c 2 -R 4 postgres", 21)
    loop(town, "worker-2", "1000", f"{database} -C -S -c 1 -R 1 postgres", 22)
    for name, seed in (("worker-1", 23), ("worker-2", 24)):
        loop(
            town,
            name,
            "2000 + RANDOM % 6000",
            f"{CURL} {_pages('http://web.shop', 2)} http://api.shop:8080/page/3",
            seed,
        )
        loop(town, name, "1000", "redis-cli -h cache.shop -r 400 -i 0.7 incr jobs", seed + 10)
        site = "names=(" + " ".join(SITE_NAMES) + "); site=${names[$((RANDOM % 10))]}"
        loop(town, name, "4000 + RANDOM % 20000", f"{site}; {CURL} http://$site.example/page/{_PAGE}", seed + 20)
    loop(town, "api", "300 + RANDOM % 900", "redis-cli -h cache.shop get item$((RANDOM % 900))", 27)
    loop(town, "api", "20000 + RANDOM % 40000", f"{CURL} http://rates.example/page/1", 28)
    loop(town, "reports", "60000", f"{POSTGRES}/psql -q '{_DB}' -c 'select count(*) from pgbench_accounts'", 29)
    agent = f"{CURL} -k -d @www/page/1 --resolve intake.example:443:{nodes.INTAKE} https://intake.example/intake"
    for number, where in enumerate(("node1", "node2", "node3", "worker-1", "ci")):
        loop(town, where, "30000", agent, 60 + number)
    for number, where in enumerate(("video", "cache", "reports")):
        line = "logger -n collector.monitoring -P 514 -d -t app served $RANDOM"
        loop(town, where, "1000 + RANDOM % 3000", line, 70 + number)


def builds(town: Town) -> None:
    """A runner that every few minutes fetches packages over one connection and tries its work on the services."""
    packages = " ".join("http://mirror.example/pkg/$((RANDOM % 7))" for _ in range(4))
    names = "for n in 1 2 3 4 5 6; do getent hosts pkg$((RANDOM % 40)).mirror.example; done"
    tries = (
        f"{CURL} http://api.shop:8080/healthz; redis-cli -h cache.shop ping; {POSTGRES}/psql -q '{_DB}' -c 'select 1'"
    )
    loop(town, "ci", "120000 + RANDOM % 6 * 20000", f"{CURL} --limit-rate 2M {packages}; {names}; {tries}", 81)


def backup(town: Town) -> None:
    """A dump of the database and the day's files, to the vault outside, at two megabytes a second."""
    dump = f"{POSTGRES}/pg_dump -Fc -f dump '{_DB}'; head -c 12000000 /dev/urandom > files"
    copy = "rsync -q --bwlimit=2000 dump files rsync://vault.example/backup/"
    loop(town, "backup", "600000", f"{dump}; {copy}", 91)


def probe(town: Town, name: str) -> subprocess.Popen[bytes]:
    """The kubelet of a pod's node asks whether it is well."""
    pod = BY_NAME[name]
    port, web = POD_PORTS[name]
    asked = (
        f"{CURL} --max-time 1 http://{pod.ip}:{port}/{'healthz' if web else ''}"
        if web
        else f"nc -z -w 1 {pod.ip} {port}"
    )
    return loop(town, f"node{pod.node}", f"{PROBE_SECONDS}000", asked, pod.host)


def replace(
    town: Town, probes: dict[str, subprocess.Popen[bytes]], old: str, new: str, stay: str
) -> list[tuple[float, Callable[[], None]]]:
    """The steps of replacing one web pod, as (seconds after the beginning, what is done)."""

    def come() -> None:
        probes[new] = probe(town, new)

    def listen() -> None:
        servers.nginx(town, new, 80, keep=30)
        servers.ship_log(town, new)

    def leave() -> None:
        probes.pop(old).kill()
        for name in (f"nginx-{old}", f"ship-{old}"):
            town.stop(name)

    return [(0, come), (12, listen), (24, lambda: servers.announce(town, (new, stay))), (40, leave)]


def start(town: Town) -> dict[str, subprocess.Popen[bytes]]:
    """Start everybody; returns the probes by pod."""
    visitors(town)
    workloads(town)
    builds(town)
    absent = {"web-3", "web-4"}
    return {name: probe(town, name) for name in POD_PORTS if name not in absent}
