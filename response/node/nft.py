"""The kernel's tables, through `nft` with JSON on standard input; with its ruleset the only code that knows them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from response.node.entries import Key, Present
from response.node.kernel_tools import Run, ToolError, run_tool
from response.node.ruleset import (
    FORWARD,
    TABLE,
    Command,
    Family,
    batch,
    key_of_element,
    removal,
    skeleton,
)


@dataclass(frozen=True, slots=True)
class Look:
    """What one table holds: entries by key, and chains of limits that no port leads to any more."""

    entries: Mapping[Key, Present] = field(default_factory=dict)
    idle_chains: tuple[str, ...] = ()


class NodeTables:
    """Our tables in the network namespace of this process. Every method may raise ToolError."""

    def __init__(self, max_entries: int, *, bridge: bool, run: Run = run_tool) -> None:
        """`bridge` asks for the second table; `run` calls a program (the tests' own in another namespace)."""
        self.families: tuple[Family, ...] = ("inet", "bridge") if bridge else ("inet",)
        self._max_entries = max_entries
        self._run = run

    def look(self) -> dict[Family, Look] | None:
        """What is there, by family; none where a table is missing or is not as it was made."""
        found: dict[Family, Look] = {}
        there = self._tables()
        for family in self.families:
            if (family, TABLE) not in there:
                return None
            listing = self._list("table", family, TABLE)
            if _shape(listing) != _shape(_listed(skeleton(family, self._max_entries))):
                return None
            found[family] = _entries(listing)
        return found

    def install(self, commands: Sequence[Command] = ()) -> None:
        """Make the tables anew, with what else is to be in them, in one transaction: no packet meets half of it."""
        made = [item for family in self.families for item in (*removal(family), *skeleton(family, self._max_entries))]
        self.change([*self._remove_others(), *made, *commands])

    def change(self, commands: Iterable[Command]) -> None:
        """Carry out commands as one transaction."""
        listed = list(commands)
        if listed:
            self._run(("nft", "-j", "-f", "-"), orjson.dumps(batch(listed)))

    def remove(self) -> None:
        """Leave nothing of ours behind."""
        there = self._tables()
        self.change(item for family in ("inet", "bridge") if (family, TABLE) in there for item in removal(family))

    def flowtables(self) -> tuple[str, ...]:
        """Flowtables of others, as `table/name`: established flows in one are carried past every forward chain."""
        items = self._parsed(("nft", "-j", "list", "flowtables"))
        flows = (item["flowtable"] for item in items if "flowtable" in item)
        return tuple(sorted(f"{flow.get('table', '')}/{flow.get('name', '')}" for flow in flows))

    def _remove_others(self) -> list[Command]:
        there = self._tables()
        return [
            item
            for family in ("inet", "bridge")
            if family not in self.families and (family, TABLE) in there
            for item in removal(family)
        ]

    def _tables(self) -> set[tuple[str, str]]:
        items = self._parsed(("nft", "-j", "list", "tables"))
        return {(item["table"]["family"], item["table"]["name"]) for item in items if "table" in item}

    def _list(self, *what: str) -> list[dict[str, Any]]:
        return self._parsed(("nft", "-j", "list", *what))

    def _parsed(self, argv: Sequence[str]) -> list[dict[str, Any]]:
        try:
            answer = orjson.loads(self._run(argv, b""))
            return list(answer["nftables"])
        except (orjson.JSONDecodeError, KeyError, TypeError):
            message = f"{' '.join(argv)} printed no JSON listing; nftables 1.0 or newer is needed"
            raise ToolError(message, "bad_listing") from None


def _listed(commands: Iterable[Command]) -> list[dict[str, Any]]:
    return [command["add"] for command in commands]


def _shape(listing: Iterable[Mapping[str, Any]]) -> tuple[Any, ...]:
    """What must be equal for a table to be as it was made; the text of rules differs between versions of nft."""
    sets, hook, rules = set(), None, 0
    for item in listing:
        for kind in ("set", "map"):
            if kind in item and not item[kind]["name"].startswith("sources_"):
                sets.add((kind, item[kind]["name"], item[kind].get("size")))
        if "chain" in item and item["chain"]["name"] == FORWARD:
            hook = tuple(item["chain"].get(word) for word in ("type", "hook", "prio", "policy"))
        rules += "rule" in item and item["rule"]["chain"] == FORWARD
    return tuple(sorted(sets)), hook, rules


def _entries(listing: Iterable[Mapping[str, Any]]) -> Look:
    items = list(listing)
    dropped = _dropped(items)
    found: dict[Key, Present] = {}
    for item in items:
        held = item.get("set") or item.get("map") or {}
        name = str(held.get("name", ""))
        if name.startswith("sources_"):
            continue
        for element in held.get("elem") or ():
            key, present = _entry(name, element, dropped)
            found[key] = present
    used = {present.name for present in found.values()}
    return Look(found, tuple(sorted(name for name in dropped if name not in used)))


def _entry(name: str, element: Any, dropped: Mapping[str, tuple[int, int]]) -> tuple[Key, Present]:
    chain = ""
    if isinstance(element, list):
        element, verdict = element
        chain = verdict.get("jump", {}).get("target", "")
    inner = element["elem"]
    try:
        key = key_of_element(name, inner["val"]["concat"])
    except (KeyError, TypeError, ValueError) as error:
        message = f"table {TABLE}: {error}; remove the table or rename it"
        raise ToolError(message, "foreign") from None
    counter = inner.get("counter") or {}
    packets, size = dropped.get(chain, (int(counter.get("packets", 0)), int(counter.get("bytes", 0))))
    return key, Present(str(inner.get("comment", "")), int(inner.get("expires", 0)), packets, size, chain)


def _dropped(items: Iterable[Mapping[str, Any]]) -> dict[str, tuple[int, int]]:
    """Packets and bytes that the counters of each limit's chain have seen."""
    found: dict[str, tuple[int, int]] = {}
    for item in items:
        if "chain" in item and item["chain"]["name"] != FORWARD:
            found.setdefault(item["chain"]["name"], (0, 0))
        if "rule" in item and item["rule"]["chain"] != FORWARD:
            packets, size = found.get(item["rule"]["chain"], (0, 0))
            for expression in item["rule"]["expr"]:
                counter = expression.get("counter") or {}
                packets += int(counter.get("packets", 0))
                size += int(counter.get("bytes", 0))
            found[item["rule"]["chain"]] = (packets, size)
    return found
