"""The servers of the hour, as Debian has them: nginx, haproxy, PostgreSQL, Redis, unbound, rsyslog and others."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from tests.lab.hour import nodes
from tests.lab.hour.nodes import BY_NAME, NODES, Nodes, node_ip
from tests.lab.lab import wait_for

POSTGRES = Path("/usr/lib/postgresql/15/bin")
ZONE = "svc.cluster.local"
PAGES, SEGMENTS, PACKAGES = 20, 10, 7
SITE_NAMES = ("news", "weather", "maps", "rates", "stock", "parcel", "geo", "fonts", "search", "docs")


@dataclass
class Town:
    """Running servers, and where their files are."""

    lab: Nodes
    folder: Path
    children: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def path(self, name: str) -> Path:
        """A file or folder of the recording."""
        return self.folder / name

    def write(self, name: str, text: str) -> Path:
        """Write a configuration file."""
        path = self.path(name)
        path.write_text(text)
        return path

    def serve(self, name: str, where: str, words: list[str], port: int = 0, udp: bool = False) -> None:
        """Start a server and wait until it listens."""
        with self.path(f"{name}.log").open("ab") as log:
            child = self.lab.start(where, words, stdout=log.fileno(), stderr=log.fileno())
        self.children[name] = child
        if port:
            tables = [Path(f"/proc/{child.pid}/net/{'udp' if udp else 'tcp'}{six}") for six in ("", "6")]
            wait_for(lambda: any(f":{port:04X} " in line[:60] for t in tables for line in t.read_text().splitlines()),
                     f"{name} to listen on {port}", 30.0)  # fmt: skip

    def stop(self, name: str) -> None:
        """End a server as a kubelet does."""
        child = self.children.pop(name)
        child.terminate()
        child.wait(timeout=30)


def _files(town: Town) -> None:
    chance = random.Random(5)
    for kind, count, low, high in (("page", PAGES, 600, 60_000), ("seg", SEGMENTS, 300_000, 500_000),
                                   ("pkg", PACKAGES, 200_000, 9_000_000)):  # fmt: skip
        for number in range(count):
            path = town.path(f"www/{kind}/{number}")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(chance.randbytes(chance.randint(low, high)))
    lines = "".join(f'lab_requests_total{{path="/page/{n}"}} {n * 17}\n' for n in range(200))
    town.path("www/metrics").write_text(lines)


def _certificate(town: Town, serial: int) -> None:
    """A certificate of the lab's own authority, which stays the same when it is renewed."""

    def run(text: str) -> None:
        subprocess.run(text.split(), cwd=town.folder, check=True, capture_output=True)

    curve = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
    if serial == 1:
        run(f"openssl req -x509 {curve} -days 3650 -subj /CN=LabCA -keyout ca.key -out ca.pem")
        town.write("names", "subjectAltName=DNS:shop.example,DNS:intake.example\n")
    run(f"openssl req {curve} -subj /CN=shop.example -keyout site.key -out site.csr")
    run(f"openssl x509 -req -in site.csr -CA ca.pem -CAkey ca.key -set_serial {serial} -days 90 -extfile names "
        "-out site.crt")  # fmt: skip
    town.path("site.pem").write_bytes(town.path("site.crt").read_bytes() + town.path("site.key").read_bytes())


_NGINX = """daemon off; worker_processes 1; error_log stderr; pid {pid}; user root;
events {{ worker_connections 256; }}
http {{ access_log {log}; keepalive_timeout {keep}s; default_type text/plain; client_body_temp_path {tmp};
 proxy_temp_path {tmp}; fastcgi_temp_path {tmp}; uwsgi_temp_path {tmp}; scgi_temp_path {tmp};
 upstream api {{ server {api}:8080; keepalive 4; }}
 server {{ {listen} root {root};
  location = /healthz {{ return 200 ok; access_log off; }}
  location = /intake {{ return 202; }}
  location /item/ {{ {item} }} }} }}
"""
_ASKED = 'proxy_pass http://api; proxy_http_version 1.1; proxy_set_header Connection "";'
_ANSWERED = "rewrite ^ /page/4 last;"


