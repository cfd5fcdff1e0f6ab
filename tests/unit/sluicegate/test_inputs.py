from __future__ import annotations

from collections.abc import Iterator

import pytest

from schemas.event_codec import EventMessage
from schemas.events import EventHeader
from sluicegate.export_run import read_speed
from sluicegate.inputs import in_cut_order
from sluicegate.node_names import node_names
from sluicegate.problems import CommandProblem


def messages(node: str, *cuts: int) -> Iterator[EventMessage]:
    for sequence, cut in enumerate(cuts):
        yield EventMessage(
            EventHeader(cluster="c", node=node, exporter="e", boot="b", sequence=sequence, cut=cut, source="capture",
                        capabilities=0)
        )  # fmt: skip


def test_heartbeats_come_first_then_all_nodes_by_cut() -> None:
    merged = in_cut_order([messages("a", 10, 11, 13), messages("b", 100, 101), messages("c"), messages("d", 9, 11)])
    order = [(m.header.node, m.header.cut) for m in merged]
    assert order == [("a", 10), ("b", 100), ("d", 9), ("a", 11), ("d", 11), ("a", 13), ("b", 101)]


def test_nodes_are_named_by_number_or_as_told() -> None:
    assert node_names(["x", "y"], []) == ["node1", "node2"]
    assert node_names(["x", "y"], ["a", "b"]) == ["a", "b"]


@pytest.mark.parametrize("given", [["a"], ["a", "a"], ["a", ""], ["a", "b\n"], ["a", "b" * 254]])
def test_names_that_do_not_fit_are_refused(given: list[str]) -> None:
    with pytest.raises(CommandProblem, match="--node"):
        node_names(["x", "y"], given)


@pytest.mark.parametrize(("text", "speed"), [("real", 1.0), ("max", None), ("0.5", 0.5), ("20", 20.0)])
def test_speeds(text: str, speed: float | None) -> None:
    assert read_speed(text) == speed


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "fast", ""])
def test_speeds_that_are_none(text: str) -> None:
    with pytest.raises(CommandProblem, match="--speed"):
        read_speed(text)
