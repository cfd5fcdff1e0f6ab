import os
import socket
import subprocess
from pathlib import Path

import pytest

import sluicegate.local_broker
from sluicegate.local_broker import BrokerError, LocalBroker, fetch_jars, local_broker, missing_tools

CACHE = Path(__file__).parents[2] / ".cache" / "kafka"


@pytest.fixture
def no_tools(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))


@pytest.mark.usefixtures("no_tools")
def test_missing_tools_are_named_with_how_to_get_them(tmp_path: Path) -> None:
    java, maven = missing_tools(tmp_path)
    assert "java" in java
    assert "apt install" in java
    assert "mvn" in maven
    assert "apt install maven" in maven


@pytest.mark.usefixtures("no_tools")
def test_starting_without_tools_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(BrokerError) as caught:
        LocalBroker(tmp_path).start()
    assert "\n" not in str(caught.value)


def test_a_failing_maven_is_one_line_and_leaves_nothing_half_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    for name, text in (("java", "exit 0"), ("mvn", 'echo "[ERROR] no such host"; exit 1')):
        (tools / name).write_text(f"#!/bin/sh\n{text}\n")
        (tools / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}{os.pathsep}/usr/bin{os.pathsep}/bin")
    with pytest.raises(BrokerError, match="no such host"):
        fetch_jars(tmp_path / "cache", lambda _line: None)
    assert [p.name for p in (tmp_path / "cache").iterdir()] == ["fetch.lock"]


def listening(address: str) -> bool:
    host, port = address.rsplit(":", 1)
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((host, int(port))) == 0


@pytest.mark.kafka
@pytest.mark.timeout(180)
def test_a_broker_starts_is_killed_comes_back_and_leaves_nothing() -> None:
    if problems := missing_tools(CACHE):
        pytest.skip("; ".join(problems))
    told: list[str] = []
    with local_broker(CACHE, progress=told.append) as broker:
        assert listening(broker.bootstrap)
        assert told[-1].startswith("Kafka is ready")
        broker.kill_node(0)
        assert not listening(broker.bootstrap)
        broker.start_node(0)
        assert listening(broker.bootstrap)
        address, home = broker.bootstrap, broker._home
    assert not listening(address)
    assert home is not None
    assert not home.exists()
    broker.stop()


@pytest.mark.kafka
@pytest.mark.timeout(180)
def test_three_nodes_make_one_cluster() -> None:
    if problems := missing_tools(CACHE):
        pytest.skip("; ".join(problems))
    with local_broker(CACHE, nodes=3) as broker:
        nodes = broker.bootstrap.split(",")
        assert len(nodes) == 3
        assert all(listening(node) for node in nodes)


@pytest.mark.kafka
@pytest.mark.timeout(180)
def test_a_broker_that_cannot_start_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    if problems := missing_tools(CACHE):
        pytest.skip("; ".join(problems))
    holder = socket.socket()
    holder.bind(("127.0.0.1", 0))
    holder.listen()
    taken = holder.getsockname()[1]
    free_ports = sluicegate.local_broker._free_ports
    monkeypatch.setattr(sluicegate.local_broker, "_free_ports", lambda count: [taken, *free_ports(count - 1)])
    try:
        with pytest.raises(BrokerError, match="Kafka node 0 ended"):
            LocalBroker(CACHE).start()
    finally:
        holder.close()
    assert (
        subprocess.run(["pgrep", "-f", f"sluicegate-kafka-.*{taken}"], capture_output=True, check=False).stdout == b""
    )