def nginx(town: Town, where: str, *ports: int, tls: int = 0, keep: int = 65) -> None:
    """An nginx with pages, segments, packages and metrics; `/item/` is asked of the API."""
    tmp = town.path(f"tmp-{where}")
    tmp.mkdir(exist_ok=True)
    listen = "".join(f"listen {port};" for port in ports)
    if tls:
        names = f"{town.path('site.crt')}; ssl_certificate_key {town.path('site.key')};"
        listen += f"listen {tls} ssl; ssl_certificate {names}"
    item = _ANSWERED if where == "api" else _ASKED
    text = _NGINX.format(pid=town.path(f"{where}.pid"), log=town.path(f"{where}.access"), keep=keep, tmp=tmp, item=item,
                         api=BY_NAME["api"].ip, listen=listen, root=town.path("www"))  # fmt: skip
    config = town.write(f"{where}.nginx", text)
    town.serve(f"nginx-{where}", where, ["nginx", "-c", str(config), "-e", "stderr"], ports[0])


_HAPROXY = """global
 log stderr local0
defaults
 mode http
 timeout connect 3s
 timeout client 60s
 timeout server 30s
 timeout http-keep-alive 20s
resolvers cluster
 nameserver dns {dns}:53
 timeout resolve 5s
 hold valid 5s
 hold obsolete 5s
frontend site
 bind :80
 bind :443 ssl crt {pem}
 http-request use-service prometheus-exporter if {{ path /metrics }}
 use_backend api if {{ path_beg /item }}
 default_backend web
backend web
 option httpchk GET /healthz
 server-template web 4 web.shop.{zone}:80 check inter 5s resolvers cluster init-addr none
backend api
 option httpchk GET /healthz
 server api {api}:8080 check inter 5s
"""

_UNBOUND = """server:
 do-daemonize: no
 use-syslog: no
 chroot: ""
 username: ""
 pidfile: ""
 directory: "{folder}"
 interface: 0.0.0.0
 access-control: 0.0.0.0/0 allow
 module-config: "iterator"
 num-threads: 1
 do-not-query-localhost: no
 local-zone: "cluster.local." static
{data}
remote-control:
 control-enable: yes
 control-use-cert: no
 control-interface: {socket}
forward-zone:
 name: "."
 forward-addr: {upstream}
"""


def service_records(webs: tuple[str, ...]) -> list[str]:
    """The records of the cluster's services; `webs` are the pods that are ready."""
    single = {"api": "api", "db": "db", "cache": "cache", "video": "video"}
    lines = [f"{name}.shop.{ZONE}. 5 IN A {BY_NAME[pod].ip}" for name, pod in single.items()]
    lines.append(f"collector.monitoring.{ZONE}. 30 IN A {BY_NAME['collector'].ip}")
    return lines + [f"web.shop.{ZONE}. 5 IN A {BY_NAME[name].ip}" for name in webs]


def announce(town: Town, webs: tuple[str, ...]) -> None:
    """Change which web pods the cluster's DNS names."""
    for dns in ("dns-1", "dns-2"):
        control = ["unbound-control", "-c", str(town.path(f"{dns}.unbound"))]
        town.lab.run(dns, [*control, "local_data_remove", f"web.shop.{ZONE}."])
        for name in webs:
            town.lab.run(dns, [*control, "local_data", *f"web.shop.{ZONE}. 5 IN A {BY_NAME[name].ip}".split()])


