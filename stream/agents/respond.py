"""respond: responses.v1 → actions.v1; the only agent whose work leaves the broker."""

from collections.abc import Awaitable, Callable, Sequence

from schemas.action import Action
from schemas.response import ResponseDecision
from schemas.topics import ACTIONS, RESPONSES
from schemas.word import WordError
from stream.records import Incoming, Outgoing
from stream.roles import Stage, Stateless, Undecodable

# Carries out one decision and says what was done or refused. It must be idempotent: after a crash the same
# decision comes again. What it raises sends the decision to deadletter.v1, so it retries by itself.
Responder = Callable[[ResponseDecision], Awaitable[Sequence[Action]]]


class RespondRole:
    """See `stream.roles.Role`. Without state: what is applied is known to the cluster and to actions.v1."""

    name = "respond"
    topic = RESPONSES.word
    stateful = False

    def __init__(self, responder: Responder) -> None:
        self._responder = responder

    def open(self, partition: int) -> Stage:
        """No state."""
        return Stateless()

    def read(self, record: Incoming) -> ResponseDecision:
        """See `stream.roles.Role.read`."""
        try:
            return ResponseDecision.decode(record.value or b"")
        except WordError as error:
            raise Undecodable(str(error)) from None

    async def process(self, stage: Stage, words: Sequence[ResponseDecision], partition: int) -> Sequence[Outgoing]:
        """See `stream.roles.Role.process`."""
        actions = [action for decision in words for action in await self._responder(decision)]
        return [Outgoing(ACTIONS.word, action.target.encode(), action.encode()) for action in actions]

    def announce(self, stage: Stage, *, quiet: bool) -> Sequence[Outgoing]:
        """Nothing to announce."""
        return ()
