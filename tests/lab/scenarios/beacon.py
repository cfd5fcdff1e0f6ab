"""An agent that asks for orders at jittered times, and the regular or busy clients that every cluster has."""

from __future__ import annotations

from tests.lab import pods
from tests.lab.stage import Case, Stage, finish

CAST = ("web", "api", "db", "client1", "client2", "client3", "client4", "monitor")
CONTROL, UPDATES, SITE = "203.0.113.44", "203.0.113.45", "203.0.113.46"
CURL = "curl -sS -o /dev/null --max-time 5"


def _jittered(stage: Stage) -> None:
    stage.server(pods.OUTSIDE, "http 80")
    ask = f"{CURL} http://{CONTROL}/tasks/200; sleep $((3 + RANDOM % 4)).$((RANDOM % 10))"
    loop = f"RANDOM=7; for i in $(seq 28); do {ask}; done"
    with stage.attack("c2_beacon", "client1", CONTROL, port=80):
        finish(stage.begin("client1", ["bash", "-c", loop]))


def _regular(stage: Stage) -> None:
    stage.server(pods.OUTSIDE, "http 80")
    for pod, ports in (("web", "80 9100"), ("api", "8080 9100"), ("db", "9100 9187")):
        stage.server(pod, f"http {ports}")
    web, api, db = (pods.BY_NAME[name].ip4 for name in ("web", "api", "db"))
    targets = (f"{web}:80", f"{web}:9100", f"{api}:8080", f"{api}:9100", f"{db}:9100", f"{db}:9187")
    pages = " ".join(f"http://{target}/metrics/900" for target in targets)
    scrape = f"for i in $(seq 30); do for page in {pages}; do {CURL} $page; done; sleep 2.5; done"
    poll = f"for i in $(seq 30); do {CURL} http://{UPDATES}/feed/300; sleep 2.7; done"
    finish(
        stage.begin("monitor", ["bash", "-c", scrape]),
        *(stage.begin(f"client{n}", ["bash", "-c", poll]) for n in (1, 2, 3, 4)),
        stage.client("client1", f"browse --to {SITE} --rate 0.6 --requests 1 --seed 5 --seconds 85"),
        stage.client("client2", f"browse --to {SITE} --rate 0.3 --requests 3 --seed 6 --seconds 85"),
    )
    stage.silence("c2_beacon", src=pods.BY_NAME["monitor"].ip4, note="scrapes six services every 3 s")
    stage.silence("c2_beacon", note="four clients poll one feed every 3 s, two visit a site at random times")


CASES = (
    Case("beacon", "jittered_slowly", "An agent asks for orders every 3 to 7 s", _jittered, CAST),
    Case("beacon", "scrapes_polls_visits", "Scraping, a popular feed, visits at random", _regular, CAST),
)
