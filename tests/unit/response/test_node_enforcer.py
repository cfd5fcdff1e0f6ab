"""The mind of a node's agent on a kernel in memory: what is obeyed, what stays, what is counted."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from response.guard import Refusal
from response.node.bounds import Bounds
from response.node.enforcer import NodeEnforcer
from response.node.entries import CutKey
from response.node.nft import NodeTables
from response.node.settings import NodeAgentSettings
from response.signing import Operator, Signer, Verifier
from schemas.node_command import NodeCommand
from schemas.word import iso_time
from tests.unit.response.node_kernel import Kernel

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
SIGNER = Signer("responder", KEY)
NOW = 1_800_000_000.0
PAIR = {"source": "10.0.0.1", "destination": "192.0.2.1"}


class Node:
    """An enforcer, its kernel, and commands in their order."""

    def __init__(self, kernel: Kernel | None = None, **bounds: Any) -> None:
        self.kernel = kernel or Kernel()
        self.settings = NodeAgentSettings(**bounds)
        self.tables = NodeTables(self.settings.max_entries, bridge=True, run=self.kernel.run)
        verifier = Verifier({"responder": Operator("responder", "r", KEY.public_key())}, fresh_s=604_800)
        limits = Bounds(self.settings).with_addresses(["10.0.0.254", "fe80::1%eth0"])
        self.enforcer = NodeEnforcer(self.tables, verifier, limits, "c1", "n1")
        self.log: list[bytes] = []

    def say(self, now: float, **fields: Any) -> str:
        """Read one command without settling; the reason of a refusal, or nothing."""
        word = NodeCommand.model_validate(
            {"id": f"command-{len(self.log)}-{now}", "cluster": "c1", "node": "n1", "verb": "apply",
             "response_id": "r1", "issued_at": iso_time(now), "expires_at": iso_time(now + 600), **fields}
        )  # fmt: skip
        self.log.append(SIGNER.sign(word).encode())
        return self.read(self.log[-1], now)

    def read(self, value: bytes, now: float) -> str:
        refusal = self.enforcer.read(value, now).refusal
        return refusal.reason if refusal is not None else ""

    def settle(self, now: float) -> Refusal | None:
        self.kernel.now = now
        return self.enforcer.settle(now).problem

    def entries(self) -> dict[str, tuple[str, int]]:
        """What both tables hold alike: name to response and seconds left."""
        looks = self.tables.look()
        assert looks is not None
        one, other = (
            {key.text(): (item.response_id, item.expires_in) for key, item in look.entries.items()}
            for look in looks.values()
        )
        assert one == other
        return one


def test_a_command_is_set_once_and_lifted() -> None:
    node = Node()
    assert node.settle(NOW) is None
    assert node.say(NOW, cuts=[PAIR]) == ""
    assert node.settle(NOW) is None
    assert node.entries() == {"10.0.0.1 ↔ 192.0.2.1": ("r1", 600)}
    before = node.kernel.transactions
    assert node.settle(NOW + 1) is None
    assert node.kernel.transactions == before
    assert node.say(NOW + 2, verb="lift") == ""
    node.settle(NOW + 2)
    assert node.entries() == {}


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"cuts": [PAIR | {"source": "10.0.0.0/24"}]}, "too_wide"),
        ({"cuts": [{"source": "fd00::1", "destination": "2001:db8::/32"}]}, "too_wide"),
        ({"cuts": [PAIR | {"source": "10.0.0.254"}]}, "protected"),
        ({"cuts": [{"source": "fd00::1", "destination": "fe80::1"}]}, "bad_address"),
        ({"cuts": [PAIR | {"destination": "224.0.0.1"}]}, "bad_address"),
        ({"cuts": [PAIR | {"destination": "10.0.0.1"}]}, "bad_entry"),
        ({"cuts": [PAIR | {"destination": "nowhere"}]}, "bad_entry"),
        ({"cuts": [PAIR], "expires_at": "soon"}, "bad_entry"),
        ({"cuts": [PAIR], "expires_at": iso_time(NOW)}, "expired"),
        ({"cuts": [PAIR], "expires_at": iso_time(NOW + 604_801)}, "too_long"),
        ({"cuts": [PAIR | {"source": f"10.0.1.{n}"} for n in range(9)]}, "full"),
        ({"limits": [{"victim": "10.0.0.9", "protocol": "TCP", "port": 80, "per_source": 4, "in_all": 99}]}, "too_low"),
        ({"limits": [{"victim": "10.0.0.9", "protocol": "TCP", "port": 80, "per_source": 9, "in_all": 9}]}, "too_low"),
    ],
)
def test_what_is_out_of_bounds_is_refused_whole(fields: dict[str, Any], reason: str) -> None:
    node = Node(max_entries=8)
    good = [*fields.pop("cuts", []), {"source": "10.0.0.7", "destination": "192.0.2.7"}]
    assert node.say(NOW, cuts=good, **fields) == reason
    node.settle(NOW)
    assert node.entries() == {}


def test_a_block_and_a_host_in_it_are_not_both_cut() -> None:
    node = Node()
    assert node.say(NOW, cuts=[{"source": "fd00::1", "destination": "2001:db8::/64"}]) == ""
    assert node.say(NOW, cuts=[{"source": "fd00::1", "destination": "2001:db8::7"}]) == "overlaps"
    assert node.settle(NOW) is None


def test_commands_of_others_are_passed_over() -> None:
    node = Node()
    assert node.enforcer.read(SIGNER.sign(_command(node="n2")).encode(), NOW).ours is False
    assert node.enforcer.read(SIGNER.sign(_command(cluster="c2")).encode(), NOW).ours is False
    assert node.enforcer.ignored == 2
    assert node.enforcer.read(b"{", NOW).refusal is not None


def _command(**fields: Any) -> NodeCommand:
    return NodeCommand.model_validate(
        {"id": "command-x", "cluster": "c1", "node": "n1", "verb": "apply", "response_id": "r1",
         "issued_at": iso_time(NOW), "expires_at": iso_time(NOW + 60), "cuts": [PAIR], **fields}
    )  # fmt: skip


def test_every_field_of_a_command_is_under_its_signature() -> None:
    signed = SIGNER.sign(_command())
    changes: dict[str, Any] = {
        "id": "command-y", "verb": "lift", "response_id": "r2", "issued_at": iso_time(NOW + 1), "alert_id": "a",
        "expires_at": iso_time(NOW + 61), "cuts": (), "decided_tick": 3, "action": "b", "namespace": "c",
        "limits": ({"victim": "10.0.0.9", "protocol": "TCP", "port": 80, "per_source": 9, "in_all": 99},),
        "captures": ({"address": "10.0.0.9", "packets": 1, "bytes": 4096, "seconds": 1},),
    }  # fmt: skip
    node = Node()
    for name, value in changes.items():
        changed = NodeCommand.model_validate({**signed.model_dump(mode="json"), name: value})
        assert node.read(changed.encode(), NOW) == "bad_signature", name
    unsaid = set(NodeCommand.model_fields) - set(changes) - {"type", "schema_version", "key_id", "signature"}
    assert unsaid == {"cluster", "node"}


def test_a_later_lift_takes_back_an_earlier_command_whichever_comes_first() -> None:
    node = Node()
    assert node.say(NOW + 5, verb="lift") == ""
    assert node.say(NOW, cuts=[PAIR]) == "lifted"
    assert node.say(NOW + 6, cuts=[PAIR]) == ""


def test_of_two_responses_the_later_expiry_holds_and_the_other_remains() -> None:
    node = Node()
    node.say(NOW, response_id="r1", cuts=[PAIR], expires_at=iso_time(NOW + 100))
    node.say(NOW, response_id="r2", cuts=[PAIR], expires_at=iso_time(NOW + 500))
    node.settle(NOW)
    assert node.entries() == {"10.0.0.1 ↔ 192.0.2.1": ("r2", 500)}
    node.say(NOW, response_id="r2", verb="lift")
    node.settle(NOW)
    assert node.entries() == {"10.0.0.1 ↔ 192.0.2.1": ("r1", 100)}


def test_entries_of_responses_that_no_command_speaks_of_are_left_to_the_kernel() -> None:
    first = Node()
    first.say(NOW, cuts=[PAIR])
    first.settle(NOW)
    # The log is lost, and the agent begins anew.
    second = Node(first.kernel)
    second.settle(NOW + 10)
    assert second.entries() == {"10.0.0.1 ↔ 192.0.2.1": ("r1", 590)}
    second.say(NOW + 20, verb="lift")
    second.settle(NOW + 20)
    assert second.entries() == {}


def test_a_foreign_change_of_the_table_is_mended() -> None:
    node = Node()
    node.say(NOW, cuts=[PAIR])
    node.settle(NOW)
    node.kernel.tables["inet", "sluicegate"]["rule"]["forward"].pop()
    assert node.tables.look() is None
    node.settle(NOW + 10)
    assert node.entries() == {"10.0.0.1 ↔ 192.0.2.1": ("r1", 590)}
    del node.kernel.tables["bridge", "sluicegate"]
    node.settle(NOW + 20)
    assert node.entries() == {"10.0.0.1 ↔ 192.0.2.1": ("r1", 580)}


def test_a_kernel_that_does_not_take_it_is_told_and_tried_again() -> None:
    node = Node()
    node.settle(NOW)
    node.say(NOW, cuts=[PAIR])
    node.kernel.fail = "Could not process rule"
    problem = node.settle(NOW)
    assert problem is not None
    assert problem.reason == "tool_failed"
    assert node.enforcer.report(NOW).state == "failing"
    assert node.settle(NOW + 1) is None
    assert node.enforcer.report(NOW + 1).state == "enforcing"


def test_where_packets_bypass_the_tables_nothing_new_is_set_and_lifts_still_work() -> None:
    node = Node()
    node.say(NOW, cuts=[PAIR])
    node.settle(NOW)
    node.enforcer.bypass = Refusal("cilium", "an eBPF dataplane")
    assert node.say(NOW, response_id="r2", cuts=[PAIR]) == "cilium"
    assert node.say(NOW, verb="lift") == ""
    node.settle(NOW)
    assert node.entries() == {}
    assert node.enforcer.report(NOW).state == "refusing"


def test_counts_survive_that_an_entry_is_made_anew() -> None:
    node = Node()
    node.say(NOW, cuts=[PAIR])
    node.settle(NOW)
    node.kernel.hit("inet", "pairs4", 7)
    node.kernel.hit("bridge", "pairs4", 3)
    node.settle(NOW + 5)
    node.say(NOW + 6, cuts=[PAIR], expires_at=iso_time(NOW + 6000))
    node.settle(NOW + 6)
    node.kernel.hit("inet", "pairs4", 2)
    node.settle(NOW + 9)
    (entry,) = node.enforcer.report(NOW + 9).entries
    assert (entry.packets, entry.bytes, entry.last_cut) == (12, 12 * 60, int(NOW) + 9)
    node.settle(NOW + 20)
    assert node.enforcer.report(NOW + 20).entries[0].last_cut == int(NOW) + 9
    assert (node.enforcer.tally.packets, node.enforcer.tally.bytes) == (12, 720)


def test_removing_leaves_other_tables() -> None:
    node = Node()
    node.kernel.run(("nft", "-j", "-f", "-"), b'{"nftables": [{"add": {"table": {"family": "ip", "name": "nat"}}}]}')
    node.settle(NOW)
    node.enforcer.remove()
    assert set(node.kernel.tables) == {("ip", "nat")}
    node.enforcer.remove()


_STEP = st.fixed_dictionaries(
    {
        "verb": st.sampled_from(["apply", "apply", "apply", "lift"]),
        "response_id": st.sampled_from(["r1", "r2", "r3"]),
        "cuts": st.lists(
            st.sampled_from([PAIR, {"source": "10.0.0.2", "destination": "192.0.2.1"},
                             {"source": "fd00::1", "destination": "2001:db8::/64"},
                             PAIR | {"protocol": "TCP", "port": 443}]), max_size=2),
        "limits": st.lists(st.sampled_from([
            {"victim": "10.0.0.9", "protocol": "TCP", "port": 80, "per_source": rate, "in_all": 500}
            for rate in (10, 20)]), max_size=1),
        "life": st.integers(min_value=1, max_value=50),
        "wait": st.integers(min_value=0, max_value=20),
        "settle": st.booleans(),
    }
)  # fmt: skip


@settings(max_examples=60)
@given(st.lists(_STEP, max_size=12), st.integers(min_value=0, max_value=12))
def test_how_often_it_settles_and_restarts_makes_no_difference(steps: list[dict[str, Any]], restart: int) -> None:
    """One agent settles after some commands; another dies in between, loses the kernel, and reads the topic again."""
    steady, broken = Node(), Node()
    now = NOW
    for number, step in enumerate(steps):
        said = {name: value for name, value in step.items() if name in ("verb", "response_id", "cuts", "limits")}
        steady.say(now, **said, expires_at=iso_time(now + step["life"]))
        if step["settle"]:
            assert steady.settle(now) is None
        broken.read(steady.log[-1], now)
        broken.settle(now)
        now += step["wait"]
        if number == restart:
            again = Node()
            for value in steady.log:
                again.enforcer.read(value, now, known=True)
            broken = again
    assert steady.settle(now) is None
    assert broken.settle(now) is None
    # A time that is two seconds off is left as it is, so what has more than four has more than two everywhere.
    for one, other in ((steady.entries(), broken.entries()), (broken.entries(), steady.entries())):
        lasting = {name: item[0] for name, item in one.items() if item[1] > 4}
        assert lasting == {name: item[0] for name, item in other.items() if name in lasting}
    # Nothing outlives its time, whoever looks.
    assert steady.settle(now + 60) is None
    assert steady.entries() == {}


def test_keys_in_reports_are_those_of_commands() -> None:
    assert CutKey("10.0.0.1", "192.0.2.1").text() == "10.0.0.1 ↔ 192.0.2.1"
