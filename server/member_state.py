"""One member of a room in memory: role, marks, and where they came in."""

from datetime import datetime

from server.models import Member, Position, Role


class MemberState:
    """Marks only grow, and reading implies delivery. `sent` is the number of the member's messages in the room.

    `is_changed` is set if marks are not stored yet that the member's own message raised, and `is_new` if the membership
    itself is not stored as it is.
    """

    __slots__ = (
        "changed_seq",
        "delivered",
        "is_changed",
        "is_new",
        "joined",
        "joined_at",
        "peer_id",
        "read",
        "role",
        "sent",
        "user_id",
    )

    def __init__(self, member: Member) -> None:
        self.user_id = member.user_id
        self.peer_id = member.peer_id
        self.role: Role = member.role
        self.joined_at: datetime | None = member.joined_at
        self.joined = member.joined
        self.changed_seq = member.changed_seq
        self.sent = member.sent
        self.delivered = max(member.last_delivered_seq, member.read.seq)
        self.read = member.read
        self.is_changed = False
        self.is_new = False

    def raise_read(self, position: Position) -> bool:
        """False if not higher."""
        if position.seq <= self.read.seq:
            return False
        self.read = position
        self.delivered = max(self.delivered, position.seq)
        return True

    def raise_delivered(self, seq: int) -> bool:
        """False if not higher."""
        if seq <= self.delivered:
            return False
        self.delivered = seq
        return True

    def to_member(self, room_id: str) -> Member:
        return Member(
            room_id=room_id,
            user_id=self.user_id,
            peer_id=self.peer_id,
            role=self.role,
            joined_at=self.joined_at,
            joined=self.joined,
            changed_seq=self.changed_seq,
            sent=self.sent,
            last_delivered_seq=self.delivered,
            read=self.read,
        )
