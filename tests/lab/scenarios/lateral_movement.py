"""An intruder who goes from pod to pod by SSH, one after the other or all at once; and an operator's host."""

from __future__ import annotations

import time

from tests.lab import logins, pods
from tests.lab.stage import Case, Stage

WEB, API, DB, CLIENT = (pods.BY_NAME[name] for name in ("web", "api", "db", "client1"))
CAST = ("web", "api", "db", "client1", "client2", "attacker")


def _chain(stage: Stage) -> None:
    """From the attacker to web, from there to api."""
    for pod in ("web", "api"):
        logins.sshd(stage, pod)
    onwards = f"{logins.ssh('api')} root@{API.ip4} id"
    with stage.attack("lateral_movement", "web", "api", note="second hop: a pod that was just reached goes on"):
        stage.tool("attacker", f'{logins.ssh("web")} root@{WEB.ip4} "{onwards}"')


def _fan_out(stage: Stage) -> None:
    """From the attacker to five pods."""
    hosts = ("web", "api", "db", "client1", "client2")
    for pod in hosts:
        logins.sshd(stage, pod)
    with stage.attack("lateral_movement", "attacker", "(five pods)"):
        for pod in hosts:
            stage.tool("attacker", f"{logins.ssh(pod)} root@{pods.BY_NAME[pod].ip4} id")


def _operator(stage: Stage) -> None:
    """One host looks after three others, again and again, and one of those answers a monitor."""
    hosts = ("web", "api", "db")
    stage.server("client1", "http 80")
    for pod in hosts:
        logins.sshd(stage, pod)
    for _ in range(3):
        for pod in hosts:
            stage.tool("client2", f"{logins.ssh(pod)} root@{pods.BY_NAME[pod].ip4} uptime")
            stage.tool(pod, f"curl -sS -o /dev/null http://{CLIENT.ip4}/page/300")
        time.sleep(1)
    stage.silence(note="an operator's host runs a command on three pods, three times; they use a web server meanwhile")


CASES = (
    Case("lateral_movement", "ssh_chain", "SSH from pod to pod to pod", _chain, pods=CAST),
    Case("lateral_movement", "ssh_fan_out", "SSH from one pod to five", _fan_out, pods=CAST),
    Case("lateral_movement", "ssh_operator", "An operator's host looks after three pods", _operator, pods=CAST),
)
