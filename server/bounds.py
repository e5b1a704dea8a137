"""Bounds of what people write about themselves and their rooms: for the rules that check them, and for descriptions."""

from typing import Final

EMAIL_LENGTH: Final = 254  # RFC 5321
NAME_LENGTH: Final = 100
PHONE_LENGTH: Final = 32
URL_LENGTH: Final = 2_048
PASSWORD_MIN: Final = 8
# Longer ones would only cost time.
PASSWORD_MAX: Final = 1_024
USER_TYPE_LENGTH: Final = 50
ROOM_NAME_LENGTH: Final = 100
DESCRIPTION_LENGTH: Final = 1_000
# What an upload is for, in the words of the application.
PURPOSE_LENGTH: Final = 50
# Of a report of a message: its reason, and what the reporter says of it.
REASON_LENGTH: Final = 100
REPORT_LENGTH: Final = 2_000
# A token that `main.py invite` makes has up to 700.
INVITE_LENGTH: Final = 2_000
