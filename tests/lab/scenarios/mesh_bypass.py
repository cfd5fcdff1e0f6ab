"""A port that the mesh should protect, spoken to over TLS and in clear."""

from __future__ import annotations

import tempfile
from pathlib import Path

from tests.lab.pods import BY_NAME
from tests.lab.stage import Case, Stage

CAST = ("web", "api", "client1", "attacker")
API = BY_NAME["api"].ip4


def _plain(stage: Stage) -> None:
    stage.server("api", "http 8443")
    with stage.attack("mesh_bypass", "attacker", "api"):
        for _ in range(3):
            stage.tool("attacker", f"curl -sS -o /dev/null http://{API}:8443/page/300")


def _protected(stage: Stage) -> None:
    stage.server("api", "http 8080")
    with tempfile.TemporaryDirectory(prefix="sluicelab-", dir="/dev/shm") as folder:
        key, cert = Path(folder) / "key.pem", Path(folder) / "cert.pem"
        stage.tool("node", f"openssl req -x509 -newkey rsa:2048 -nodes -days 7 -subj /CN=api -keyout {key} -out {cert}")
        child = stage.begin("api", f"openssl s_server -quiet -www -accept 8443 -cert {cert} -key {key}")
        stage.listening(child, 8443, udp=False)
        for who in ("client1", "attacker"):
            stage.tool(who, f"curl -sS -k -o /dev/null https://{API}:8443/")
            stage.tool(who, f"curl -sS -o /dev/null http://{API}:8080/page/300")
    stage.silence("mesh_bypass", note="TLS on the protected port, plain traffic on another")


CASES = (
    Case("mesh_bypass", "plain_to_protected", "Plain HTTP to a port that the mesh protects", _plain, pods=CAST,
         inventory=True),
    Case("mesh_bypass", "protected", "TLS to that port, plain HTTP to another", _protected, pods=CAST, inventory=True),
)  # fmt: skip
