"""What a node itself depends on, from its environment and its resolvers."""

from __future__ import annotations

from pathlib import Path

from sluicegate.node_agent_run import never_addresses


def test_the_api_server_and_the_resolvers_are_never_touched(tmp_path: Path) -> None:
    resolvers = tmp_path / "resolv.conf"
    resolvers.write_text(
        "# a comment\nsearch svc\nnameserver 10.96.0.10\nnameserver\nnameserver fd00::a\nnameserver x\n"
    )
    found = never_addresses({"KUBERNETES_SERVICE_HOST": "10.96.0.1"}, resolvers)
    assert found == ("10.96.0.1", "10.96.0.10", "fd00::a")


def test_without_either_there_are_none(tmp_path: Path) -> None:
    assert never_addresses({"KUBERNETES_SERVICE_HOST": "host.example"}, tmp_path / "none") == ()
