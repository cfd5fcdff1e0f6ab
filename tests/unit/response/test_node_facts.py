"""What a node says about itself, from what iproute2 prints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
import pytest

from response.guard import Refusal
from response.node.facts import addresses_of, read_facts
from response.node.kernel_tools import ToolError, run_tool

ADDRESSES: list[dict[str, Any]] = [
    {"ifname": "lo", "addr_info": [{"local": "127.0.0.1"}, {"local": "::1"}]},
    {"ifname": "eth0", "addr_info": [{"local": "192.0.2.1", "prefixlen": 24}, {}]},
    {"ifname": "cni0"},
]
PLAIN: list[dict[str, Any]] = [{"ifname": "lo"}, {"ifname": "eth0"}, {"ifname": "cilium"}]


class Tools:
    """iproute2 of a node."""

    def __init__(self, links: list[dict[str, Any]], queues: list[dict[str, Any]], kind: str = "bpf") -> None:
        self._links, self._queues, self._kind = links, queues, kind
        self.asked: list[tuple[str, ...]] = []

    def run(self, argv: Sequence[str], _stdin: bytes) -> bytes:
        self.asked.append(tuple(argv))
        if argv[0] == "tc":
            return orjson.dumps([{"kind": self._kind}] if "filter" in argv else self._queues)
        return orjson.dumps(ADDRESSES if "address" in argv else self._links)


def bypass(tools: Tools, flowtables: tuple[str, ...] = ()) -> str:
    found = read_facts(flowtables, tools.run).bypass
    return found.reason if isinstance(found, Refusal) else ""


def test_addresses_are_all_of_the_node() -> None:
    assert addresses_of(ADDRESSES) == ("127.0.0.1", "192.0.2.1", "::1")


@pytest.mark.parametrize(
    ("links", "queues", "flowtables", "word"),
    [
        (PLAIN, [], (), ""),
        ([*PLAIN, {"ifname": "cilium_host"}], [], (), "cilium"),
        ([*PLAIN, {"ifname": "cilium_vxlan"}], [], (), "cilium"),
        ([*PLAIN, {"ifname": "bpfin.cali"}], [], (), "calico"),
        ([{"ifname": "eth0", "xdp": {"mode": 1}}], [], (), "xdp"),
        (PLAIN, [{"kind": "clsact", "dev": "eth0"}], (), "tc"),
        (PLAIN, [{"kind": "ingress", "dev": "eth0"}], (), "tc"),
        (PLAIN, [{"kind": "fq_codel", "dev": "eth0"}], (), ""),
        (PLAIN, [], ("filter/fast",), "flowtable"),
    ],
)
def test_what_carries_packets_past_the_tables(
    links: list[dict[str, Any]], queues: list[dict[str, Any]], flowtables: tuple[str, ...], word: str
) -> None:
    assert bypass(Tools(links, queues), flowtables) == word


def test_a_filter_of_another_kind_is_none() -> None:
    assert bypass(Tools(PLAIN, [{"kind": "clsact", "dev": "eth0"}], kind="flower")) == ""


def test_no_odd_name_of_an_interface_reaches_a_program() -> None:
    tools = Tools(PLAIN, [{"kind": "clsact", "dev": name} for name in ("-force", "a b", "x" * 16, "")])
    assert bypass(tools) == ""
    assert not any("filter" in argv for argv in tools.asked)


def test_programs_that_fail_say_which_and_why() -> None:
    with pytest.raises(ToolError, match="not installed") as missing:
        run_tool(("no-such-program-of-ours",))
    assert missing.value.reason == "no_tool"
    with pytest.raises(ToolError, match="false: exit 1"):
        run_tool(("false",))
    with pytest.raises(ToolError, match="no JSON"):
        read_facts((), lambda argv, _stdin: b"{")
