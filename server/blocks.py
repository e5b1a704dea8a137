"""Who has blocked whom, in memory: asked for every message, receipt and typing event."""

from collections.abc import Set
from typing import Final

_NOBODY: Final[frozenset[str]] = frozenset()


class BlockIndex:
    """All blocks there are, about 200 bytes each. Two people are apart if either has blocked the other."""

    def __init__(self) -> None:
        self._blocked: dict[str, set[str]] = {}
        self._blockers: dict[str, set[str]] = {}
        self._apart: dict[str, set[str]] = {}

    def add(self, blocker_id: str, blocked_id: str) -> None:
        self._blocked.setdefault(blocker_id, set()).add(blocked_id)
        self._blockers.setdefault(blocked_id, set()).add(blocker_id)
        self._apart.setdefault(blocker_id, set()).add(blocked_id)
        self._apart.setdefault(blocked_id, set()).add(blocker_id)

    def discard(self, blocker_id: str, blocked_id: str) -> None:
        _discard(self._blocked, blocker_id, blocked_id)
        _discard(self._blockers, blocked_id, blocker_id)
        if not self.has_blocked(blocked_id, blocker_id):
            _discard(self._apart, blocker_id, blocked_id)
            _discard(self._apart, blocked_id, blocker_id)

    def has_blocked(self, blocker_id: str, blocked_id: str) -> bool:
        return blocked_id in self._blocked.get(blocker_id, _NOBODY)

    def blocked_by(self, blocker_id: str) -> Set[str]:
        """The people whom this user has blocked."""
        return self._blocked.get(blocker_id, _NOBODY)

    def blockers_of(self, blocked_id: str) -> Set[str]:
        """The people who have blocked this user."""
        return self._blockers.get(blocked_id, _NOBODY)

    def apart_from(self, user_id: str) -> Set[str]:
        """The people who neither hear nor see anything of this user, and whom this user does not see."""
        return self._apart.get(user_id, _NOBODY)

    def are_apart(self, one: str, other: str) -> bool:
        return other in self._apart.get(one, _NOBODY)


def _discard(index: dict[str, set[str]], key: str, value: str) -> None:
    values = index.get(key)
    if values is not None:
        values.discard(value)
        if not values:
            del index[key]
