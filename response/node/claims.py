"""What commands want in the tables of a node, by response; the same log gives the same answer."""

from __future__ import annotations

from collections.abc import Mapping

from response.node.entries import Key, Wanted

# Responses of a week; far above what a node meets, and a few hundred bytes each.
MAX_RESPONSES = 10_000


class Claims:
    """Entries by key and response, and when each response was last lifted.

    Where several responses want one key, the later expiry holds, and of equal ones the larger response id.
    """

    def __init__(self) -> None:
        self._claims: dict[Key, dict[str, Wanted]] = {}
        # s since epoch at which the last command to lift was issued; no number for responses that were never lifted.
        self._lifted: dict[str, float | None] = {}

    @property
    def known(self) -> frozenset[str]:
        """Responses that some command spoke of."""
        return frozenset(self._lifted)

    def keys(self) -> tuple[Key, ...]:
        """Every key that some response wants."""
        return tuple(self._claims)

    def wanted(self) -> Mapping[Key, Wanted]:
        """What is to be in the tables."""
        return {key: max(of.values(), key=lambda one: (one.expires_at, one.response_id))
                for key, of in self._claims.items()}  # fmt: skip

    def lifted_since(self, response_id: str, issued: float) -> bool:
        """Whether a response was lifted by a command issued no earlier than a time (s since epoch)."""
        at = self._lifted.get(response_id)
        return at is not None and at >= issued

    def add(self, key: Key, wanted: Wanted) -> None:
        """Take in what a response wants under a key, instead of what it wanted before."""
        self._lifted.setdefault(wanted.response_id, None)
        self._claims.setdefault(key, {})[wanted.response_id] = wanted
        self._bound()

    def lift(self, response_id: str, issued: float) -> tuple[Key, ...]:
        """Let go of all that a response wants; returns what that was."""
        self._lifted.pop(response_id, None)
        self._lifted[response_id] = issued
        gone = tuple(key for key, of in self._claims.items() if response_id in of)
        for key in gone:
            self._drop(key, response_id)
        self._bound()
        return gone

    def expire(self, now: float) -> tuple[tuple[Key, Wanted], ...]:
        """Let go of what has expired; returns what that was."""
        gone = tuple((key, one) for key, of in self._claims.items() for one in of.values() if one.expires_at <= now)
        for key, one in gone:
            self._drop(key, one.response_id)
        return gone

    def _drop(self, key: Key, response_id: str) -> None:
        of = self._claims[key]
        del of[response_id]
        if not of:
            del self._claims[key]

    def _bound(self) -> None:
        while len(self._lifted) > MAX_RESPONSES:
            # The oldest whose entries are gone; its commands have expired long before so many others came.
            held = {one for of in self._claims.values() for one in of}
            oldest = next((name for name in self._lifted if name not in held), None)
            if oldest is None:
                return
            del self._lifted[oldest]
