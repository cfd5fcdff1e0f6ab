"""Slow requests by slowhttptest; and a web server that hangs while its clients wait."""

from __future__ import annotations

from tests.lab import pods
from tests.lab.stage import Case, Stage

WEB, API = pods.BY_NAME["web"], pods.BY_NAME["api"]


def _slow(stage: Stage, options: str) -> None:
    stage.server("web", "http 80")
    with stage.attack("slow_http_dos", "attacker", "web", port=80, connections=250):
        stage.attempt("attacker", f"slowhttptest -c 250 -r 50 -i 4 -l 30 -x 16 -p 3 {options} -u http://{WEB.ip4}/")
    stage.silence("http_flood", note="250 connections are no flood")


def _heads(stage: Stage) -> None:
    """Request heads that never end: a line every four seconds."""
    _slow(stage, "-H -t GET")


def _bodies(stage: Stage) -> None:
    """Bodies that are announced and come byte by byte."""
    _slow(stage, "-B -s 8192 -t POST")


def _hangs(stage: Stage) -> None:
    """150 whole requests to a server that accepts and says nothing; the clients give up after 15 s."""
    stage.server("api", "query 8080")
    ask = f"for i in $(seq 150); do curl -s -m 15 http://{API.ip4}:8080/item/$i & sleep 0.03; done; wait"
    child = stage.begin("client1", ["sh", "-c", ask])
    child.wait(60)
    stage.silence(note="whole requests, each waiting for an answer")


CASES = (
    Case("slow_http", "slow_heads", "250 connections whose request heads never end", _heads),
    Case("slow_http", "slow_bodies", "250 connections whose bodies come byte by byte", _bodies),
    Case("slow_http", "server_hangs", "A web server that hangs while 150 clients wait", _hangs,
         pods=("api", "client1")),
)  # fmt: skip
