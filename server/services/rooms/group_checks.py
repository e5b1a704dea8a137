"""Checks of requests on groups that ask other services: people who are to be added, and images."""

from collections.abc import Sequence

from server.blocks import BlockIndex
from server.errors import FieldError, ValidationFailed
from server.models import User
from server.services.rooms.ports import Attachments, People
from server.web_address import is_web_address


async def check_people(
    people: People, blocks: BlockIndex, by: str, user_ids: Sequence[str], given: Sequence[str]
) -> dict[str, User]:
    """Raise `ValidationFailed` naming those who are unknown, inactive or have blocked `by`, by their places in `given`.

    They look alike: nobody is told that they are blocked.
    """
    found = await people.get_many(user_ids)
    wrong = [
        FieldError(f"userIds.{given.index(user_id)}", "is no active user")
        for user_id in user_ids
        if user_id not in found or not found[user_id].is_active or blocks.has_blocked(user_id, by)
    ]
    if wrong:
        raise ValidationFailed.all(wrong)
    return found


def check_image(image: str | None, attachments: Attachments) -> None:
    """Raise `ValidationFailed` unless it is an absolute URL or looks like an upload."""
    if image is not None and not attachments.is_upload(image) and not is_web_address(image):
        raise ValidationFailed.at("image", "must be an http(s) URL or the path of an upload")


async def link_image(attachments: Attachments, user_id: str, image: str | None, room_id: str) -> None:
    """Use an upload of the user as image of a room. Raises `ValidationFailed` if they have none at this path."""
    if image is not None and attachments.is_upload(image):
        await attachments.link_room_image(user_id, image, room_id)
