"""Texts that look alike: one spelling for comparing them, and the marks in them that nobody sees."""

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
VIRAMA: Final = 9  # the combining class of what joins the consonants of Indian scripts
# Hangul fillers are letters that show nothing; old Korean needs them, no name of today does.
FILLERS: Final = frozenset("\u115f\u1160\u3164\uffa0")
# Shown by nothing of their own, though Unicode does not count them among the format characters.
OTHER_INVISIBLE: Final = (
    FILLERS
    | {"\u034f", "\u17b4", "\u17b5", "\u180b", "\u180c", "\u180d", "\u180f"}
    | {chr(code) for span in (range(0xFE00, 0xFE10), range(0xE0100, 0xE01F0)) for code in span}
)
# The first words of the Unicode names of letters whose scripts are written with joiners in the midst of words.
JOINED_SCRIPTS: Final = frozenset(
    [
        *("ARABIC", "SYRIAC", "MANDAIC", "NKO", "MONGOLIAN", "DEVANAGARI", "BENGALI", "GURMUKHI", "GUJARATI", "ORIYA"),
        *("TAMIL", "TELUGU", "KANNADA", "MALAYALAM", "SINHALA", "KHMER", "MYANMAR", "TIBETAN", "BALINESE", "JAVANESE"),
    ]
)
# The dotless letters of Turkish and their dotted capitals: to others they look like those of the Latin alphabet.
DOTS: Final = str.maketrans({"\u0131": "i", "\u0237": "j", "\u0130": "i"})


def fold(text: str) -> str:
    """The same for all spellings that people take for the same: compatibility forms, case, dots, invisible marks."""
    if text.isascii():
        return text.lower()
    seen = without_invisible(unicodedata.normalize("NFKC", text))
    folded = unicodedata.normalize("NFKC", seen.translate(DOTS).casefold())
    return folded.replace("i\u0307", "i").replace("j\u0307", "j")


def is_invisible(character: str) -> bool:
    """Whether it shows nothing of its own, wherever it stands."""
    return unicodedata.category(character) == "Cf" or character in OTHER_INVISIBLE


def without_invisible(text: str) -> str:
    return "".join(character for character in text if not is_invisible(character))


def has_stray_marks(text: str) -> bool:
    """Whether there are format characters, or fillers, that neither an emoji nor the script around them needs."""
    return any(not (_joins_emoji(text, at) or _joins_letters(text, at) or _is_flag(text, at)) for at in _marks(text))


def _marks(text: str) -> Iterator[int]:
    # Variation selectors are not among them: they choose how the character before them looks.
    for at, character in enumerate(text):
        if unicodedata.category(character) == "Cf" or character in FILLERS:
            yield at


def _joins_emoji(text: str, at: int) -> bool:
    """A joiner between two emoji, as in 👩‍🚀; the first may be of a colour, or have its style after it."""
    if text[at] != ZWJ:
        return False
    before = at - 1
    while before > 0 and (text[before] == EMOJI_STYLE or ord(text[before]) in SKIN_TONES):
        before -= 1
    after = text[at + 1 : at + 2]
    # Arrows, as in a head that is shaken, are mathematical symbols to Unicode.
    return before >= 0 and _is_symbol(text[before], "So") and after != "" and _is_symbol(after, "So", "Sm")


def _joins_letters(text: str, at: int) -> bool:
    """A joiner, or what forbids joining, that decides about the shape of the letters on its sides."""
    if text[at] not in (ZWJ, ZWNJ, "\u180e") or at == 0:
        return False
    before, after = text[at - 1], text[at + 1 : at + 2]
    if unicodedata.combining(before) == VIRAMA:
        return True
    script = _script(before)
    return script in JOINED_SCRIPTS and after != "" and _script(after) == script


def _is_flag(text: str, at: int) -> bool:
    """One of the tags behind a black flag that make it the flag of a region, such as Wales; the last one ends them."""
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
