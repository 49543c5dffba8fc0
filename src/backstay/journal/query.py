"""What a person types as a query of SQLite's full text (FTS5), and texts as it can search them.

Pure. Scripts without spaces are broken up, letter by letter, in texts and queries alike.
"""

from typing import Final

_GAP: Final = "\u200b"
"""A space without width: the tokenizer parts words at it."""


def match(words: str, *, prefixes: bool) -> str:
    """The query that asks for all these words; "" where there is none.

    `"several words"` stand together, `begin*` is the beginning of a word; anything else that a
    person may type is a word. `prefixes`: each word may be a beginning.
    """
    parts = []
    for index, piece in enumerate(words.split('"')):
        quoted = index % 2 == 1
        for word in [piece] if quoted else piece.split():
            text = broken_up(word.rstrip("*")).encode("utf-8", "replace").decode()
            if any(letter.isalnum() for letter in text):
                begins = not quoted and (prefixes or word.endswith("*"))
                parts.append(f'"{text}"' + ("*" if begins else ""))
    return " ".join(parts)


def broken_up(text: str) -> str:
    """The text with a gap behind each letter of a script that puts none between words."""
    if text.isascii():
        return text
    return "".join(letter + _GAP if _stands_alone(letter) else letter for letter in text)


def mended(text: str) -> str:
    """The text without the gaps."""
    return text.replace(_GAP, "")


def _stands_alone(letter: str) -> bool:
    """Kana and the ideographs; the scripts of South-East Asia."""
    code = ord(letter)
    return (
        0x3040 <= code <= 0x30FF
        or 0x3400 <= code <= 0x9FFF
        or 0xF900 <= code <= 0xFAFF
        or 0x20000 <= code <= 0x323AF
        or 0x0E00 <= code <= 0x0EFF
        or 0x1000 <= code <= 0x109F
        or 0x1780 <= code <= 0x17FF
    )
