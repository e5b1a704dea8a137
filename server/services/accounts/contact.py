"""Contact: who sees a user's email and phone number."""

from collections.abc import Awaitable, Callable, Collection

from server.blocks import BlockIndex
from server.config.settings import ContactRule

FindSharing = Callable[[str, Collection[str] | None], Awaitable[set[str]]]


class Contact:
    """Applies `profiles.contact`. Everybody sees their own; nobody that of somebody apart, whatever the rule."""

    def __init__(self, rule: ContactRule, find_sharing: FindSharing, blocks: BlockIndex) -> None:
        """`find_sharing` finds those who share a room with a user: of the ones given, or all."""
        self._rule = rule
        self._find_sharing = find_sharing
        self._blocks = blocks

    def set_rule(self, rule: ContactRule) -> None:
        self._rule = rule

    @property
    def is_public(self) -> bool:
        """Whether everybody is found by it."""
        return self._rule == "everybody"

    async def shown_to(self, viewer_id: str, user_ids: Collection[str]) -> set[str]:
        """Those of the users whose contact the viewer sees. Raises `Unavailable`."""
        shown = {viewer_id}
        if self._rule == "everybody":
            shown.update(user_ids)
        elif self._rule == "shared_rooms" and not shown.issuperset(user_ids):
            shown |= await self._find_sharing(viewer_id, user_ids)
        return shown - self._blocks.apart_from(viewer_id)

    async def find_shown(self, viewer_id: str) -> set[str]:
        """All others whose contact the viewer sees, where it is not public. Raises `Unavailable`."""
        if self._rule != "shared_rooms":
            return set()
        return await self._find_sharing(viewer_id, None) - self._blocks.apart_from(viewer_id)
