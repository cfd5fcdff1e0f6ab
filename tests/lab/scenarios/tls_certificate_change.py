"""A server's certificate by another authority, its renewal, and back ends with different authorities."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.lab.pods import BY_NAME
from tests.lab.stage import Case, Stage

CAST = ("web", "api", "client1", "attacker")
WEB, API = BY_NAME["web"].ip4, BY_NAME["api"].ip4
NAME = "pay.shop.example"
KEEP = 1514  # certificates are whole


@contextmanager
def _folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="sluicelab-", dir="/dev/shm"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def _authority(stage: Stage, folder: Path, who: str) -> None:
    stage.tool("node", f"openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN={who} "
                       f"-keyout {folder}/{who}.key -out {folder}/{who}.pem")  # fmt: skip


def _certificate(stage: Stage, folder: Path, who: str, file: str) -> None:
    stage.tool("node", f"openssl req -newkey rsa:2048 -nodes -subj /CN={NAME} -keyout {folder}/{file}.key "
                       f"-out {folder}/{file}.csr")  # fmt: skip
    stage.tool("node", f"openssl x509 -req -days 7 -in {folder}/{file}.csr -CA {folder}/{who}.pem "
                       f"-CAkey {folder}/{who}.key -CAcreateserial -out {folder}/{file}.pem")  # fmt: skip


def _serve(stage: Stage, pod: str, folder: Path, file: str) -> subprocess.Popen[bytes]:
    command = f"openssl s_server -quiet -www -tls1_2 -accept 443 -cert {folder}/{file}.pem -key {folder}/{file}.key"
    child = stage.begin(pod, command)
    stage.listening(child, 443, udp=False)
    return child


def _visit(stage: Stage, *servers: str, times: int = 5) -> None:
    again = "--max-time 9 --retry 5 --retry-delay 1 --retry-connrefused"
    for _ in range(times):
        for server in servers:
            stage.tool("client1", f"curl -sS -k -o /dev/null {again} --resolve {NAME}:443:{server} https://{NAME}/")
        stage.tool("client1", "sleep 5")


def _swapped(stage: Stage) -> None:
    with _folder() as folder:
        _authority(stage, folder, "shop-ca-1")
        _certificate(stage, folder, "shop-ca-1", "good")
        first = _serve(stage, "web", folder, "good")
        _visit(stage, WEB, times=14)
        first.terminate()
        first.wait(10)
        stage.tool("node", f"openssl req -x509 -newkey rsa:2048 -nodes -days 365 -subj /CN=mitmproxy "
                           f"-keyout {folder}/bad.key -out {folder}/bad.pem")  # fmt: skip
        _serve(stage, "web", folder, "bad")
        with stage.attack("tls_certificate_change", "(in the middle)", "client1"):
            _visit(stage, WEB, times=3)


def _renewed(stage: Stage) -> None:
    with _folder() as folder:
        _authority(stage, folder, "shop-ca-1")
        _authority(stage, folder, "shop-ca-2")
        for who, file in (("shop-ca-1", "one"), ("shop-ca-1", "two"), ("shop-ca-2", "three")):
            _certificate(stage, folder, who, file)
            child = _serve(stage, "web", folder, file)
            _visit(stage, WEB, times=3)
            child.terminate()
            child.wait(10)
    stage.silence("tls_certificate_change", note="renewed by the same authority, then by its next generation")


def _back_ends(stage: Stage) -> None:
    with _folder() as folder:
        for who, file in (("shop-ca", "one"), ("legacy-ca", "two")):
            _authority(stage, folder, who)
            _certificate(stage, folder, who, file)
        _serve(stage, "web", folder, "one")
        _serve(stage, "api", folder, "two")
        _visit(stage, WEB, API, times=5)
    stage.silence("tls_certificate_change", note="two back ends of one name use two authorities from the start")


CASES = (
    Case("tls_certificate_change", "swapped", "A server shows a certificate of its own making", _swapped, pods=CAST,
         keep=KEEP),
    Case("tls_certificate_change", "renewed", "A certificate is renewed twice", _renewed, pods=CAST, keep=KEEP),
    Case("tls_certificate_change", "back_ends", "Two back ends with different authorities", _back_ends, pods=CAST,
         keep=KEEP),
)  # fmt: skip
