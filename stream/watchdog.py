"""Tells a stalled agent from an idle one. Pure; time is an argument.

Stalled is: input waits and none is fed for too long, or what was fed, or was to be sent, is not made durable for too
long. None of it counts while the broker does not answer, for a restart would not bring it back.
"""

from dataclasses import dataclass

OUTBOX = "outbox"


@dataclass
class _Seen:
    position: int
    moved_at: float
    lag: int


class LagWatchdog:
    """Remembers, per agent and input partition, when it last moved and since when its checkpoint is overdue.

    Args:
        stall_s: seconds without progress that make an agent stalled.
    """

    def __init__(self, stall_s: float) -> None:
        self._stall_s = stall_s
        self._seen: dict[tuple[str, int], _Seen] = {}
        self._due_at: dict[tuple[str, int], float] = {}
        self._sent_at: float | None = None
        self._answered_at = float("-inf")

    def observe(self, agent: str, positions: dict[int, int], ends: dict[int, int], now: float) -> dict[int, int]:
        """Take in where an agent is; returns the lag in messages per partition. Partitions not named are forgotten.

        Args:
            agent: whose positions.
            positions: next offset to be fed, per partition held.
            ends: offset after the last record, per partition.
            now: seconds from any fixed point.
        """
        for key in [k for k in self._seen if k[0] == agent and k[1] not in positions]:
            del self._seen[key]
        lags = {}
        for partition, position in positions.items():
            lag = max(0, ends.get(partition, position) - position)
            seen = self._seen.get((agent, partition))
            if seen is None or position != seen.position or seen.lag == 0:
                # An agent that had nothing to do cannot have been stalled: its time starts with the lag.
                self._seen[agent, partition] = _Seen(position, now, lag)
            else:
                seen.lag = lag
            lags[partition] = lag
        return lags

    def observe_checkpoints(self, agent: str, overdue: dict[int, float], now: float) -> None:
        """Take in for how many s checkpoints have been overdue, by partition; those not named are not."""
        self._due_at = {key: at for key, at in self._due_at.items() if key[0] != agent}
        self._due_at |= {(agent, partition): now - late for partition, late in overdue.items()}

    def observe_outbox(self, oldest: float, now: float) -> None:
        """Take in for how many s the oldest record that is not durable yet has waited; 0: none waits."""
        self._sent_at = now - oldest if oldest else None

    def unreachable(self, now: float) -> None:
        """The broker does not answer: nobody can progress, so nobody's time runs."""
        self._answered_at = now

    def stalled(self, now: float) -> dict[str, str]:
        """Stalled agents, and `OUTBOX`, each with one line that says where."""
        lines: dict[str, str] = {}
        for (agent, partition), seen in sorted(self._seen.items()):
            idle = now - max(seen.moved_at, self._answered_at)
            if seen.lag > 0 and idle > self._stall_s:
                lines.setdefault(
                    agent, f"{agent} partition {partition}: {seen.lag} messages behind, none fed for {idle:.0f} s"
                )
        for (agent, partition), due_at in sorted(self._due_at.items()):
            late = now - max(due_at, self._answered_at)
            if late > self._stall_s:
                lines.setdefault(agent, f"{agent} partition {partition}: checkpoint overdue for {late:.0f} s")
        waits = 0.0 if self._sent_at is None else now - max(self._sent_at, self._answered_at)
        if waits > self._stall_s:
            lines[OUTBOX] = f"{OUTBOX}: no broker has taken the oldest record for {waits:.0f} s"
        return lines
