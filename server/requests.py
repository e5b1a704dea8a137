"""What clients send: the payloads of requests and events, declared and bounded in one place."""

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from server.bounds import (
    DESCRIPTION_LENGTH,
    EMAIL_LENGTH,
    INVITE_LENGTH,
    NAME_LENGTH,
    PASSWORD_MAX,
    PASSWORD_MIN,
    PHONE_LENGTH,
    PURPOSE_LENGTH,
    REASON_LENGTH,
    REPORT_LENGTH,
    ROOM_NAME_LENGTH,
    URL_LENGTH,
    USER_TYPE_LENGTH,
)
from server.models import HistoryMode, Notify, Role, RoomType, SentType, Visibility

# Ids are opaque; the bound is far above any that this server or a sensible token issuer makes.
ID_LENGTH: Final = 128
Id = Annotated[str, Meta(min_length=1, max_length=ID_LENGTH)]
# People whose presence is asked for at once.
MOST_PRESENT: Final = 200
# Stands before the name of a setting in whose place descriptions show its value.
SETTING: Final = "setting:"
# JSON numbers stay exact up to 2**53, and the store's integers reach further.
Seq = Annotated[int, Meta(ge=0, le=2**53)]
Page = Annotated[int, Meta(ge=1, le=2**31)]
UserIds = Annotated[list[Id], Meta(max_length=100)]
Url = Annotated[str, Meta(min_length=1, max_length=URL_LENGTH)]


def _checked_later(**schema: object) -> Meta:
    """For descriptions: bounds that services check, after they have trimmed the text."""
    return Meta(extra_json_schema=schema)


Email = Annotated[str, _checked_later(format="email", maxLength=EMAIL_LENGTH)]
NewPassword = Annotated[str, _checked_later(format="password", minLength=PASSWORD_MIN, maxLength=PASSWORD_MAX)]
Password = Annotated[str, _checked_later(format="password")]
Name = Annotated[str, _checked_later(minLength=1, maxLength=NAME_LENGTH)]
LastName = Annotated[str, _checked_later(maxLength=NAME_LENGTH)]
Phone = Annotated[str, _checked_later(maxLength=PHONE_LENGTH)]
UserType = Annotated[str, _checked_later(maxLength=USER_TYPE_LENGTH)]
Image = Annotated[str, _checked_later(format="uri-reference", maxLength=URL_LENGTH)]
RoomName = Annotated[str, _checked_later(minLength=1, maxLength=ROOM_NAME_LENGTH)]
Description = Annotated[str, _checked_later(maxLength=DESCRIPTION_LENGTH)]
Content = Annotated[str, _checked_later(maxLength=f"{SETTING}messages.max_length")]


class Inbound(msgspec.Struct, frozen=True, rename="camel"):
    """A payload from a client. Unknown fields are ignored, wrong types are `VALIDATION_FAILED`."""


class Registration(Inbound, frozen=True):
    """`invite` is needed where registration is by invite only."""

    email: Email
    password: NewPassword
    first_name: Name
    last_name: Name
    phone: Phone | None = None
    user_type: UserType | None = None
    profile_image: Image | None = None
    invite: Annotated[str, Meta(max_length=INVITE_LENGTH)] | None = None


class Login(Inbound, frozen=True):
    email: str
    password: Password


class Refresh(Inbound, frozen=True):
    refresh_token: str


class PasswordChange(Inbound, frozen=True):
    old_password: Password
    new_password: NewPassword


class AccountRemoval(Inbound, frozen=True):
    """The password shows that it is the owner who wants it."""

    password: Password


class SessionRef(Inbound, frozen=True):
    session_id: Id


class ProfilePatch(Inbound, frozen=True):
    """Fields left out stay as they are; `null` clears the two that may be empty."""

    first_name: Name | msgspec.UnsetType = msgspec.UNSET
    last_name: Name | msgspec.UnsetType = msgspec.UNSET
    phone: Phone | None | msgspec.UnsetType = msgspec.UNSET
    profile_image: Image | None | msgspec.UnsetType = msgspec.UNSET


class DirectoryUser(Inbound, frozen=True):
    """A user as another service knows them. What is left out is empty."""

    user_id: Id
    first_name: Name
    last_name: LastName = ""
    email: Email | None = None
    phone: Phone | None = None
    profile_image: Image | None = None
    user_type: UserType | None = None
    trust_score: float | None = None
    is_active: bool = True


class UploadForm(Inbound, frozen=True):
    """A form of `multipart/form-data`: the file, with a name, and plain fields."""

    file: Annotated[str, Meta(extra_json_schema={"contentMediaType": "application/octet-stream"})]
    type: SentType | None = None
    purpose: Annotated[str, _checked_later(maxLength=PURPOSE_LENGTH)] | None = None


class SearchQuery(Inbound, frozen=True):
    q: Annotated[str, Meta(min_length=1, max_length=100)]
    limit: Annotated[int, Meta(ge=1, le=100)] = 20


class RoomKind(Inbound, frozen=True):
    """What kind of room a request is for, and with that, how the rest of it is read."""

    type: RoomType = "DIRECT"


class RoomRequest(Inbound, frozen=True):
    """A direct room with somebody."""

    other_user_id: Id
    booking_id: Id | None = None
    type: Literal["DIRECT"] = "DIRECT"


