"""Which option an answer chooses: our strict reading, and how others score, their oddities included.

Every function takes the answer without the prompt's opening (`Best option:(`), which the official scripts put back or
leave away as they do.
"""

import re
from collections.abc import Sequence
from string import ascii_uppercase

_LEAD = re.compile(r"(?:the )?(?:best |correct |right )?(?:answer|option|choice)(?: is)?\s*:?\s*", re.IGNORECASE)
_LETTER_ALONE = re.compile(r"\(?([A-Za-z])\)?[.:,]?")
_LETTER_FIRST = re.compile(r"\(?([A-Za-z])(\)[.:,]?|[.:])?\s+(.+)")


def parse_choice(answer: str, options: Sequence[str]) -> str | None:
    """The letter of the option that an answer names; None where it names none, or may mean several.

    An answer names an option by its letter, with or without brackets, by its letter and more text, or by its full text;
    `The answer is` may stand before. A letter before other text counts only where it is marked as one (`A)`, `(A)`,
    `A.`, `A:`) or the text is its option's own, and where that text names no other option.
    """
    text = _plain(answer)
    lead = _LEAD.match(text)
    if lead and lead.end() < len(text):
        text = text[lead.end() :]
    texts = {letter: _plain(option).casefold() for letter, option in zip(ascii_uppercase, options, strict=False)}
    found = {letter for letter, option in texts.items() if _same(text, option)}
    if alone := _LETTER_ALONE.fullmatch(text):
        found.add(alone[1].upper())
    elif first := _LETTER_FIRST.fullmatch(text):
        letter, mark, rest = first[1].upper(), first[2], first[3]
        if letter in texts and (_same(rest, texts[letter]) or (mark and not _others(rest, letter, texts))):
            found.add(letter)
    return found.pop() if len(found) == 1 and found <= texts.keys() else None


def _others(rest: str, letter: str, texts: dict[str, str]) -> bool:
    """Whether a text names an option other than `letter`: its letter in capitals or brackets, or its full text."""
    for other, option in texts.items():
        if other == letter:
            continue
        named = rf"\({other}\)|(?<!\w){other}\)|(?<!\w){other}(?!\w)" if other != "A" else r"\(A\)|(?<!\w)A\)"
        if re.search(named, rest) or re.search(rf"(?<!\w){re.escape(option.rstrip('.'))}(?!\w)", rest.casefold()):
            return True
    return False


def _plain(text: str) -> str:
    return " ".join(text.split())


def _same(text: str, option: str) -> bool:
    return bool(option) and text.casefold().rstrip(".") == option.rstrip(".")


def official_mvbench(answer: str, right: str, option: str) -> bool:
    """MVBench's script. right: the letter; option: its text.

    The first word, its opening bracket put back, is right where it is a part of `(X)` or has `(X)` as a part. So an
    empty answer is right, whatever was asked.
    """
    said = ("(" + answer.strip().split("\n")[0]).lower().split(" ")[0]
    wanted = f"({right}) {option}".lower().split(" ")[0]
    return said.replace(".", "") in wanted or wanted in said


def official_mlvu(answer: str, right: str) -> bool:
    """MLVU's script: the character before the first closing bracket, or else the whole answer, is the letter."""
    end = answer.find(")")
    return (answer if end < 0 else answer[max(end - 1, 0) : end]) == right


def lmms_mvbench(answer: str, right: str) -> bool | None:
    """lmms-eval on MVBench: the first of A to E that stands alone, so that `a cup` is A. None: left out of the mean."""
    if answer == "":
        return None
    return _lmms_letter(answer) == _lmms_letter(right)


def lmms_mlvu(answer: str, right: str) -> bool:
    """lmms-eval on MLVU: the first capital A, B, C or D anywhere, so that `Dogs` is D and no E is ever right."""
    text = answer.strip()
    for prefix in _LMMS_PREFIXES:
        text = text.replace(prefix, "")
    found = re.search("[ABCD]", text)
    return found is not None and found[0] == right


# The last two are pairs that a comma is missing between, so none of the four is ever removed.
_LMMS_PREFIXES = (
    "The best answer is",
    "The correct answer is",
    "The answer is",
    "The answer",
    "The best option isThe correct option is",
    "Best answer:Best option:",
)
_LMMS_MARKS = ';/[]"{}()=+\\_->' + "<@`,?!"


def _lmms_letter(answer: str) -> str:
    text = answer.strip()
    if marked := re.match(r"([A-E])\.\s*(.+)$", text, re.IGNORECASE):
        return marked[1].upper()
    text = text.replace("\n", " ").replace("\t", " ")
    number = re.search(r"\d,\d", text) is not None
    cleaned = text
    for mark in _LMMS_MARKS:
        beside_space = f"{mark} " in text or f" {mark}" in text
        cleaned = cleaned.replace(mark, "" if beside_space or number else " ")
    cleaned = re.sub(r"\.(?!\d)", "", cleaned)
    cleaned = cleaned.strip().strip("'").strip('"').strip().lower()
    alone = re.search(r"\b([a-e])\b", cleaned)
    return alone[1].upper() if alone else cleaned
