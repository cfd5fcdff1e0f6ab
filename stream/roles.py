"""What an agent is, apart from Kafka and Faust: its input topic, its stage, and how a record becomes records."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeVar

from detectors.snapshot import Section
from stream.records import Incoming, Outgoing


class Undecodable(Exception):
    """An input value that cannot be read; the text says why. The message goes to deadletter.v1."""


class Stage(Protocol):
    """The state of one input partition."""

    def snapshot(self) -> Mapping[str, Section]:
        """The whole state by section; `restore` of it gives a stage that behaves the same from then on.

        Arrays may be views of live memory; they are used before the stage is fed again.
        """

    def restore(self, sections: Mapping[str, Section]) -> list[str]:
        """Take over a state, before anything is fed; the arrays are the stage's from then on.

        No sections at all say that there was a state and that it is lost.

        Returns:
            Names of the sections that start cold: missing, of another version, or unknown here.

        Raises:
            SectionError: a section's content does not fit; the stage is half restored and of no use.
        """


S = TypeVar("S")


class Role(Protocol[S]):
    """One agent. Called by one task at a time, never concurrently for the same host.

    `name` is also the group's and the metrics' word; `topic` is a word of `schemas.topics`. An agent
    that is not `stateful` has no snapshots: its input is committed as soon as its output is durable.
    """

    name: str
    topic: str
    stateful: bool

    def open(self, partition: int) -> S:
        """A fresh stage for an input partition."""

    def read(self, record: Incoming) -> Any:
        """The record's value as the word that `process` takes.

        Raises:
            Undecodable: the value cannot be read.
        """

    async def process(self, stage: S, words: Sequence[Any], partition: int) -> Sequence[Outgoing]:
        """Feed words of one partition in log order; returns what they cause, in order.

        How many come at once depends on load and must not change what is said.
        """

    def announce(self, stage: S, *, quiet: bool) -> Sequence[Outgoing]:
        """What to say for a partition that has nothing to read.

        `quiet`: nothing was appended for `worker.quiet_s`; else it was just taken over. The stage stays as it is.
        """


# For code that runs any agent: the stage type matters between a role and its own stages only.
AnyRole = Role[Any]


class Stateless:
    """The stage of agents without state."""

    def snapshot(self) -> Mapping[str, Section]:
        """Nothing."""
        return {}

    def restore(self, sections: Mapping[str, Section]) -> list[str]:
        """Nothing to take over."""
        return []
