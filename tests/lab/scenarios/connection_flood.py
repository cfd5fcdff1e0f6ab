"""Floods of real connections from several pods to one server; and a server that is merely busy."""

from __future__ import annotations

from tests.lab import pods
from tests.lab.stage import Case, Stage, finish

DB, WEB = pods.BY_NAME["db"], pods.BY_NAME["web"]
SOURCES = ("client1", "client2", "client3", "client4")
CAST = ("web", "db", *SOURCES)


def _bare(stage: Stage) -> None:
    """Four pods open and close 2,400 connections to the database in 40 s without a word."""
    stage.server("db", "query 5432")
    with stage.attack("connection_flood", "(four pods)", "db", port=5432, connections=2400):
        text = f"connections --to {DB.ip4} --port 5432 --count 600 --rate 15"
        finish(*(stage.client(pod, text) for pod in SOURCES))


def _pages(stage: Stage) -> None:
    """Four pods fetch 2,400 pages in 30 s, each on a connection of its own."""
    stage.server("web", "http 80")
    with stage.attack("http_flood", "(four pods)", "web", port=80, connections=2400):
        text = f"connections --to {WEB.ip4} --count 600 --rate 20 --http"
        finish(*(stage.client(pod, text) for pod in SOURCES))


def _refused(stage: Stage) -> None:
    """The server died and its clients hammer on: 1,600 refused connections in 40 s."""
    with stage.attack("connection_flood", "(four pods)", "db", port=5432, connections=1600):
        text = f"connections --to {DB.ip4} --port 5432 --count 400 --rate 10"
        finish(*(stage.client(pod, text) for pod in SOURCES))


def _exactly(count: int) -> Case:
    def play(stage: Stage) -> None:
        stage.server("db", "query 5432")
        text = f"connections --to {DB.ip4} --port 5432 --count {count // 4} --rate 10"
        rest = f"connections --to {DB.ip4} --port 5432 --count {count - count // 4 * 3} --rate 10"
        if count <= 1000:
            finish(*(stage.client(pod, text) for pod in SOURCES[:3]), stage.client(SOURCES[3], rest))
            stage.silence(note=f"{count} connections in a minute: at the limit, not above it")
            return
        with stage.attack("connection_flood", "(four pods)", "db", port=5432, connections=count,
                          note="one connection above the limit of 1,000 in a minute"):  # fmt: skip
            finish(*(stage.client(pod, text) for pod in SOURCES[:3]), stage.client(SOURCES[3], rest))

    title = f"{count:,} connections to one server within 30 s"
    return Case("connection_flood", f"connections_{count}", title, play, pods=CAST)


def _busy(stage: Stage) -> None:
    """600 connections a minute, all answered: half with several pages, half with one."""
    stage.server("web", "http 80")
    during = "--seconds 75"
    runs = [
        stage.client(pod, f"browse --to {WEB.ip4} --rate 2.5 --requests {requests} --seed {seed} {during}")
        for seed, (pod, requests) in enumerate(zip(SOURCES, (5, 5, 1, 1), strict=True))
    ]
    finish(*runs)
    stage.silence(note="about 600 connections a minute, all answered")


CASES = (
    Case("connection_flood", "bare_connections", "2,400 empty connections in 40 s from four pods", _bare, pods=CAST),
    Case("connection_flood", "http_connections", "2,400 page requests in 30 s from four pods", _pages, pods=CAST),
    Case("connection_flood", "refused_connections", "1,600 refused connections in 40 s from four pods", _refused,
         pods=CAST),
    _exactly(1000),
    _exactly(1001),
    Case("connection_flood", "busy_service", "A busy service: 600 answered connections a minute", _busy, pods=CAST),
)  # fmt: skip
