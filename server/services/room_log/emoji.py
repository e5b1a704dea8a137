"""Emoji that may be reactions: single ones of Unicode's RGI set, in their full spelling."""

import emoji

from server.errors import ValidationFailed


def check_emoji(text: str) -> str:
    """Raise `ValidationFailed` unless the text is one emoji as emoji keyboards write it.

    "Fully qualified" in Unicode's emoji-test.txt is the set "recommended for general interchange" (UTS #51, ED-27).
    """
    known = emoji.EMOJI_DATA.get(text)
    if known is None or known["status"] != emoji.STATUS["fully_qualified"]:
        raise ValidationFailed.at("emoji", "must be a single emoji")
    return text