def _resolvers(town: Town) -> None:
    sites = [f"--address=/{site}.example/{nodes.SITES[3 * n + k]}" for n, site in enumerate(SITE_NAMES) for k in (0, 1)]
    known = {"mirror": nodes.MIRROR, "vault": nodes.VAULT, "intake": nodes.INTAKE, "time": nodes.TIME,
             "shop": BY_NAME["ingress"].ip}  # fmt: skip
    names = [f"--address=/{name}.example/{address}" for name, address in known.items()]
    fixed = (
        "--keep-in-foreground --conf-file=/dev/null --no-resolv --no-hosts --pid-file= --user=root --bind-interfaces"
    )
    listen = [f"--listen-address={nodes.RESOLVERS}", "--local=/example/", "--local-ttl=60", "--max-cache-ttl=60"]
    town.serve("upstream", nodes.OUTSIDE, ["dnsmasq", *fixed.split(), *listen, *sites, *names], 53, udp=True)
    data = "\n".join(f" local-data: '{line}'" for line in service_records(("web-1", "web-2")))
    for dns in ("dns-1", "dns-2"):
        text = _UNBOUND.format(folder=town.folder, data=data, socket=town.path(f"{dns}.sock"), upstream=nodes.RESOLVERS)
        config = town.write(f"{dns}.unbound", text)
        town.serve(dns, dns, ["unbound", "-d", "-c", str(config)], 53, udp=True)


def _database(town: Town) -> None:
    """PostgreSQL does not run as root; the data of pgbench, ten times its unit."""
    data = town.path("pgdata")
    data.mkdir()
    shutil.chown(data, "postgres", "postgres")
    os.chmod(town.folder, 0o755)
    user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
    subprocess.run([*user, POSTGRES / "initdb", "-D", data, "-A", "trust", "-U", "postgres"], check=True,
                   capture_output=True, cwd="/")  # fmt: skip
    with (data / "pg_hba.conf").open("a") as file:
        file.write("host all all 10.244.0.0/16 trust\n")
    options = ["-c", "listen_addresses=*", "-c", f"unix_socket_directories={data}", "-c", "fsync=off"]
    town.serve("db", "db", [*user, str(POSTGRES / "postgres"), "-D", str(data), *options], 5432)
    asks = [str(POSTGRES / "pg_isready"), "-h", str(data)]
    wait_for(lambda: subprocess.run(asks, capture_output=True, check=False).returncode == 0, "PostgreSQL")
    town.lab.run(
        "db", [str(POSTGRES / "pgbench"), "-q", "-i", "-s", "10", "-h", str(data), "-U", "postgres", "postgres"]
    )


_CHRONY_SERVER = "local stratum 8\nallow all\ncmdport 0\npidfile {pid}\ndriftfile {drift}\n"
_CHRONY = "server {time} minpoll 5 maxpoll 6 iburst\ncmdport 0\nport 0\npidfile {pid}\ndriftfile {drift}\n"
_COLLECTOR = """module(load="imtcp") module(load="imudp")
input(type="imtcp" port="514") input(type="imudp" port="514")
action(type="omfile" file="{file}")
"""
_SHIPPER = """global(workDirectory="{folder}")
module(load="imfile" mode="polling" pollingInterval="2")
input(type="imfile" file="{file}" tag="{name}")
action(type="omfwd" target="{target}" port="514" protocol="tcp" queue.type="LinkedList")
"""
_SCRAPES = """global: {{scrape_interval: 15s, scrape_timeout: 10s}}
scrape_configs:
 - {{job_name: node, static_configs: [{{targets: [{nodes}]}}]}}
 - {{job_name: pods, static_configs: [{{targets: [{pods}]}}]}}
"""
_RSYNCD = "port = 873\nuse chroot = no\n[backup]\n path = {folder}\n read only = no\n uid = 0\n gid = 0\n"


def time_client(town: Town, where: str) -> None:
    """A chrony that watches the clock and does not touch it."""
    drift = town.path(f"{where}.drift")
    config = town.write(
        f"{where}.chrony", _CHRONY.format(time=nodes.TIME, pid=town.path(f"{where}.chronypid"), drift=drift)
    )
    town.serve(f"time-{where}", where, ["chronyd", "-d", "-x", "-u", "root", "-f", str(config)])


