"""command: commands.v1 → actions.v1; operators' words carried out by the responder."""

from collections.abc import Awaitable, Callable, Sequence

from schemas.action import Action
from schemas.command import Command
from schemas.topics import ACTIONS, COMMANDS
from schemas.word import WordError
from stream.records import Incoming, Outgoing
from stream.roles import Stage, Stateless, Undecodable

# Carries out one command, or refuses it, and says so. Idempotent, as a responder is.
Obedient = Callable[[Command], Awaitable[Sequence[Action]]]


class CommandRole:
    """See `stream.roles.Role`. Without state: which commands were obeyed is on actions.v1."""

    name = "command"
    topic = COMMANDS.word
    stateful = False

    def __init__(self, obey: Obedient) -> None:
        self._obey = obey

    def open(self, partition: int) -> Stage:
        """No state."""
        return Stateless()

    def read(self, record: Incoming) -> Command:
        """See `stream.roles.Role.read`."""
        try:
            return Command.decode(record.value or b"")
        except WordError as error:
            raise Undecodable(str(error)) from None

    async def process(self, stage: Stage, words: Sequence[Command], partition: int) -> Sequence[Outgoing]:
        """See `stream.roles.Role.process`."""
        actions = [action for command in words for action in await self._obey(command)]
        return [Outgoing(ACTIONS.word, action.target.encode(), action.encode()) for action in actions]

    def announce(self, stage: Stage, *, quiet: bool) -> Sequence[Outgoing]:
        """Nothing to announce."""
        return ()
