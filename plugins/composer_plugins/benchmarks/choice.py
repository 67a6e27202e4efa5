"""Parsers of multiple-choice answers: our strict one, and exact copies of others, including their quirks.

Every function takes the answer without the prompt's opening (`Best option:(`), which the official scripts put back or
leave away as they do.
"""

import re
from collections.abc import Sequence
from string import ascii_uppercase

_LEAD = re.compile(r"(?:the )?(?:best |correct |right )?(?:answer|option|choice)\b(?: is\b)?\s*:?\s*", re.IGNORECASE)
_LETTER_ALONE = re.compile(r"\(?([A-Za-z])\)?[.:,]?")
_LETTER_FIRST = re.compile(r"\(?([A-Za-z])(?:(\)[.:,]?\s*|[.:]\s+)|[.:,]\s*|\s+)(.+)")


def parse_choice(answer: str, options: Sequence[str]) -> str | None:
    """Return the letter of the option that an answer names; None if it names none, or is ambiguous.

    An answer names an option by its letter, with or without brackets, by its letter and more text, or by its full text;
    `The answer is` may stand before. A letter before other text counts only where it is marked as one (`A)`, `(A)`,
    `A. `, `A: `) or the text is its option's own (`A.red`, `A, red`), and where that text names no other option.
    """
    whole = text = _plain(answer)
    lead = _LEAD.match(text)
    if lead and lead.end() < len(text):
        text = text[lead.end() :]
    texts = {letter: _plain(option).casefold() for letter, option in zip(ascii_uppercase, options, strict=False)}
    found = {letter for letter, option in texts.items() if _same(whole, option) or _same(text, option)}
    if alone := _LETTER_ALONE.fullmatch(text):
        found |= {alone[1].upper()} & texts.keys()
    elif first := _LETTER_FIRST.fullmatch(text):
        letter, mark, rest = first[1].upper(), first[2], first[3]
        if letter in texts and (_same(rest, texts[letter]) or (mark and not _others(rest, letter, texts))):
            found.add(letter)
    return found.pop() if len(found) == 1 else None


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
    """lmms-eval 0.7.3 on MVBench: the first of A to E that stands alone: `a cup` is A. None: in no mean."""
    if answer == "":
        return None
    return _lmms_letter(answer) == _lmms_letter(right)


def lmms_mlvu(answer: str, right: str) -> bool:
    """lmms-eval 0.7.3 on MLVU: capital A to D in the surest of its forms, so that no E is ever right.

    The forms, surest first: alone at the start, alone at the end, somewhere after the first `the answer is` or another
    such phrase, `(A)`, `A.`, `A:`, `A)`, before a space, anywhere (`Dogs` is D). The last letter of a form counts.
    """
    return _lmms_ranked(answer) == right


def _lmms_ranked(answer: str) -> str:
    """The letter, or "" if there is none."""
    text = answer.strip()
    for mark in ",.!?;:'\"":
        text = text.strip(mark)
    bare = text.strip()
    for letter, neighbor in ((bare[:1], bare[1:2]), (bare[-1:], bare[-2:-1])):
        if letter in _LMMS_LETTERS and not neighbor.isalpha():
            return letter
    text = f" {text} "
    lower = text.lower()
    said = [lower.find(phrase) + len(phrase) for phrase in _LMMS_PHRASES if phrase in lower]
    places = [{text.find(letter, start): letter for start in said for letter in _LMMS_LETTERS}]
    places += [{text.rfind(form.format(letter)): letter for letter in _LMMS_LETTERS} for form in _LMMS_FORMS]
    for found in places:
        if (last := max(found, default=-1)) >= 0:
            return found[last]
    return ""


_LMMS_LETTERS = ("A", "B", "C", "D")
_LMMS_FORMS = ("({})", "{}.", "{}:", "{})", "{} ", "{}")
_LMMS_PHRASES = (
    *(
        f"{article}{noun} is"
        for article in ("the ", "")
        for noun in (
            *("answer", "correct answer", "best answer"),
            *("correct option", "best option", "choice", "correct choice"),
        )
    ),
    *("i choose", "i select", "i pick", "my answer is", "my choice is"),
    *("옵션", "정답은", "답은", "답:", "答案是", "答案为", "选", "答えは"),
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