class GroupRequest(Inbound, frozen=True):
    """A group of its maker and `user_ids`."""

    type: Literal["GROUP"]
    name: RoomName
    description: Description | None = None
    image: Url | None = None
    visibility: Visibility = "PRIVATE"
    history: HistoryMode | None = None
    user_ids: UserIds = msgspec.field(default_factory=list)
    client_room_id: Annotated[str, Meta(min_length=1, max_length=64)] | None = None


class RoomPatch(Inbound, frozen=True):
    """Fields left out stay as they are; `null` clears the two that may be empty."""

    name: RoomName | msgspec.UnsetType = msgspec.UNSET
    description: Description | None | msgspec.UnsetType = msgspec.UNSET
    image: Url | None | msgspec.UnsetType = msgspec.UNSET
    visibility: Visibility | msgspec.UnsetType = msgspec.UNSET
    history: HistoryMode | msgspec.UnsetType = msgspec.UNSET


class NewMembers(Inbound, frozen=True):
    user_ids: UserIds


class NewRole(Inbound, frozen=True):
    role: Role


class MembersQuery(Inbound, frozen=True):
    q: Annotated[str, Meta(max_length=100)] = ""
    limit: Annotated[int, Meta(ge=1, le=100)] = 50
    cursor: Annotated[str, Meta(max_length=256)] | None = None


class OpenRoomsQuery(Inbound, frozen=True):
    q: Annotated[str, Meta(max_length=100)] = ""
    limit: Annotated[int, Meta(ge=1, le=100)] = 50
    cursor: Annotated[str, Meta(max_length=1024)] | None = None


class ChatsQuery(Inbound, frozen=True):
    """With `booking_id`, only the rooms of that booking."""

    booking_id: Id | None = None
    limit: Annotated[int, Meta(ge=1, le=100)] = 50
    cursor: Annotated[str, Meta(max_length=256)] | None = None


class HistoryQuery(Inbound, frozen=True):
    page: Page | None = None
    limit: Annotated[int, Meta(ge=1, le=200)] = 50
    before: Seq | None = None
    after: Seq | None = None


class SendMessage(Inbound, frozen=True):
    """`message:send`; over REST the room comes from the path. `forward` is the id of a message to copy."""

    room_id: Id
    content: Content | None = None
    type: SentType | None = None
    message_type: SentType | None = None
    attachment_url: Url | None = None
    client_message_id: Annotated[str, Meta(min_length=1, max_length=64)] | None = None
    reply_to: Id | None = None
    mentions: UserIds = msgspec.field(default_factory=list)
    mentions_room: bool = False
    forward: Id | None = None


class MessageRef(Inbound, frozen=True):
    message_id: Id


class Edit(Inbound, frozen=True):
    """`message:edit`; over REST the message comes from the path. Mentions that are left out stay as they are."""

    message_id: Id
    content: Content
    mentions: UserIds | msgspec.UnsetType = msgspec.UNSET


class React(Inbound, frozen=True):
    """`message:react`; over REST the message and the emoji come from the path, and the method tells what is done."""

    message_id: Id
    emoji: Annotated[str, Meta(min_length=1, max_length=64)]
    remove: bool = False


class Pin(Inbound, frozen=True):
    """`message:pin`; over REST the message comes from the path, and the method tells what is done."""

    message_id: Id
    remove: bool = False


class ChatSettingsPatch(Inbound, frozen=True):
    """Fields left out stay as they are. `muted_until` is a time, `FOREVER`, or null."""

    room_id: Id
    muted_until: Annotated[str, Meta(max_length=64)] | None | msgspec.UnsetType = msgspec.UNSET
    notify: Notify | msgspec.UnsetType = msgspec.UNSET
    pinned: bool | msgspec.UnsetType = msgspec.UNSET
    archived: bool | msgspec.UnsetType = msgspec.UNSET


class MessageReport(Inbound, frozen=True):
    """`reason` is one of those that the application offers, `text` what the user says beyond it."""

    message_id: Id
    reason: Annotated[str, Meta(min_length=1, max_length=REASON_LENGTH)]
    text: Annotated[str, Meta(max_length=REPORT_LENGTH)] | None = None


class NoInput(Inbound, frozen=True):
    """An event that carries nothing."""


class RoomRef(Inbound, frozen=True):
    room_id: Id


class UserRef(Inbound, frozen=True):
    user_id: Id


class PresenceIds(Inbound, frozen=True):
    """`ids` are separated by commas; they must fit into a header of HTTP, whatever their characters."""

    ids: Annotated[str, Meta(min_length=1, max_length=8_000)]


class PresenceQuery(Inbound, frozen=True):
    """With `watch`, the socket hears of further changes of these people, and no longer of those it watched before."""

    user_ids: Annotated[list[Id], Meta(max_length=MOST_PRESENT)]
    watch: bool = False


class SyncPoint(Inbound, frozen=True):
    """What a client has of a room: the messages up to `seq`, with all changes up to `rev`."""

    seq: Seq
    rev: Seq


class SyncRequest(Inbound, frozen=True):
    """`rooms` maps ids to what is known of each; a bare number is a `seq`, and asks for no changes.

    `epoch` came with the answer or room that gave these numbers.
    """

    rooms: Annotated[dict[Id, Seq | SyncPoint], Meta(max_length=5_000)]
    epoch: Annotated[str, Meta(max_length=128)] | None = None


class TokenRef(Inbound, frozen=True):
    token: str
