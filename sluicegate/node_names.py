"""The node that each file's rows come from."""

from __future__ import annotations

from collections.abc import Sequence

from sluicegate.problems import CommandProblem


def node_names(files: Sequence[str], given: Sequence[str]) -> list[str]:
    """Return one name per file: those given, else ``node1``, ``node2``, ...

    Raises:
        CommandProblem: not as many names as files, or a name given twice.
    """
    if not given:
        return [f"node{number}" for number in range(1, len(files) + 1)]
    if len(given) != len(files):
        message = f"{len(given)} --node for {len(files)} files: give one for each, in the same order"
        raise CommandProblem(message)
    if len(set(given)) != len(given):
        message = "two files with the same --node: each file is one node's; join them with mergecap first"
        raise CommandProblem(message)
    for name in given:
        if not 1 <= len(name) <= 253 or not name.isprintable():
            message = "--node must be 1 to 253 printable characters"
            raise CommandProblem(message)
    return list(given)
