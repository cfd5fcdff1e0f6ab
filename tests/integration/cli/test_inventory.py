"""`sluicegate inventory --once`, and what it says when it cannot."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from schemas.identity import IdentityTable
from sluicegate.inputs import read_inventory
from tests.integration.cli.conftest import Ran
from tests.unit.exporter.inventory.docker_engine import DockerEngine, container, network

pytestmark = pytest.mark.timeout(120)
Command = Callable[..., Ran]


async def test_what_is_printed_is_what_replay_takes(tmp_path: Path) -> None:
    engine, socket, printed = DockerEngine(), tmp_path / "docker.sock", tmp_path / "inventory.jsonl"
    engine.networks["n1"] = network("n1", "bridge", "bridge", ("172.17.0.0/16", "172.17.0.1"))
    engine.put(container("a" * 64, "web", {"bridge": ("172.17.0.2", "")}))
    await engine.start(socket)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "sluicegate", "inventory", "--docker", str(socket), "--cluster", "edge", "--once",
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, _ = await process.communicate()
    await engine.stop()
    assert process.returncode == 0
    printed.write_bytes(out)
    objects = read_inventory(printed)
    assert {item.cluster for item in objects} == {"edge"}
    table = IdentityTable(objects)
    assert table.endpoint("172.17.0.2", 1 << 33).pod == "web"
    assert table.role("172.17.0.1", 1 << 33) == "shared"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--docker", "nowhere.sock"), "no Docker engine answers at nowhere.sock"),
        (("--kubeconfig", "nowhere.yaml"), "nowhere.yaml cannot be used: "),
        (("--docker", "x.sock", "--kubeconfig", "y.yaml"), "--docker and --kubeconfig or --context exclude each other"),
    ],
)
def test_what_cannot_be_had_is_one_line_with_its_remedy(
    command: Command, arguments: tuple[str, ...], said: str
) -> None:
    ran = command("inventory", "--once", *arguments)
    assert ran.code == 2
    assert said in ran.said
