"""Looking for what there is with gobuster, dnsrecon, dig and nmap; and clients that ask in vain, or ask many."""

from __future__ import annotations

from collections.abc import Callable

from tests.lab import pods
from tests.lab.stage import Case, Stage, cluster_dns, finish, outside_dns

DNS, WEB = pods.BY_NAME["dns"], pods.BY_NAME["web"]
WORDS = "/usr/share/dirb/wordlists/common.txt"
ASKERS = ("dns", "attacker")
SERVED = ("web", "api", "db")
PORTS = (80, 7080, 8000, 8080, 8088, 8180)  # that nmap takes for web servers' without asking
CURL = "curl -s -o /dev/null --max-time 5"


def _files(stage: Stage, pod: str, port: int) -> None:
    """A web server that has nothing but an empty folder."""
    child = stage.begin(pod, f"python3 -m http.server {port} --directory /mnt")
    stage.listening(child, port, udp=False)


def _paths(stage: Stage) -> None:
    _files(stage, "web", 80)
    tool = f"head -700 {WORDS} > /tmp/sluicelab-words; gobuster dir -q -z -t 4 -u http://{WEB.ip4} --delay 50ms"
    with stage.attack("service_enumeration", "attacker", "web"):
        stage.attempt("attacker", ["sh", "-c", f"{tool} -w /tmp/sluicelab-words"])


def _dns_tool(tool: str) -> Callable[[Stage], None]:
    def play(stage: Stage) -> None:
        cluster_dns(stage)
        outside_dns(stage)
        with stage.attack("service_enumeration", "attacker", "dns"):
            stage.attempt("attacker", ["sh", "-c", tool], timeout=60.0)

    return play


def _transfer(stage: Stage) -> None:
    hosts = [f"--host-record={name}.shop.example,{pods.BY_NAME[name].ip4}" for name in SERVED]
    zone = ("--auth-server=ns.shop.example,eth0", "--auth-zone=shop.example,10.244.1.0/24")
    stage.dnsmasq("dns", *hosts, *zone)
    with stage.attack("service_enumeration", "attacker", "dns"):
        stage.tool("attacker", f"dig +noall +answer @{DNS.ip4} shop.example AXFR")


def _refused(stage: Stage) -> None:
    cluster_dns(stage)
    with stage.attack("service_enumeration", "attacker", "dns"):
        stage.attempt("attacker", f"dig +tries=1 @{DNS.ip4} cluster.local AXFR")


def _many_servers(stage: Stage) -> None:
    """One request for a folder that should not be there, to each of eighteen servers."""
    for pod in SERVED:
        for port in PORTS:
            _files(stage, pod, port)
    hosts, ports = " ".join(pods.BY_NAME[pod].ip4 for pod in SERVED), ",".join(map(str, PORTS))
    with stage.attack("service_enumeration", "attacker", pods.POD_CIDR4):
        stage.tool("attacker", f"nmap -n -Pn -sT -p {ports} --script http-git --script-args http.useragent=x {hosts}")


def _in_vain(stage: Stage) -> None:
    """A scraper of eighteen servers, an installer whose index lacks what it needs, and much asked in vain."""
    for pod in SERVED:
        for port in PORTS:
            stage.server(pod, f"http {port}")
    _files(stage, "web", 9000)
    cluster_dns(stage)
    outside_dns(stage)
    pages = " ".join(f"http://{pods.BY_NAME[pod].ip4}:{port}/metrics/900" for pod in SERVED for port in PORTS)
    scrape = f"for i in 1 2 3; do for page in {pages}; do {CURL} $page; done; sleep 5; done"
    install = (
        f"for name in $(head -120 {WORDS} | grep -v '[^a-z]'); do {CURL} http://{WEB.ip4}:9000/simple/$name/; done"
    )
    finish(
        stage.begin("monitor", ["bash", "-c", scrape]),
        stage.begin("client1", ["bash", "-c", install]),
        stage.lookup("client2", f"search --server {DNS.ip4} --rate 30 --count 600 --seed 1"),
        stage.lookup("client3", f"reverse --server {DNS.ip4} --rate 8 --count 160 --seed 2"),
        stage.lookup("client3", f"blocklist --server {DNS.ip4} --rate 20 --count 300 --seed 3"),
        stage.lookup("client4", f"hashed --server {DNS.ip4} --rate 20 --count 300 --seed 4"),
    )
    stage.silence(note="scraping, a package index without packages, search paths, reverse names in no order, lists")


_WALK = f"dnsrecon -n {DNS.ip4} -r 10.244.1.0/24 --threads 4"
_LIST = f"nmap -sL --dns-servers {DNS.ip4} 10.244.1.0/24"
_GUESS = (
    f"tail -600 {WORDS} | head -400 > /tmp/sluicelab-words; "
    f"gobuster dns -q -z -t 8 -r {DNS.ip4} -d shop.svc.cluster.local -w /tmp/sluicelab-words"
)
_HOSTS = (
    f"grep -v '[^a-z]' {WORDS} | head -400 > /tmp/sluicelab-words; "
    f"dnsrecon -n {DNS.ip4} -d corp.example -t brt -D /tmp/sluicelab-words --threads 8 --lifetime 1"
)

CASES = (
    Case("service_enumeration", "gobuster_paths", "gobuster tries paths of a web server", _paths),
    Case("service_enumeration", "gobuster_names", "gobuster tries names of services of the cluster", _dns_tool(_GUESS),
         pods=ASKERS),
    Case("service_enumeration", "dnsrecon_hosts", "dnsrecon tries host names of a zone", _dns_tool(_HOSTS),
         pods=ASKERS),
    Case("service_enumeration", "dnsrecon_walk", "dnsrecon asks for the names of a network", _dns_tool(_WALK),
         pods=ASKERS),
    Case("service_enumeration", "nmap_list", "nmap lists a network by its names", _dns_tool(_LIST), pods=ASKERS),
    Case("service_enumeration", "dig_axfr", "dig transfers a zone", _transfer, pods=ASKERS),
    Case("service_enumeration", "dig_axfr_refused", "dig asks for a zone that is not given", _refused, pods=ASKERS),
    Case("service_enumeration", "nmap_http", "nmap asks eighteen web servers for what they should not have",
         _many_servers, pods=(*SERVED, "attacker")),
    Case("service_enumeration", "much_asked_in_vain", "Scraping, a package index, lists and reverse names", _in_vain,
         pods=(*SERVED, "dns", "client1", "client2", "client3", "client4", "monitor"), keep=192),
)  # fmt: skip
