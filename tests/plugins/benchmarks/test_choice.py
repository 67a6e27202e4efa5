"""Readings of an answer, each case by hand: ours, which never guesses, and others' as their code has them."""

import random
import re
from importlib.util import find_spec

import pytest

from composer_plugins.benchmarks.choice import (
    lmms_mlvu,
    lmms_mvbench,
    official_mlvu,
    official_mvbench,
    parse_choice,
)

CUPS = ("The red cup.", "A cup", "Both of them", "none")
RED = ("red", "blue", "answering the phone")
YES_NO = ("yes", "no")
LETTERS = ("b", "c", "a")


@pytest.mark.parametrize(
    ("answer", "options", "letter"),
    [
        ("A", CUPS, "A"),
        ("b", CUPS, "B"),
        ("(C)", CUPS, "C"),
        ("D)", CUPS, "D"),
        ("B.", CUPS, "B"),
        (" (B) \n", CUPS, "B"),
        ("A) The red cup.", CUPS, "A"),
        ("(A) the red cup", CUPS, "A"),
        ("A: The red cup", CUPS, "A"),
        ("A The red cup.", CUPS, "A"),
        ("A) because it moves", CUPS, "A"),
        ("none", CUPS, "D"),
        ("None.", CUPS, "D"),
        ("a cup", CUPS, "B"),
        ("Both  of\nthem", CUPS, "C"),
        ("The answer is (B).", CUPS, "B"),
        ("Best option: B", CUPS, "B"),
        ("The correct answer is none", CUPS, "D"),
        ("A)red", RED, "A"),
        ("(A)red.", RED, "A"),
        ("A)because it moves", RED, "A"),
        ("A.red", RED, "A"),
        ("A:red", RED, "A"),
        ("A, red", RED, "A"),
        ("Answering the phone", RED, "C"),
        ("A) Answering the phone", ("Answering the phone", "no"), "A"),
        ("Choice.", ("no", "choice"), "B"),
        ("e", ("l", "v", "e"), "C"),
        ("The answer is e.", ("l", "v", "e"), "C"),
        ("A) b", LETTERS, "A"),
        ("A)", LETTERS, "A"),
        # Nothing, or nothing that an option is named by.
        ("", CUPS, None),
        ("  \n", CUPS, None),
        (")", CUPS, None),
        ("E", CUPS, None),
        ("(E)", CUPS, None),
        ("C", YES_NO, None),
        ("a dog", CUPS, None),
        ("A dog", CUPS, None),
        ("Because it moves", CUPS, None),
        ("Dogs bark", CUPS, None),
        ("A)B", CUPS, None),
        ("the answer is", CUPS, None),
        ("", ("", "red"), None),
        (".", ("", "red"), None),
        ("Apple", RED, None),
        ("Answering A", RED, None),
        ("The answer island", ("land", "sea"), None),
        ("A.M. news", RED, None),
        ("b.c. 300", RED, None),
        ("A:b is 3:2", RED, None),
        ("A, a red one", RED, None),
        ("A, blue", RED, None),
        ("A.blue", RED, None),
        # Several.
        ("option A", ("red", "Option A"), None),
        ("A)blue", RED, None),
        ("A, B", RED, None),
        ("A or B", CUPS, None),
        ("(A) or (B)", CUPS, None),
        ("A) and B) too", CUPS, None),
        ("A) none", CUPS, None),
        ("B) A", CUPS, "B"),
        ("A) yes, not no", YES_NO, None),
        ("b", LETTERS, None),
        ("B", LETTERS, None),
        ("yes", ("yes", "yes"), None),
    ],
)
def test_the_strict_reading(answer: str, options: tuple[str, ...], letter: str | None) -> None:
    assert parse_choice(answer, options) == letter


def test_the_strict_reading_of_any_answer_names_what_it_says() -> None:
    """Whatever is read stands there: its letter apart from other letters and digits, or its option's text."""
    draw = random.Random(0)
    options = ("red", "a dog", "answer", "E", "no. 2")
    pieces = [*"ABCDEabcde().:, ", "the answer is ", "option", "is", *options, "Apple", "not"]
    read = 0
    for _ in range(50_000):
        answer = "".join(draw.choices(pieces, k=draw.randint(1, 6)))
        letter = parse_choice(answer, options)
        if letter is not None:
            read += 1
            text = re.escape(options["ABCDE".index(letter)])
            named = rf"(?<![^\W_])(?:{letter}|{text})(?![^\W_])"
            assert re.search(named, answer, re.IGNORECASE), answer
    assert read > 5_000


