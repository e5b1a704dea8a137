"""Lookalike texts: folds them to one spelling, and finds invisible characters."""

import unicodedata
from collections.abc import Iterator
from typing import Final

ZWNJ: Final = "\u200c"
ZWJ: Final = "\u200d"
BLACK_FLAG: Final = "\U0001f3f4"
TAGS: Final = range(0xE0020, 0xE007F)
END_OF_TAGS: Final = "\U000e007f"
EMOJI_STYLE: Final = "\ufe0f"
SKIN_TONES: Final = range(0x1F3FB, 0x1F400)
VIRAMA: Final = 9  # the combining class of the mark that joins consonants of Indic scripts
# Hangul fillers are invisible letters of old Korean; no modern name needs them.
FILLERS: Final = frozenset("\u115f\u1160\u3164\uffa0")
# Invisible, though not in Unicode's category of format characters.
OTHER_INVISIBLE: Final = (
    FILLERS
    | {"\u034f", "\u17b4", "\u17b5", "\u180b", "\u180c", "\u180d", "\u180f"}
    | {chr(code) for span in (range(0xFE00, 0xFE10), range(0xE0100, 0xE01F0)) for code in span}
)
# Scripts that use joiners within words, as the first word of the Unicode names of their letters.
JOINED_SCRIPTS: Final = frozenset(
    [
        *("ARABIC", "SYRIAC", "MANDAIC", "NKO", "MONGOLIAN", "DEVANAGARI", "BENGALI", "GURMUKHI", "GUJARATI", "ORIYA"),
        *("TAMIL", "TELUGU", "KANNADA", "MALAYALAM", "SINHALA", "KHMER", "MYANMAR", "TIBETAN", "BALINESE", "JAVANESE"),
    ]
)
# Turkish dotless letters and their dotted capital, which look like other Latin letters.
DOTS: Final = str.maketrans({"\u0131": "i", "\u0237": "j", "\u0130": "i"})


def fold(text: str) -> str:
    """One spelling for texts that look the same: folds compatibility forms, case, dots and invisible characters."""
    if text.isascii():
        return text.lower()
    seen = without_invisible(unicodedata.normalize("NFKC", text))
    folded = unicodedata.normalize("NFKC", seen.translate(DOTS).casefold())
    return folded.replace("i\u0307", "i").replace("j\u0307", "j")


def is_invisible(character: str) -> bool:
    """Whether the character shows nothing of its own."""
    return unicodedata.category(character) == "Cf" or character in OTHER_INVISIBLE


def without_invisible(text: str) -> str:
    return "".join(character for character in text if not is_invisible(character))


def has_stray_marks(text: str) -> bool:
    """Whether it holds format characters or fillers that neither an emoji nor the script around them needs."""
    return any(not (_joins_emoji(text, at) or _joins_letters(text, at) or _is_flag(text, at)) for at in _marks(text))


def _marks(text: str) -> Iterator[int]:
    # Without variation selectors, which choose the look of the character before them.
    for at, character in enumerate(text):
        if unicodedata.category(character) == "Cf" or character in FILLERS:
            yield at


def _joins_emoji(text: str, at: int) -> bool:
    """A joiner between two emoji, as in 👩‍🚀; the first may be followed by a skin tone or a style."""
    if text[at] != ZWJ:
        return False
    before = at - 1
    while before > 0 and (text[before] == EMOJI_STYLE or ord(text[before]) in SKIN_TONES):
        before -= 1
    after = text[at + 1 : at + 2]
    # Arrows, as in the emoji of a shaking head, are mathematical symbols (Sm).
    return before >= 0 and _is_symbol(text[before], "So") and after != "" and _is_symbol(after, "So", "Sm")


def _joins_letters(text: str, at: int) -> bool:
    """A joiner or non-joiner that shapes the letters on both sides."""
    if text[at] not in (ZWJ, ZWNJ, "\u180e") or at == 0:
        return False
    before, after = text[at - 1], text[at + 1 : at + 2]
    if unicodedata.combining(before) == VIRAMA:
        return True
    script = _script(before)
    return script in JOINED_SCRIPTS and after != "" and _script(after) == script


def _is_flag(text: str, at: int) -> bool:
    """One of the tags after a black flag that make it the flag of a region, such as Wales, or the end of the tags."""
    if ord(text[at]) not in TAGS and text[at] != END_OF_TAGS:
        return False
    start = text.rfind(BLACK_FLAG, 0, at)
    end = text.find(END_OF_TAGS, start)
    return start >= 0 and at <= end and all(ord(tag) in TAGS for tag in text[start + 1 : end])


def _is_symbol(character: str, *categories: str) -> bool:
    return unicodedata.category(character) in categories


def _script(letter: str) -> str:
    if unicodedata.category(letter)[0] not in "LM":
        return ""
    return unicodedata.name(letter, "").partition(" ")[0]
