"""The audit on actions.v1, in order, without a group: readers do not share it."""

from __future__ import annotations

import heapq
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from contextlib import aclosing

from response.ledger import Ledger
from schemas.action import Action
from schemas.topics import ACTIONS
from schemas.word import WordError
from sluicegate.terminal import note
from sluicegate.topic_reader import read_topic
from stream.settings import KafkaSettings

# Longer than any containment may be extended to; what is older has ended.
HISTORY_S = 45 * 86_400
# Two senders write the audit: what one says in the same moment may arrive before what the other said first.
_REORDERED = 1000


async def read_actions(
    kafka: KafkaSettings, since: float | None, *, follow: bool = False
) -> AsyncGenerator[Action | None, None]:
    """Give the audit from a time on; see `read_topic`. What cannot be read is passed over."""
    async with aclosing(read_topic(kafka, ACTIONS, since, follow=follow)) as records:
        async for record in records:
            if record is None:
                yield None
            elif (action := _action(record.value or b"", record.offset)) is not None:
                yield action


async def read_ledger(
    kafka: KafkaSettings, cluster: str, now: float, kept: Callable[[Action], bool] = lambda _: False
) -> tuple[Ledger, list[Action]]:
    """What the audit of a cluster says every containment is at, and those of its steps that are asked for.

    Raises:
        ConnectionProblem, CommandProblem: see `read_actions`.
    """
    ledger, steps, order = Ledger(), list[Action](), InOrder()

    def take(actions: Iterable[Action]) -> None:
        for action in actions:
            ledger.fold(action)
            if kept(action):
                steps.append(action)

    async for action in read_actions(kafka, now - HISTORY_S):
        if action is not None and action.cluster == cluster:
            take(order.push(action))
    take(order.rest())
    return ledger, steps


class InOrder:
    """Gives steps by the time at which they were taken, as far as they are near to each other."""

    def __init__(self, held: int = _REORDERED) -> None:
        self._held = held
        self._waiting: list[tuple[str, int, Action]] = []
        self._number = 0

    def push(self, action: Action) -> Iterator[Action]:
        """Take one step; gives the earliest once there are more than are held."""
        self._number += 1
        heapq.heappush(self._waiting, (action.at, self._number, action))
        if len(self._waiting) > self._held:
            yield heapq.heappop(self._waiting)[2]

    def rest(self) -> Iterator[Action]:
        """All that is still held."""
        while self._waiting:
            yield heapq.heappop(self._waiting)[2]


def _action(value: bytes, offset: int) -> Action | None:
    try:
        return Action.decode(value)
    except WordError:
        note(f"warning: record {offset} of {ACTIONS.word} is no step of the audit; passed over")
        return None
