"""Password guessing with hydra against real servers; and programs that log in often because they may."""

from __future__ import annotations

import time
from collections.abc import Callable

from tests.lab import logins, pods
from tests.lab.stage import Case, Stage

WEB = pods.BY_NAME["web"]
CAST = ("web", "client1", "attacker")


def _ssh(port: int) -> Callable[[Stage], None]:
    def play(stage: Stage) -> None:
        logins.sshd(stage, "web", port)
        logins.guess(stage, "web", f"ssh://{WEB.ip4}:{port}")
        stage.silence(src=WEB.ip4, note="the server only answers")

    return play


def _ftp(stage: Stage) -> None:
    logins.vsftpd(stage, "web")
    logins.guess(stage, "web", f"ftp://{WEB.ip4}")


def _http(stage: Stage) -> None:
    stage.server("web", "login 80")
    logins.guess(stage, "web", f"http-get://{WEB.ip4}/admin")


def _sessions(stage: Stage) -> None:
    """Six short commands as a scheduler runs them, and twelve fetches of files."""
    logins.sshd(stage, "web")
    for _ in range(6):
        stage.tool("client1", f"{logins.ssh('web')} root@{WEB.ip4} true")
        time.sleep(1)
    for _ in range(12):
        stage.tool("client1", f"{logins.ssh('web')} root@{WEB.ip4} 'head -c 20000 /dev/zero'")
    stage.silence(note="eighteen sessions with a key: six short ones, twelve that carry files")


def _downloads(stage: Stage) -> None:
    logins.vsftpd(stage, "web")
    for number in range(1, 21):
        stage.tool("client1", f"curl -sS -o /dev/null ftp://{WEB.ip4}/{number}")
    stage.silence("brute_force", note="twenty files, each by a login of its own; its data ports may look scanned")


def _pages(stage: Stage) -> None:
    """A client with a good password, one that forgot it, and one that has none, on connections of their own."""
    stage.server("web", "login 80")
    url = f"http://{WEB.ip4}/admin"
    for user, times in (("-u anna:right", 30), ("-u anna:wrong", 3), ("", 30)):
        for _ in range(times):
            stage.tool("client1", f"curl -sS -o /dev/null {user} {url}")
    stage.silence(note="30 pages with a password, 3 wrong ones, 30 refusals of who gave none")


CASES = (
    Case("brute_force", "hydra_ssh", "hydra tries passwords of an OpenSSH server", _ssh(22), pods=CAST),
    Case("brute_force", "hydra_ssh_odd_port", "hydra tries passwords of OpenSSH on port 8022", _ssh(8022), pods=CAST),
    Case("brute_force", "hydra_ftp", "hydra tries passwords of a vsftpd server", _ftp, pods=CAST),
    Case("brute_force", "hydra_http", "hydra tries passwords of a web server", _http, pods=CAST),
    Case("brute_force", "ssh_sessions", "A client with a key runs commands and fetches files", _sessions, pods=CAST),
    Case("brute_force", "ftp_downloads", "A client fetches twenty files, each by a login", _downloads, pods=CAST),
    Case("brute_force", "web_passwords", "Clients of a page that needs a password", _pages, pods=CAST),
)
