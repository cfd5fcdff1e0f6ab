"""A kernel in memory that does what nftables does with our commands: transactions, time-outs, listings."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import orjson

from response.node.kernel_tools import ToolError


class Kernel:
    """Tables by family and name; `now` moves by hand, and `fail` makes the next transaction fail."""

    def __init__(self) -> None:
        self.tables: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
        self.now = 0.0
        self.fail = ""
        self.transactions = 0
        self.flowtables: list[dict[str, str]] = []

    def run(self, argv: Sequence[str], stdin: bytes) -> bytes:
        """What `nft` would print."""
        if tuple(argv) == ("nft", "-j", "-f", "-"):
            self._change(orjson.loads(stdin)["nftables"])
            return b""
        assert tuple(argv[:3]) == ("nft", "-j", "list"), argv
        return orjson.dumps({"nftables": [{"metainfo": {}}, *self._listing(argv[3:])]})

    def hit(self, family: str, name: str, packets: int) -> None:
        """Let the counters of every element of a set grow."""
        for element in self.tables[family, "sluicegate"]["set"][name]["elements"].values():
            element["packets"] += packets

    def _listing(self, what: Sequence[str]) -> list[dict[str, Any]]:
        if what[0] == "flowtables":
            return [{"flowtable": item} for item in self.flowtables]
        if what[0] == "tables":
            return [{"table": {"family": family, "name": name}} for family, name in self.tables]
        table = self.tables[what[1], what[2]]
        found: list[dict[str, Any]] = []
        for kind in ("set", "map"):
            for name, held in table[kind].items():
                elements = [self._element(one) for one in held["elements"].values() if one["until"] > self.now]
                found.append({kind: {**held["fields"], "name": name, **({"elem": elements} if elements else {})}})
        found += [{"chain": fields} for fields in table["chain"].values()]
        found += [{"rule": rule} for rules in table["rule"].values() for rule in rules]
        return found

    def _element(self, one: dict[str, Any]) -> Any:
        inner = {"elem": {"val": one["val"], "expires": int(one["until"] - self.now), "comment": one["comment"],
                          "counter": {"packets": one["packets"], "bytes": one["packets"] * 60}}}  # fmt: skip
        return inner if one["verdict"] is None else [inner, one["verdict"]]

    def _change(self, commands: list[dict[str, Any]]) -> None:
        if self.fail:
            problem, self.fail = self.fail, ""
            raise ToolError(problem, "tool_failed")
        kept = copy.deepcopy(self.tables)
        try:
            for command in commands:
                ((verb, what),) = command.items()
                ((kind, fields),) = what.items()
                getattr(self, f"_{verb}")(kind, fields)
        except (KeyError, AssertionError) as error:
            self.tables = kept
            message = f"Could not process rule: {error!r}"
            raise ToolError(message, "tool_failed") from None
        self.transactions += 1

    def _add(self, kind: str, fields: dict[str, Any]) -> None:
        if kind == "table":
            empty: dict[str, dict[str, Any]] = {"set": {}, "map": {}, "chain": {}, "rule": {}}
            self.tables.setdefault((fields["family"], fields["name"]), empty)
            return
        table = self.tables[fields["family"], fields["table"]]
        if kind == "element":
            self._add_element(table, fields)
        elif kind == "rule":
            assert fields["chain"] in table["chain"]
            table["rule"].setdefault(fields["chain"], []).append(fields)
        elif kind == "chain":
            table["chain"].setdefault(fields["name"], fields)
        else:
            table[kind].setdefault(fields["name"], {"fields": fields, "elements": {}})

    def _add_element(self, table: dict[str, Any], fields: dict[str, Any]) -> None:
        held = table["set" if fields["name"] in table["set"] else "map"][fields["name"]]
        (element,) = fields["elem"]
        verdict = None
        if isinstance(element, list):
            element, verdict = element
            assert verdict["jump"]["target"] in table["chain"], "no such chain"
        inner = element["elem"]
        place = repr(inner["val"])
        alive = place in held["elements"] and held["elements"][place]["until"] > self.now
        if alive:
            assert held["elements"][place]["verdict"] == verdict, "File exists"
            return
        held["elements"][place] = {"val": inner["val"], "until": self.now + inner["timeout"], "packets": 0,
                                   "comment": inner.get("comment", ""), "verdict": verdict}  # fmt: skip
        live = sum(one["until"] > self.now for one in held["elements"].values())
        assert live <= held["fields"]["size"], "No buffer space available"

    def _delete(self, kind: str, fields: dict[str, Any]) -> None:
        if kind == "table":
            del self.tables[fields["family"], fields["name"]]
            return
        table = self.tables[fields["family"], fields["table"]]
        if kind == "element":
            held = table["set" if fields["name"] in table["set"] else "map"][fields["name"]]
            del held["elements"][repr(fields["elem"][0])]
            return
        if kind == "chain":
            jumps = [one["verdict"] for held in table["map"].values() for one in held["elements"].values()
                     if one["until"] > self.now]  # fmt: skip
            assert {"jump": {"target": fields["name"]}} not in jumps, "Device or resource busy"
        del table[kind][fields["name"]]

    def _flush(self, kind: str, fields: dict[str, Any]) -> None:
        assert kind == "chain"
        self.tables[fields["family"], fields["table"]]["rule"].pop(fields["name"], None)
