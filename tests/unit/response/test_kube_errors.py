from __future__ import annotations

import socket
from pathlib import Path

import pytest

from response.gateway import ClusterError
from response.kube import KubeGateway

KUBECONFIG = """
apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: "http://127.0.0.1:PORT"}}]
users: [{name: u, user: {token: t}}]
contexts: [{name: x, context: {cluster: c, user: u}}]
current-context: x
"""


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "a: [",
        "clusters: 1",
        KUBECONFIG.replace("current-context: x", ""),
        KUBECONFIG.replace("current-context: x", "current-context: y"),
        KUBECONFIG.replace("cluster: c, user", "cluster: d, user"),
        KUBECONFIG.replace("user: u}", "user: v}"),
        KUBECONFIG.replace(", user: u}", "}"),
        "\x1b[2J: [",
    ],
)
def test_an_unusable_kubeconfig_is_one_clear_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text(text)
    with pytest.raises(ClusterError) as caught:
        KubeGateway(path)
    message = str(caught.value)
    assert caught.value.reason == "bad_kubeconfig"
    assert message.startswith(f"{path} cannot be used: ")
    assert "\n" not in message
    assert "\x1b" not in message
    assert len(message) > len(f"{path} cannot be used: ")


def test_a_missing_or_unreadable_kubeconfig(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(ClusterError, match="cannot be used: "):
            KubeGateway(path)


def test_a_server_that_does_not_answer_is_one_clear_line(tmp_path: Path) -> None:
    with socket.socket() as reserved:
        # Bound but not listening: connections are refused for as long as it is held.
        reserved.bind(("127.0.0.1", 0))
        path = tmp_path / "kubeconfig"
        path.write_text(KUBECONFIG.replace("PORT", str(reserved.getsockname()[1])))
        gateway = KubeGateway(path)
        with pytest.raises(ClusterError) as caught:
            gateway.view()
        gateway.close()
    assert caught.value.reason == "unreachable"
    assert str(caught.value).startswith("cannot list pods: ")
    assert str(caught.value).endswith("(is the API server reachable, and its certificate trusted?)")
