"""The kinds of other dialects on a test API server: the released definitions, fetched by Go's own client.

Each module is pinned by version and checksum, and only files of it are read; nothing is copied into this project.
Calico's definitions are in no Go module that can be had, so those are a schema of our own from Calico's reference
(`definitions/calico.yaml`).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import Any

import yaml
from lightkube import Client, KubeConfig
from lightkube.generic_resource import GenericGlobalResource, create_api_info

from tests.e2e.apiserver import ApiServer
from tests.e2e.go_binary import ClusterUnavailableError

OWN = Path(__file__).with_name("definitions")
_CILIUM = "pkg/k8s/apis/cilium.io/client/crds/v2"
_POLICY = "config/crd/standard/policy.networking.k8s.io"
# module@version: checksum of its files as go.sum writes it, and the files to read.
MODULES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "github.com/cilium/cilium@v1.18.4": (
        "h1:/HrbeMmk46UDkJs4uJemIqxB7wuZ+QRMNVscNYua5C8=",
        (f"{_CILIUM}/ciliumnetworkpolicies.yaml", f"{_CILIUM}/ciliumclusterwidenetworkpolicies.yaml"),
    ),
    "sigs.k8s.io/network-policy-api@v0.1.7": (
        "h1:obY2FTEidLXVdRYu7gJ4q1RYE57pBnrpMqoE2LZgp4g=",
        (f"{_POLICY}_adminnetworkpolicies.yaml", f"{_POLICY}_baselineadminnetworkpolicies.yaml"),
    ),
    "sigs.k8s.io/network-policy-api@v0.3.0": (
        "h1:RL6fVXiix9IW1pj0ImkW645m+EWmb3dBGCiW19bg5+k=",
        (f"{_POLICY}_clusternetworkpolicies.yaml",),
    ),
    "istio.io/api@v1.28.0": (
        "h1:0fYY9G03CAdFwE/fCkpr0v7kKsy+Hz9OCCjLNBNLbnU=",
        ("kubernetes/customresourcedefinitions.gen.yaml",),
    ),
}
_ESTABLISHED_WITHIN_S = 60.0


class Definition(GenericGlobalResource):
    _api_info = create_api_info("apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions")


def released() -> list[dict[str, Any]]:
    """Every definition, released ones first. Raises ClusterUnavailableError where Go is not installed."""
    go = shutil.which("go")
    if go is None:
        message = "Go is not installed: the released definitions come as Go modules"
        raise ClusterUnavailableError(message)
    files = [file for module in MODULES for file in _files(go, module)]
    documents = [
        item for file in (*files, *sorted(OWN.glob("*.yaml"))) for item in yaml.safe_load_all(file.read_text())
    ]
    return [item for item in documents if item and item.get("kind") == "CustomResourceDefinition"]


def _files(go: str, module: str) -> Iterator[Path]:
    checksum, paths = MODULES[module]
    with tempfile.TemporaryDirectory() as nowhere:
        # Outside of any module, so that what is asked for is all that is fetched.
        command = [go, "mod", "download", "-json", module]
        environment = {**os.environ, "GOFLAGS": "-mod=mod"}
        done = subprocess.run(command, cwd=nowhere, env=environment, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert found["Sum"] == checksum, f"{module}: other files than those that were tested with"
    for path in paths:
        yield Path(found["Dir"]) / path


@contextmanager
def served(running: AbstractContextManager[ApiServer], group: str = "") -> Iterator[ApiServer]:
    """Run a server that serves all of them, or those of one API group, and is thrown away with them.

    They cannot be taken back in a known time: a server that meets a conflict while it deletes a definition may leave
    it until it looks at everything again.
    """
    definitions = [item for item in released() if group in ("", item["spec"]["group"])]
    with running as server, closing(Client(KubeConfig.from_file(server.kubeconfig).get())) as client:
        for item in definitions:
            client.create(Definition.from_dict(item))
        _wait(client, [item["metadata"]["name"] for item in definitions])
        yield server


def _wait(client: Client, names: list[str]) -> None:
    deadline = time.monotonic() + _ESTABLISHED_WITHIN_S
    for name in names:
        while not _established(dict(client.get(Definition, name))):
            assert time.monotonic() < deadline, f"{name} is not served after {_ESTABLISHED_WITHIN_S:.0f} s"
            time.sleep(0.1)


def _established(item: Mapping[str, Any]) -> bool:
    conditions = (item.get("status") or {}).get("conditions") or ()
    return any(one["type"] == "Established" and one["status"] == "True" for one in conditions)
