"""Rules for groups: what they may be called, who may change what, and who inherits them."""

import unicodedata
from typing import Final

from server.bounds import DESCRIPTION_LENGTH, ROOM_NAME_LENGTH
from server.errors import Conflict, Forbidden, NotFound, ValidationFailed
from server.lookalikes import has_stray_marks
from server.member_state import MemberState
from server.models import Role
from server.room_state import RoomState

# Line breaks and tabs may stand in a description.
_BREAKS: Final = frozenset("\n\t")


def check_room_name(value: str) -> str:
    """Raises `ValidationFailed` for a blank, overlong or misleading name."""
    name = unicodedata.normalize("NFC", value).strip()
    if not name or not any(character.isprintable() and not character.isspace() for character in name):
        raise ValidationFailed.at("name", "must not be blank")
    if len(name) > ROOM_NAME_LENGTH:
        raise ValidationFailed.at("name", f"must have at most {ROOM_NAME_LENGTH} characters")
    if any(unicodedata.category(character) in ("Cc", "Zl", "Zp") for character in name):
        raise ValidationFailed.at("name", "must not contain control characters")
    if has_stray_marks(name):
        raise ValidationFailed.at("name", "must not contain invisible characters or marks of direction")
    return name


def check_description(value: str | None) -> str | None:
    """A blank one becomes None."""
    if value is None or not value.strip():
        return None
    description = unicodedata.normalize("NFC", value).strip()
    if len(description) > DESCRIPTION_LENGTH:
        raise ValidationFailed.at("description", f"must have at most {DESCRIPTION_LENGTH} characters")
    if any(unicodedata.category(character) == "Cc" and character not in _BREAKS for character in description):
        raise ValidationFailed.at("description", "must not contain control characters")
    return description


def check_group(room: RoomState) -> None:
    """Raise `Conflict` for a direct room, whose members never change."""
    if room.type != "GROUP":
        raise Conflict("A direct room cannot be changed")


def check_manager(room: RoomState, user_id: str) -> None:
    """Raise `Forbidden` unless the user is an owner or admin of the room."""
    if not is_manager(room, user_id):
        raise Forbidden("Only owners and admins may do this")


def is_manager(room: RoomState, user_id: str) -> bool:
    member = room.members.get(user_id)
    return member is not None and member.role != "MEMBER"


def is_owner(room: RoomState, user_id: str) -> bool:
    member = room.members.get(user_id)
    return member is not None and member.role == "OWNER"


def check_role(room: RoomState, user_id: str, member_id: str, role: Role) -> None:
    """Raise unless the user may give the member this role: owners any, admins make admins of members."""
    check_manager(room, user_id)
    if member_id not in room.members:
        raise NotFound("No such member")
    before = room.role_of(member_id)
    if not is_owner(room, user_id) and (before, role) not in (("MEMBER", "ADMIN"), (role, role)):
        raise Forbidden("Admins may only make admins of members")
    if before == "OWNER" and role != "OWNER" and find_heir(room, member_id) is not None:
        raise Conflict("There must be an owner: make somebody else one first")
    if before == "OWNER" and role != "OWNER" and len(room.members) == 1:
        raise Conflict("There must be an owner")


def check_removal(room: RoomState, user_id: str, member_id: str) -> None:
    """Raise unless the user may leave, or remove the member: owners anybody, admins plain members."""
    if member_id == user_id:
        if user_id not in room.members:
            raise NotFound("No such room")
        return
    check_manager(room, user_id)
    if member_id not in room.members:
        raise NotFound("No such member")
    if not is_owner(room, user_id) and room.role_of(member_id) != "MEMBER":
        raise Forbidden("Admins may only remove members")


def find_heir(room: RoomState, leaving: str) -> str | None:
    """Who becomes owner as this member leaves: None if an owner stays, else the longest-serving admin or member."""
    staying = [member for member in room.members.values() if member.user_id != leaving]
    if not staying or any(member.role == "OWNER" for member in staying):
        return None
    return min(staying, key=_seniority).user_id


def _seniority(member: MemberState) -> tuple[bool, int, str]:
    return member.role != "ADMIN", member.joined.seq, member.user_id
