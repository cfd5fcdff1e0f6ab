"""A node with pods, and what an agent needs to enforce on it."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator, Sequence

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from response.node.bounds import Bounds
from response.node.enforcer import NodeEnforcer
from response.node.kernel_tools import ToolError
from response.node.nft import NodeTables
from response.node.settings import NodeAgentSettings
from response.signing import Operator, Signer, Verifier
from schemas.node_command import NodeCommand
from schemas.word import iso_time
from tests.integration.node.conversations import serve
from tests.lab.lab import Lab

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
SIGNER = Signer("responder", KEY)


def verifier() -> Verifier:
    return Verifier({"responder": Operator("responder", "the responder", KEY.public_key())}, fresh_s=604_800)


def on_node(lab: Lab) -> Callable[[Sequence[str], bytes], bytes]:
    """A runner of programs in the node's network namespace."""

    def run(argv: Sequence[str], stdin: bytes) -> bytes:
        done = subprocess.run(
            ["ip", "netns", "exec", lab.space("node"), *argv], input=stdin, capture_output=True, check=False
        )
        if done.returncode != 0:
            raise ToolError((done.stderr or done.stdout).decode(), "tool_failed")
        return done.stdout

    return run


def ruleset(lab: Lab) -> str:
    return lab.run("node", ["nft", "list", "ruleset"])


class Agent:
    """An enforcer on the node, and commands for it."""

    def __init__(self, lab: Lab, *, bridge: bool = True, **settings: int) -> None:
        chosen = NodeAgentSettings(bridge=bridge, **settings)
        self.tables = NodeTables(chosen.max_entries, bridge=bridge, run=on_node(lab))
        self.enforcer = NodeEnforcer(self.tables, verifier(), Bounds(chosen).with_addresses([]), "local", "node1")
        self._number = 0

    def tell(self, now: float, **fields: object) -> str:
        """Sign a command, give it to the enforcer and settle; returns the reason of a refusal, or nothing."""
        self._number += 1
        word = NodeCommand.model_validate(
            {"id": f"command-{self._number}", "cluster": "local", "node": "node1", "verb": "apply",
             "response_id": "r1", "issued_at": iso_time(now), "expires_at": iso_time(now + 600), **fields}
        )  # fmt: skip
        judged = self.enforcer.read(SIGNER.sign(word).encode(), now)
        problem = self.enforcer.settle(now).problem
        assert problem is None, problem.message
        return judged.refusal.reason if judged.refusal else ""


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab(["web", "client1", "attacker"]) as made:
        for where in ("web", "outside"):
            serve(made, where)
        yield made


@pytest.fixture
def agent(lab: Lab) -> Iterator[Agent]:
    made = Agent(lab)
    yield made
    made.enforcer.remove()
