"""Parsers of multiple-choice answers: our strict one, and exact copies of others, including their quirks.

All functions take the answer without the prefill (`Best option:(`); those that copy an official script add it back if
the script does.
"""

import re
from collections.abc import Sequence
from string import ascii_uppercase

_LEAD = re.compile(r"(?:the )?(?:best |correct |right )?(?:answer|option|choice)\b(?: is\b)?\s*:?\s*", re.IGNORECASE)
_LETTER_ALONE = re.compile(r"\(?([A-Za-z])\)?[.:,]?")
_LETTER_FIRST = re.compile(r"\(?([A-Za-z])(?:(\)[.:,]?\s*|[.:]\s+)|[.:,]\s*|\s+)(.+)")


def parse_choice(answer: str, options: Sequence[str]) -> str | None:
    """Parse an answer strictly, without guessing.

    An answer names an option by its letter, with or without parentheses, by its letter and more text, or by its full
    text; it may start with `The answer is`. A letter before other text counts only if it is marked as a letter (`A)`,
    `(A)`, `A. `, `A: `) or the text is that of its option (`A.red`, `A, red`), and if the text names no other option.

    Args:
        answer: Generated text.
        options: Texts of the options A, B, ...

    Returns:
        The letter of the option; None if the answer names no option or is ambiguous.
    """
    full = text = _plain(answer)
    lead = _LEAD.match(text)
    if lead and lead.end() < len(text):
        text = text[lead.end() :]
    texts = {letter: _plain(option).casefold() for letter, option in zip(ascii_uppercase, options, strict=False)}
    letters = {letter for letter, option in texts.items() if _same(full, option) or _same(text, option)}
    if alone := _LETTER_ALONE.fullmatch(text):
        letters |= {alone[1].upper()} & texts.keys()
    elif first := _LETTER_FIRST.fullmatch(text):
        letter, mark, rest = first[1].upper(), first[2], first[3]
        if letter in texts and (_same(rest, texts[letter]) or (mark and not _names_another(rest, letter, texts))):
            letters.add(letter)
    return letters.pop() if len(letters) == 1 else None


def _names_another(rest: str, letter: str, texts: dict[str, str]) -> bool:
    """Return whether a text names another option: by its capital letter, in parentheses, or by its full text."""
    for other, option in texts.items():
        if other == letter:
            continue
        named = rf"\({other}\)|(?<!\w){other}\)|(?<!\w){other}(?!\w)" if other != "A" else r"\(A\)|(?<!\w)A\)"
        if re.search(named, rest) or re.search(rf"(?<!\w){re.escape(option.rstrip('.'))}(?!\w)", rest.casefold()):
            return True
    return False


def _plain(text: str) -> str:
    """Collapse white space."""
    return " ".join(text.split())


def _same(text: str, option: str) -> bool:
    """Compare a text with an option in lower case, ignoring a final period."""
    return bool(option) and text.casefold().rstrip(".") == option.rstrip(".")


def official_mvbench(answer: str, right: str, option: str) -> bool:
    """Grade an answer like MVBench's script.

    The first word, after an opening parenthesis, is correct if it is a substring of `(X)` or contains `(X)`. So an
    empty answer is always correct.

    Args:
        answer: Generated text.
        right: Correct letter.
        option: Text of the correct option.

    Returns:
        Whether the answer is correct.
    """
    word = ("(" + answer.strip().split("\n")[0]).lower().split(" ")[0]
    expected = f"({right}) {option}".lower().split(" ")[0]
    return word.replace(".", "") in expected or expected in word


def official_mlvu(answer: str, right: str) -> bool:
    """Grade an answer like MLVU's script: compare the character before the first `)`, or else the full answer."""
    end = answer.find(")")
    return (answer if end < 0 else answer[max(end - 1, 0) : end]) == right


def lmms_mvbench(answer: str, right: str) -> bool | None:
    """Grade an answer like lmms-eval 0.7.3 on MVBench: the first single letter A to E, so that `a cup` is A.

    Returns:
        Whether the answer is correct; None if it is empty, which excludes it from means.
    """
    if answer == "":
        return None
    return _lmms_letter(answer) == _lmms_letter(right)


def lmms_mlvu(answer: str, right: str) -> bool:
    """Grade an answer like lmms-eval 0.7.3 on MLVU: capital A to D in the first pattern that matches; E never counts.

    The patterns, in order: alone at the start, alone at the end, after the first `the answer is` or similar phrase,
    `(A)`, `A.`, `A:`, `A)`, before a space, anywhere (`Dogs` is D). The last letter of a pattern counts.
    """
    return _lmms_last_letter(answer) == right


def _lmms_last_letter(answer: str) -> str:
    """Return the letter by the patterns of `lmms_mlvu`, or "" if none matches."""
    text = answer.strip()
    for mark in ",.!?;:'\"":
        text = text.strip(mark)
    bare = text.strip()
    for letter, neighbor in ((bare[:1], bare[1:2]), (bare[-1:], bare[-2:-1])):
        if letter in _LMMS_LETTERS and not neighbor.isalpha():
            return letter
    text = f" {text} "
    lower = text.lower()
    starts = [lower.find(phrase) + len(phrase) for phrase in _LMMS_PHRASES if phrase in lower]
    places = [{text.find(letter, start): letter for start in starts for letter in _LMMS_LETTERS}]
    places += [{text.rfind(form.format(letter)): letter for letter in _LMMS_LETTERS} for form in _LMMS_FORMS]
    for letters in places:
        if (last := max(letters, default=-1)) >= 0:
            return letters[last]
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
    """Return the letter by the rules of `lmms_mvbench`, or else the cleaned text."""
    text = answer.strip()
    if marked := re.match(r"([A-E])\.\s*(.+)$", text, re.IGNORECASE):
        return marked[1].upper()
    text = text.replace("\n", " ").replace("\t", " ")
    number = re.search(r"\d,\d", text) is not None
    cleaned = text
    for mark in _LMMS_MARKS:
        next_to_space = f"{mark} " in text or f" {mark}" in text
        cleaned = cleaned.replace(mark, "" if next_to_space or number else " ")
    cleaned = re.sub(r"\.(?!\d)", "", cleaned)
    cleaned = cleaned.strip().strip("'").strip('"').strip().lower()
    alone = re.search(r"\b([a-e])\b", cleaned)
    return alone[1].upper() if alone else cleaned
