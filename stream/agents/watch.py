"""watch: watch.v1 → actions.v1; whether containments contain, and what follows where they do not."""

from collections.abc import Awaitable, Callable, Sequence

from schemas.action import Action
from schemas.topics import ACTIONS, WATCH
from schemas.watch import WatchRow
from schemas.word import WordError
from stream.records import Incoming, Outgoing
from stream.roles import Stage, Stateless, Undecodable

# Takes what nodes saw of containments, in log order, and says what follows. Repeats of a row change nothing.
Watcher = Callable[[Sequence[WatchRow]], Awaitable[Sequence[Action]]]


class WatchRole:
    """See `stream.roles.Role`. Without state: what was found is on actions.v1, what goes on is seen again."""

    name = "watch"
    topic = WATCH.word
    stateful = False

    def __init__(self, watcher: Watcher) -> None:
        self._watcher = watcher

    def open(self, partition: int) -> Stage:
        """No state."""
        return Stateless()

    def read(self, record: Incoming) -> WatchRow:
        """See `stream.roles.Role.read`."""
        try:
            return WatchRow.decode(record.value or b"")
        except WordError as error:
            raise Undecodable(str(error)) from None

    async def process(self, stage: Stage, words: Sequence[WatchRow], partition: int) -> Sequence[Outgoing]:
        """See `stream.roles.Role.process`."""
        return [Outgoing(ACTIONS.word, a.target.encode(), a.encode()) for a in await self._watcher(words)]

    def announce(self, stage: Stage, *, quiet: bool) -> Sequence[Outgoing]:
        """Nothing to announce."""
        return ()
