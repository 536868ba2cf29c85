"""Code pages: file names that an archive holds as bytes without saying what they mean. Touches no file.

macOS writes UTF-8 and does not say so; Windows writes the code page of its language. A reading is plausible where every
word of every name is of letters of one script, in the cases that words have.
"""

import re
import unicodedata
from collections.abc import Iterable

STANDARD = "cp437"
"""The code page of names that say nothing, by the format of zips."""
OTHERS = ("cp850", "cp852", "cp866", "cp1252", "cp1251", "shift_jis", "gb2312", "euc_kr", "big5")
"""Those of Windows: Western and Central Europe, Russian, Japanese, Chinese and Korean."""
WORDS = re.compile(r"[^\W\d_]+")
PUNCTUATION = frozenset("\u00a0¡¿·’‘“”–—…、。「」『』・（）！？")
JAPANESE = frozenset({"HIRAGANA", "KATAKANA", "CJK"})


def utf8(name: bytes) -> str | None:
    """The name where it is UTF-8, else None."""
    try:
        return name.decode()
    except UnicodeDecodeError:
        return None


def readings(names: Iterable[bytes]) -> dict[str, list[str]]:
    """By code page: what the names are in it, where that is plausible, one page for each reading.

    The standard's own page leaves no doubt where its reading is plausible.
    """
    names = list(names)
    found: dict[str, list[str]] = {}
    for page in (STANDARD, *OTHERS):
        try:
            read = [name.decode(page) for name in names]
        except UnicodeDecodeError:
            continue
        if all(map(_is_plausible, read)) and read not in found.values():
            found[page] = read
            if page == STANDARD:
                break
    return found


def spelled_out(name: bytes) -> str:
    """The name with the number of each byte that has no certain meaning: no word comes of it."""
    return "".join(chr(byte) if byte < 128 else f"_{byte}_" for byte in name)


def _is_plausible(name: str) -> bool:
    rest = WORDS.sub("", name)
    is_known = all(c.isascii() or c in PUNCTUATION or unicodedata.category(c)[0] == "M" for c in rest)
    return is_known and all(map(_is_word, WORDS.findall(name)))


def _is_word(word: str) -> bool:
    """Whether its letters are of one script, and its cases those of "word", "Word", "WORD" or "twoWords"."""
    scripts = {"LATIN" if c.isascii() else unicodedata.name(c, "?").split()[0] for c in word}
    if scripts == {"LATIN"} and len(word) > 2 and not re.search("[A-Za-z]", word):
        return False
    cases = "".join(_case(c) for c in word)
    return (len(scripts) == 1 or scripts <= JAPANESE) and not re.search("[lL]U|[uU][uU]L", cases)


def _case(letter: str) -> str:
    """ "u" or "l" for upper or lower case, as a capital where the letter is not ASCII; "-" for neither."""
    case = "u" if letter.isupper() else "l" if letter.islower() else "-"
    return case if letter.isascii() else case.upper()