@pytest.mark.parametrize(
    ("answer", "right", "option", "score"),
    [
        ("A) The red cup", "A", "The red cup", True),
        ("A", "A", "x", True),
        ("A.", "A", "x", True),
        ("B) x", "A", "x", False),
        ("a) x", "A", "x", True),
        ("", "A", "x", True),
        ("", "D", "x", True),
        (" lots of words", "B", "x", False),
        ("\nB)", "B", "x", True),
        ("The red cup", "A", "The red cup", False),
        ("B)\nA)", "A", "x", False),
    ],
)
def test_the_official_reading_of_mvbench(answer: str, right: str, option: str, score: bool) -> None:
    assert official_mvbench(answer, right, option) is score


@pytest.mark.parametrize(
    ("answer", "right", "score"),
    [
        ("B", "B", True),
        ("B) a dog", "B", True),
        ("(B)", "B", True),
        ("the (B) or (C)", "B", True),
        ("b", "B", False),
        ("B.", "B", False),
        ("", "B", False),
        (")", "B", False),
        ("F) six", "F", True),
    ],
)
def test_the_official_reading_of_mlvu(answer: str, right: str, score: bool) -> None:
    assert official_mlvu(answer, right) is score


@pytest.mark.parametrize(
    ("answer", "right", "score"),
    [
        ("B. a dog", "B", True),
        ("a cup", "A", True),
        ("it is a dog", "A", True),
        ("(C)", "C", True),
        ("c", "C", True),
        ("f", "F", True),
        ("", "A", None),
        (" ", "A", False),
        ("dogs", "D", False),
        ("A,B", "A", True),
    ],
)
def test_lmms_eval_on_mvbench(answer: str, right: str, score: bool | None) -> None:
    assert lmms_mvbench(answer, right) is score


@pytest.mark.parametrize(
    ("answer", "letter"),
    [  # what lmms-eval 0.7.3's own function says
        ("B", "B"),
        ("Dogs", "D"),
        ("The answer is C", "C"),
        ("E", ""),
        ("E) Both", "B"),
        ("Best option: C", "C"),
        ("a", ""),
        ("", ""),
        ("Answer: C", "C"),
        ("Both of them. The answer is C", "C"),
        ("The man in Black (C)", "C"),
        ("After that, B", "B"),
        ("B) a dog", "B"),
        ("A or B", "A"),
        ("(A) no, (D) yes", "D"),
        ("A: no. B: yes", "A"),
        ("The answer is B because Dogs bark", "D"),
        ("I pick the (B) one, not C", "C"),
        ("答案是C", "C"),
        ("It is A. Then B) or (C) x", "C"),
        ("  .'C'. ", "C"),
        ("Because", "B"),
        ("C it may be D x", "C"),
        ("My choice is E", ""),
        ("No Answer", "A"),
        ("x A. y B. z", "B"),
        ("x A: y B: z", "B"),
        ("x A) y B) z", "B"),
        ("x A y B z", "B"),
        ("bad Cat", "C"),
        ("The best choice is A x or D x", "D"),
        ("C.", "C"),
        (" ) ", ""),
        ("A,B", "A"),
        ("the option is B x", "B"),
        ("DVD", "D"),
        ("(E) it is", ""),
        ("not A. but b", "A"),
    ],
)
def test_lmms_eval_on_mlvu(answer: str, letter: str) -> None:
    assert [right for right in "ABCDE" if lmms_mlvu(answer, right)] == list(letter)


@pytest.mark.skipif(find_spec("lmms_eval") is None, reason="lmms-eval has an environment of its own")
def test_lmms_evals_own_functions_agree() -> None:
    from lmms_eval.tasks._task_utils.mcq_extract import extract_mcq_answer
    from lmms_eval.tasks.mvbench.utils import mcq_acc

    draw = random.Random(0)
    words = ["the answer is", "The best option is ", " i pick ", "My choice is", "选", "Dogs"]
    pieces = [*"ABCDEabcd()..::,;!?'\" \n0", *words]
    for _ in range(20_000):
        answer = "".join(draw.choices(pieces, k=draw.randint(1, 9)))
        letter = extract_mcq_answer(answer, choices=list("ABCD"))
        assert [right for right in "ABCDE" if lmms_mlvu(answer, right)] == list(letter), answer
        assert [lmms_mvbench(answer, right) for right in "AE"] == [mcq_acc(right, answer) for right in "AE"], answer
