"""Logins in clear, and the same over TLS."""

from __future__ import annotations

import tempfile
from pathlib import Path

from tests.lab.pods import BY_NAME
from tests.lab.stage import Case, Stage

CAST = ("web", "api", "client1", "client2")
WEB, API = BY_NAME["web"].ip4, BY_NAME["api"].ip4
KIND = "plaintext_sensitive"


def _script(host: str, tool: str, *lines: str) -> list[str]:
    typed = "; ".join(f"echo {line}; sleep 0.5" for line in lines)
    return ["sh", "-c", f"(sleep 0.5; {typed}) | {tool} {host}"]


def _clear(stage: Stage) -> None:
    stage.server("api", "greeting 21 23 587")
    stage.server("web", "http 80")
    with stage.attack(KIND, "client1", "api", note="Telnet"):
        stage.begin("client1", _script(API, "telnet", "admin", "hunter2", "quit")).wait(30)
    with stage.attack(KIND, "client1", "api", note="FTP"):
        stage.begin("client1", _script("", f"ftp -n {API}", "'user admin hunter2'", "quit")).wait(30)
    with stage.attack(KIND, "client2", "api", note="SMTP"):
        login = "--auth PLAIN --auth-user admin --auth-password hunter2 --helo client2.example --quit-after AUTH"
        stage.tool("client2", f"swaks --server {API} --port 587 {login} --from a@example.com --to b@example.com")
    with stage.attack(KIND, "client2", "web", note="HTTP"):
        stage.tool("client2", f"curl -sS -o /dev/null -u admin:hunter2 http://{WEB}/page/100")


def _encrypted(stage: Stage) -> None:
    stage.server("web", "http 80")
    with tempfile.TemporaryDirectory(prefix="sluicelab-", dir="/dev/shm") as folder:
        key, cert = Path(folder) / "key.pem", Path(folder) / "cert.pem"
        stage.tool("node", f"openssl req -x509 -newkey rsa:2048 -nodes -days 7 -subj /CN=api -keyout {key} -out {cert}")
        for port in (443, 6379):
            child = stage.begin("api", f"openssl s_server -quiet -www -accept {port} -cert {cert} -key {key}")
            stage.listening(child, port, udp=False)
        for port in (443, 6379):
            stage.tool("client1", f"curl -sS -k -o /dev/null -u admin:hunter2 https://{API}:{port}/")
        stage.tool("client2", f"curl -sS -o /dev/null http://{WEB}/page/100")
        stage.attempt("client2", f"telnet {API} 23")  # nobody answers
        stage.attempt("client2", f"ftp -n {API}")
    stage.silence(KIND, note="credentials over TLS, pages without any, servers that are not there")


CASES = (
    Case(KIND, "logins_in_clear", "Logins by Telnet, FTP, SMTP and HTTP", _clear, pods=CAST),
    Case(KIND, "logins_encrypted", "Logins over TLS, and pages without any", _encrypted, pods=CAST),
)
