"""A shop in which nothing happens; encrypted and plain sessions; leases."""

from __future__ import annotations

from tests.lab.pods import BY_NAME
from tests.lab.stage import Case, Stage, finish, ordinary, shop

SECONDS = 300


def day(stage: Stage) -> None:
    """Pages, queries, lookups, pings, visitors from outside, for five minutes."""
    shop(stage)
    finish(*ordinary(stage, SECONDS))
    stage.silence(note="ordinary traffic only")


def _tls_server(stage: Stage, port: int, version: str) -> None:
    """OpenSSL's own server with a key made for the occasion."""
    request = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 -subj '/CN=Lab CA'"
    serve = f"openssl s_server -accept {port} -www -key key.pem -cert cert.pem {version}"
    script = f"cd $(mktemp -d) && {request} -keyout key.pem -out cert.pem 2>/dev/null && exec {serve}"
    child = stage.begin("web", ["sh", "-c", script])
    stage.listening(child, port, udp=False)


def sessions(stage: Stage) -> None:
    """TLS 1.2 and 1.3 by curl and by OpenSSL's client, and plain requests with and without credentials."""
    web = BY_NAME["web"].ip4
    _tls_server(stage, 8442, "-tls1_2")
    _tls_server(stage, 8443, "-tls1_3")
    stage.server("web", "http 80")
    for port in (8442, 8443):
        stage.tool("client1", f"curl -sk -o /dev/null --resolve shop.example:{port}:{web} https://shop.example:{port}/")
        client = f"openssl s_client -connect {web}:{port} -servername pay.example -alpn h2"
        stage.tool("client1", ["sh", "-c", f"echo Q | {client}"])
    stage.tool("client1", f"curl -s -o /dev/null http://{web}/item/77?page=2 http://{web}/item/78")
    stage.tool("client1", f"curl -s -o /dev/null -u anna:secret http://{web}/login")
    stage.tool("client1", f"curl -s -o /dev/null -d user=anna -d password=secret http://{web}/form")
    stage.silence(note="sessions of ordinary clients")


def leases(stage: Stage) -> None:
    """One server gives leases on the pods' network; two clients ask."""
    ranges = "--dhcp-range=10.244.1.100,10.244.1.150,255.255.255.0,1h --dhcp-authoritative --dhcp-leasefile=/dev/null"
    stage.dnsmasq("dns", *ranges.split())
    stage.tool("client1", "udhcpc -i eth0 -f -q -n -s /bin/true -x hostname:client1")
    stage.tool("client2", "udhcpc -i eth0 -f -q -n -s /bin/true -x hostname:client2")
    stage.silence(note="leases of the network's own server")


CASES = (
    Case("benign", "ordinary_day", "Five minutes of ordinary traffic between ten pods and the outside", day,
         pods=None, keep=256, inventory=True),
    Case("benign", "web_sessions", "TLS 1.2, TLS 1.3 and plain HTTP by curl and OpenSSL", sessions,
         pods=("web", "client1")),
    Case("benign", "address_leases", "Two clients get leases from dnsmasq", leases,
         pods=("dns", "client1", "client2")),
)  # fmt: skip
