"""What a text that strangers see beside other texts may hold: titles and descriptions, and the body of a post.

A title stands in lists, in links and in the console of a reviewer, so it must not move, hide or cover what stands
beside it: no control or direction characters, no towers of combining marks, nothing that is not assigned. The joiners
U+200C and U+200D are letters' business in Persian, Hindi and in emoji, and pass. A body is long and has a frame of
its own; only what no text has is refused there.
"""

import unicodedata
from typing import Final

MAX_MARKS: Final = 4

_JOINERS: Final = "\u200c\u200d"
_REFUSED: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})
_MARKS: Final = frozenset({"Mn", "Me"})
_EMOJI_BLOCKS: Final = range(0x1F000, 0x1FB00)  # emoji are newer than any Python that runs here


class TextError(ValueError):
    """A text holds what it may not; the sentence says what."""


def check_line(text: str) -> None:
    """Check one line, such as a title.

    Raises:
        TextError.
    """
    if not text.strip():
        raise TextError("it is empty")
    _check(text, allowed="")


def check_lines(text: str) -> None:
    """Check a text of several lines, such as a description; it may be empty.

    Raises:
        TextError.
    """
    _check(text, allowed="\n")


def check_body(text: str, max_size_bytes: int) -> None:
    """Check the body of a post: not empty, not too large, and no control characters but newline and tab.

    Raises:
        TextError.
    """
    if not text.strip():
        raise TextError("it is empty")
    if len(text.encode()) > max_size_bytes:
        raise TextError(f"it is larger than {max_size_bytes} bytes")
    for character in text:
        if character not in "\n\r\t" and unicodedata.category(character) == "Cc":
            raise TextError(f"it contains the control character U+{ord(character):04X}")


def _check(text: str, allowed: str) -> None:
    if unicodedata.normalize("NFC", text) != text:
        raise TextError("it is not in the normal form NFC")
    marks = 0
    for character in text:
        category = unicodedata.category(character)
        if character in allowed or character in _JOINERS:
            continue
        if category in _REFUSED or (category == "Cn" and ord(character) not in _EMOJI_BLOCKS):
            raise TextError(f"it contains U+{ord(character):04X}, which has no place in it")
        marks = marks + 1 if category in _MARKS else 0
        if marks > MAX_MARKS:
            raise TextError(f"it has more than {MAX_MARKS} marks on one letter")
