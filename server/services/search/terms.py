"""The normalised terms that find a user, and the same normalisation for queries."""

import re
import unicodedata
from collections.abc import Iterable, Iterator
from typing import Final

from server.lookalikes import fold
from server.models import PHONE, User

# The maximum length of a query: nothing beyond it can match.
TERM_LENGTH: Final = 100
# Forms without a space are for Korean, Chinese and Japanese names, which are short.
JOINED_LENGTH: Final = 40

# Calling codes of two digits. All others have three, except 1 and 7, whose countries write no national 0.
SHORT_CALLING_CODE: Final = re.compile(r"2[07]|3[0-469]|4[013-9]|5[1-8]|6[0-6]|8[1246]|9[0-58]")
NO_NATIONAL_ZERO: Final = ("1", "7")
# Hangul (jamo, compatibility jamo, extensions, syllables), Han with its extensions, Hiragana, Katakana, Bopomofo.
CJK: Final = re.compile(
    "[\u1100-\u11ff\u3040-\u318f\u31a0-\u31bf\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    "\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff\U00020000-\U0003ffff\u3005\u3007]"
)


def normalise(text: str) -> str:
    """One spelling for all texts that look the same, with single spaces."""
    return " ".join(fold(text).split())


def queries(text: str) -> list[str]:
    """The prefixes to look for: the text itself, and the digits of what looks like a phone number."""
    query = normalise(text)[:TERM_LENGTH]
    if not PHONE.fullmatch(query):
        return [query]
    digits = _digits(query)
    return [query] if digits == query else [query, digits]


def terms_of(user: User) -> set[str]:
    """Every term that a query may be a prefix of. Terms that are prefixes of others are left out."""
    return _indexed(_names_of(user) | _contacts_of(user))


def public_terms_of(user: User) -> set[str]:
    """As `terms_of`, without email and phone."""
    return _indexed(_names_of(user))


def shows_contact(user: User, query: str) -> bool:
    """Whether the prefix `query` finds this user by their email or phone."""
    return any(term[:TERM_LENGTH].startswith(query) for term in _contacts_of(user))


def may_be_contact(query: str) -> bool:
    """Whether it looks like a whole email or all digits of a phone."""
    return "@" in query or query.isdecimal()


def is_contact(user: User, query: str) -> bool:
    """Whether `query` is the whole email, or all digits of the phone."""
    phones = _phone_forms(normalise(user.phone)) if user.phone else ()
    return query == normalise(user.email) or query in phones


def matches(found: Iterable[str], query: str) -> bool:
    """Whether `query` is a prefix of one of these terms."""
    return any(term.startswith(query) for term in found)


def _names_of(user: User) -> set[str]:
    first, last = normalise(user.first_name), normalise(user.last_name)
    found = {normalise(user.id)}
    for name in _forms(first, last):
        found.update(_tails(name))
    return found


def _contacts_of(user: User) -> set[str]:
    found = set(_tails(normalise(user.email)))
    if user.phone:
        found.update(_phone_forms(normalise(user.phone)))
    return found


def _indexed(found: Iterable[str]) -> set[str]:
    return set(_longest(term[:TERM_LENGTH] for term in found if term))


def _forms(first: str, last: str) -> list[str]:
    forms = [f"{first} {last}", f"{last} {first}"]
    if len(first) + len(last) <= JOINED_LENGTH and CJK.search(first + last):
        forms += [first + last, last + first]
    return forms


def _tails(text: str) -> Iterator[str]:
    """The text from the beginning of each of its words on, and from each Korean, Chinese or Japanese character."""
    previous = " "
    for position, character in enumerate(text):
        if character == " ":
            pass
        elif previous == " " or CJK.match(character) or (_is_of_word(character) and not _is_of_word(previous)):
            yield text[position:]
        previous = character


def _phone_forms(phone: str) -> Iterator[str]:
    """The digits as given, and in national form: `+82 10-1234-5678` is `010-1234-5678` too."""
    digits = _digits(phone)
    yield digits
    if not phone.startswith("+") or digits.startswith(NO_NATIONAL_ZERO):
        return
    code = SHORT_CALLING_CODE.match(digits)
    national = digits[code.end() if code else 3 :].removeprefix("0")
    if national:
        yield f"0{national}"


def _is_of_word(character: str) -> bool:
    # Marks are part of words: the vowels of many Indian scripts are marks.
    return character.isalnum() or unicodedata.category(character).startswith("M")


def _digits(text: str) -> str:
    return "".join(character for character in text if character.isdecimal())


def _longest(found: Iterable[str]) -> Iterator[str]:
    previous = ""
    for term in sorted(found, reverse=True):
        # In descending order a prefix comes directly after the terms that begin with it.
        if not previous.startswith(term):
            yield term
            previous = term
