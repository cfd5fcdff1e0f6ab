"""The tables as JSON for nft: what is rendered, and that what the kernel lists is read back as the same."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from response.node.entries import CutKey, LimitKey, Rates, canonical, chain_name, key_of, overlap
from response.node.ruleset import (
    PRIORITY,
    TABLE,
    Family,
    add_cut,
    add_limit,
    batch,
    key_of_element,
    removal,
    remove_cut,
    remove_limit,
    skeleton,
)
from schemas.node_command import Cut

FAMILIES: tuple[Family, ...] = ("inet", "bridge")
V4 = st.ip_addresses(v=4).map(str)
V6 = st.ip_addresses(v=6, network="2000::/3").map(str)
PORT = st.one_of(
    st.just((None, None)), st.tuples(st.sampled_from(["TCP", "UDP", "SCTP"]), st.integers(min_value=1, max_value=65535))
)
PAIRS = st.one_of(st.tuples(V4, V4), st.tuples(V6, V6)).filter(lambda pair: pair[0] != pair[1])


@pytest.mark.parametrize("family", FAMILIES)
def test_the_table_hooks_forward_before_others_and_accepts_what_it_does_not_know(family: Family) -> None:
    chains = [item["add"]["chain"] for item in skeleton(family, 10) if "chain" in item["add"]]
    assert chains == [
        {"family": family, "table": TABLE, "name": "forward", "type": "filter", "hook": "forward",
         "prio": PRIORITY[family], "policy": "accept"}
    ]  # fmt: skip
    # iptables has mangle at -150 and filter at 0; a bridge has its filter at -200.
    assert PRIORITY["inet"] < -150
    assert PRIORITY["bridge"] < -200


@pytest.mark.parametrize("family", FAMILIES)
def test_nothing_in_the_table_accepts(family: Family) -> None:
    """Every rule ends in a drop, or looks up the chain of a limit, whose rules do: it can only take away."""
    key, rates = LimitKey("10.0.0.5", "TCP", 80), Rates(20, 500)
    made = skeleton(family, 10) + add_limit(family, key, rates, 60, "r1", 100)
    rules = [item["add"]["rule"] for item in made if "rule" in item.get("add", {})]
    assert len(rules) == 12
    for rule in rules:
        last = rule["expr"][-1]
        assert last == {"drop": None} or (rule["chain"] == "forward" and set(last) == {"vmap"})
    elements = [item["add"]["element"]["elem"] for item in made if "element" in item.get("add", {})]
    assert [verdict for ((_, verdict),) in elements] == [{"jump": {"target": chain_name(key, rates)}}]


@pytest.mark.parametrize("family", FAMILIES)
def test_everything_names_our_table(family: Family) -> None:
    cut, limit = CutKey("10.0.0.1", "10.0.0.2"), LimitKey("fd00::5", "UDP", 53)
    name = chain_name(limit, Rates(5, 50))
    made = [
        *add_cut(family, cut, 60, "r1"),
        *remove_cut(family, cut),
        *add_limit(family, limit, Rates(5, 50), 60, "r1", 100),
        *remove_limit(family, limit, name),
    ]
    for command in made:
        ((_, what),) = command.items()
        ((_, fields),) = what.items()
        assert (fields["family"], fields["table"]) == (family, TABLE)
    assert [next(iter(item)) for item in removal(family)] == ["add", "delete"]


def test_cuts_of_blocks_and_their_removal_whether_or_not_they_are_there() -> None:
    key = CutKey("10.0.0.1", "10.0.0.0/30")
    (made,) = add_cut("inet", key, 60, "r1")
    value = {"concat": ["10.0.0.1", {"prefix": {"addr": "10.0.0.0", "len": 30}}]}
    assert made["add"]["element"]["elem"] == [{"elem": {"val": value, "timeout": 60, "comment": "r1"}}]
    # One whose time has just run out is no error: it is there again, and goes in the same transaction.
    assert [next(iter(item)) for item in remove_cut("inet", key)] == ["add", "delete"]
    assert list(batch([made])) == ["nftables"]


@given(PAIRS, PORT)
def test_what_is_written_is_read_back(pair: tuple[str, str], service: tuple[str | None, int | None]) -> None:
    key = key_of(Cut.model_validate(
        {"source": pair[0], "destination": pair[1], "protocol": service[0], "port": service[1]}
    ))  # fmt: skip
    assert isinstance(key, CutKey)
    element = add_cut("inet", key, 60, "r1")[-1]["add"]["element"]
    listed = orjson.loads(orjson.dumps(element["elem"][0]["elem"]["val"]["concat"]))
    assert key_of_element(element["name"], listed) == key


@given(PAIRS)
def test_a_pair_without_port_is_the_same_from_either_side(pair: tuple[str, str]) -> None:
    one, other = pair
    assert key_of(Cut(source=one, destination=other)) == key_of(Cut(source=other, destination=one))


@given(st.text(max_size=40))
def test_no_text_becomes_an_address_that_is_none(text: str) -> None:
    """Whatever is signed, only canonical addresses and blocks reach the kernel's program."""
    try:
        found = canonical(text)
    except ValueError:
        return
    assert canonical(found) == found
    assert set(found) <= set("0123456789abcdef.:/")


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"source": "10.0.0.1", "destination": "fd00::1"}, "different versions"),
        ({"source": "10.0.0.1", "destination": "10.0.0.1"}, "the same"),
        ({"source": "10.0.0.1", "destination": "10.0.0.2", "port": 80}, "belong together"),
        ({"source": "10.0.0.1", "destination": "::ffff:10.0.0.2"}, "written as IPv6"),
        ({"source": "fe80::1%eth0", "destination": "fd00::2"}, "names an interface"),
        ({"source": "10.0.0.1", "destination": "10.0.0.2/24"}, "host bits"),
        ({"source": "10.0.0.1; flush ruleset", "destination": "10.0.0.2"}, "does not appear"),
    ],
)
def test_pairs_that_are_none(fields: dict[str, object], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        key_of(Cut.model_validate(fields))


def test_only_what_one_set_cannot_hold_overlaps() -> None:
    host, block = CutKey("fd00::1", "2001:db8::1"), CutKey("fd00::1", "2001:db8::/64")
    assert overlap(host, block)
    assert not overlap(host, host)
    assert not overlap(host, CutKey("fd00::1", "2001:db8::/64", "TCP", 80))
    assert not overlap(host, CutKey("fd00::2", "2001:db8::/64"))