def ship_log(town: Town, where: str) -> None:
    """An rsyslog that sends a pod's access log to the collector over one connection."""
    folder = town.path(f"ship-{where}")
    folder.mkdir(exist_ok=True)
    text = _SHIPPER.format(folder=folder, file=town.path(f"{where}.access"), name=where, target=BY_NAME["collector"].ip)
    config = town.write(f"{where}.rsyslog", text)
    town.serve(f"ship-{where}", where, ["rsyslogd", "-n", "-iNONE", "-f", str(config)])


def _monitoring(town: Town) -> None:
    config = town.write("collector.rsyslog", _COLLECTOR.format(file=town.path("collected")))
    town.serve("collector", "collector", ["rsyslogd", "-n", "-iNONE", "-f", str(config)], 514)
    few = [f"--collector.{name}" for name in ("cpu", "loadavg", "meminfo", "netdev", "netstat", "sockstat", "vmstat")]
    for where in (*(f"node{node}" for node in NODES), "db"):
        words = ["prometheus-node-exporter", "--collector.disable-defaults", *few]
        town.serve(f"exporter-{where}", where, words, 9100)
    hosts = ", ".join(f"'{node_ip(node)}:9100'" for node in NODES)
    scraped = {"ingress": 80, "api": 8080, "video": 80, "db": 9100, "web-1": 80, "web-2": 80}
    targets = ", ".join(f"'{BY_NAME[name].ip}:{port}'" for name, port in scraped.items())
    config = town.write("scrapes.yml", _SCRAPES.format(nodes=hosts, pods=targets))
    words = ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={town.path('tsdb')}", "--log.level=error"]
    town.serve("prometheus", "prometheus", words, 9090)


def _outside(town: Town) -> None:
    nginx(town, nodes.OUTSIDE, 80, tls=443)
    town.path("vault").mkdir()
    config = town.write("rsyncd.conf", _RSYNCD.format(folder=town.path("vault")))
    town.serve("rsyncd", nodes.OUTSIDE, ["rsync", "--daemon", "--no-detach", f"--config={config}"], 873)
    text = _CHRONY_SERVER.format(pid=town.path("time.pid"), drift=town.path("time.drift"))
    config = town.write("time.chrony", text)
    town.serve("time", nodes.OUTSIDE, ["chronyd", "-d", "-x", "-u", "root", "-f", str(config)], 123, udp=True)


def ingress(town: Town) -> None:
    """haproxy before the web pods, which it finds and watches through the cluster's DNS."""
    text = _HAPROXY.format(dns=BY_NAME["dns-1"].ip, pem=town.path("site.pem"), zone=ZONE, api=BY_NAME["api"].ip)
    config = town.write("ingress.haproxy", text)
    town.serve("ingress", "ingress", ["haproxy", "-W", "-db", "-f", str(config)], 80)


def renew_certificate(town: Town) -> None:
    """A new key and certificate by the same authority; haproxy takes it over without an interruption."""
    _certificate(town, 2)
    town.children["ingress"].send_signal(signal.SIGUSR2)


def open_town(town: Town) -> None:
    """Start every server."""
    _files(town)
    _certificate(town, 1)
    _resolvers(town)
    _outside(town)
    nginx(town, "api", 8080)
    nginx(town, "video", 80)
    for web in ("web-1", "web-2"):
        nginx(town, web, 80, keep=30)
    _database(town)
    town.serve(
        "cache", "cache", ["redis-server", "--protected-mode", "no", "--save", "", "--dir", str(town.folder)], 6379
    )
    _monitoring(town)
    ingress(town)
    for where in ("web-1", "web-2", "api"):
        ship_log(town, where)
    for where in (*(f"node{node}" for node in NODES), "db", "worker-2"):
        time_client(town, where)
