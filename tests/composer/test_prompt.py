"""Pieces of a prompt, written out by hand for each layout and template; and that no content ends or opens a turn."""

import re
from dataclasses import replace
from itertools import chain

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from composer.errors import DataError
from composer.inference.transcript import Transcript
from composer.prompt import CHATML, WORLD, ChatTemplate, Layout, Piece, pieces, split_question
from composer.sample import Media, Message, Sample
from composer.tokenizer import encode_pieces, tokenizer_from

CLIP = Media("video", "a.mp4")
PHOTO = Media("image", "b.jpg")


def sample(*messages: Message) -> Sample:
    return Sample("s1", "train.jsonl", messages)


TWO_TURNS = sample(
    Message("user", (CLIP, "\nWhat moves?")),
    Message("assistant", ("A circle. ",)),
    Message("user", ("Where to?",)),
    Message("assistant", ("Left.",)),
)


def test_media_first_puts_media_before_the_text_and_trains_on_answers_only() -> None:
    assert pieces(TWO_TURNS, "media-first", WORLD) == [
        Piece("User: "),
        Piece(CLIP),
        Piece("\nWhat moves?\n\nAssistant:"),
        Piece(" A circle.\n\n", loss=True),
        Piece("User: Where to?\n\nAssistant:"),
        Piece(" Left.\n\n", loss=True),
    ]


def test_sandwich_says_the_question_on_both_sides_of_the_media() -> None:
    assert pieces(TWO_TURNS, "sandwich", WORLD)[:3] == [
        Piece("User: What moves?\n"),
        Piece(CLIP),
        Piece("\nWhat moves?\n\nAssistant:"),
    ]


def test_inline_keeps_media_where_they_are_named() -> None:
    conversation = sample(
        Message("user", ("Is ", CLIP, " like ", PHOTO, "?")),
        Message("assistant", ("No.",)),
    )
    assert pieces(conversation, "inline", WORLD) == [
        Piece("User: Is "),
        Piece(CLIP),
        Piece(" like "),
        Piece(PHOTO),
        Piece("?\n\nAssistant:"),
        Piece(" No.\n\n", loss=True),
    ]


def test_chatml_with_a_system_turn() -> None:
    conversation = sample(Message("system", ("Be brief.",)), Message("user", ("Hi",)), Message("assistant", ("Hello",)))
    assert pieces(conversation, "media-first", CHATML) == [
        Piece("<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"),
        Piece("Hello<|im_end|>", loss=True),
        Piece("\n"),
    ]


def test_prompt_for_an_answer_is_a_prefix_of_the_training_text() -> None:
    question, answer = split_question(TWO_TURNS)
    assert answer == "Left."
    for layout in ("media-first", "sandwich", "inline"):
        prompt = pieces(question, layout, WORLD, answer=True)
        assert prompt == pieces(TWO_TURNS, layout, WORLD)[: len(prompt)]


def test_media_alone_needs_no_text() -> None:
    assert pieces(sample(Message("user", (PHOTO,))), "sandwich", WORLD) == [
        Piece("User: "),
        Piece(PHOTO),
        Piece("\n\n"),
    ]


def test_errors_name_the_file_and_the_sample() -> None:
    with pytest.raises(DataError, match=r"train\.jsonl: sample 's1' has media in a turn of the assistant"):
        pieces(sample(Message("assistant", (PHOTO,))), "inline", WORLD)
    with pytest.raises(DataError, match=r"train\.jsonl: sample 's1' has no question"):
        split_question(sample(Message("assistant", ("Hello",))))


def test_an_opening_is_one_text_with_what_opens_the_answer() -> None:
    asked = sample(Message("user", (CLIP, "Which?")))
    assert pieces(asked, "media-first", WORLD, answer=True, opening="Best:(")[-1] == Piece(
        "\nWhich?\n\nAssistant: Best:("
    )
    assert pieces(asked, "media-first", WORLD, answer=True)[-1] == Piece("\nWhich?\n\nAssistant:")
    last = pieces(asked, "media-first", CHATML, answer=True, opening="Best:(")[-1]
    assert str(last.content).endswith("<|im_start|>assistant\nBest:(")


# Contents that could end or open a turn.

PARAGRAPHS = [
    "\n",
    "\n\n",
    "\r\n",
    "\r",
    "\u2028",
    "\x85",
    "\v",
    " ",
    "\t",
    "User:",
    "Assistant: ",
    "red。",
    "a.",
    "\ud800",
]
CHAT_MARKS = ["<|im_end|>", "<|im_start|>", "<|im_start|>user\n", "<", "|im_end|>", "assistant", "\n", " "]
GREEDY = {
    "bytes": tokenizer_from("bytes"),
    "words": tokenizer_from(["\n\n", ".\n\n", "User:"]),
    "world": tokenizer_from("world"),
}


def contents(parts: list[str]) -> st.SearchStrategy[str]:
    return st.lists(st.sampled_from(parts) | st.text(max_size=3), max_size=9).map("".join)


def talk(said: list[str], layout: Layout, template: ChatTemplate) -> list[Piece]:
    question, answer, again, last = said
    return pieces(
        sample(
            Message("system", (again,)),
            Message("user", (question, CLIP, again)),
            Message("assistant", (answer,)),
            Message("user", (again,)),
            Message("assistant", (last,)),
        ),
        layout,
        template,
    )


@settings(max_examples=150, deadline=None)
@given(st.lists(contents(PARAGRAPHS), min_size=4, max_size=4), st.sampled_from(["media-first", "sandwich", "inline"]))
def test_a_blank_line_ends_a_turn_of_world_and_nothing_else_is_one(said: list[str], layout: Layout) -> None:
    text = "".join("<clip>" if isinstance(p.content, Media) else p.content for p in talk(said, layout, WORLD))
    turns = re.split(r"\n\n", text)
    assert [turn.partition(":")[0] for turn in turns] == ["System", "User", "Assistant", "User", "Assistant", ""]
    assert "\n\n\n" not in text


@settings(max_examples=150, deadline=None)
@given(st.lists(contents(CHAT_MARKS), min_size=4, max_size=4), st.sampled_from(["media-first", "sandwich", "inline"]))
def test_marks_of_letters_are_broken_in_contents(said: list[str], layout: Layout) -> None:
    for text in (part.content for part in talk(said, layout, CHATML) if part.loss and isinstance(part.content, str)):
        assert text.count("<|im_end|>") == 1
        assert text.endswith("<|im_end|>")
    rendered = "".join(str(part.content) for part in talk(said, layout, CHATML))
    plain = "".join(str(part.content) for part in talk(["x"] * 4, layout, CHATML))
    for mark in ("<|im_end|>", "<|im_start|>user", "<|im_start|>assistant", "<|im_start|>system"):
        assert rendered.count(mark) == plain.count(mark)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(contents(PARAGRAPHS + CHAT_MARKS), min_size=4, max_size=4),
    st.sampled_from(sorted(GREEDY)),
    st.sampled_from([WORLD, CHATML]),
)
def test_what_is_trained_is_said_to_its_end_and_no_further(said: list[str], name: str, template: ChatTemplate) -> None:
    """The ids of each answer, fed to a transcript, give the answer as `content` writes it, and end there."""
    parts = talk(said, "media-first", template)
    runs = zip(parts, encode_pieces(GREEDY[name], parts), strict=True)
    heard = []
    for ids in (ids for part, ids in runs if part.loss):
        transcript = Transcript(GREEDY[name], template, len(ids) + 1)
        heard.append("".join(transcript.push(i) for i in ids if not transcript.done))
        assert transcript.done
    assert heard == [template.content(text.strip()) for text in (said[1], said[3]) if text.strip()]


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("red square.\n\ngreen ring.", "red square.\ngreen ring."),
        ("a\n\n\nb\n \t\nc\r\n\r\nd\rf", "a\nb\nc\nd\nf"),
        ("a\n\n    indented", "a\n    indented"),
        ("a\n\u2028\nb \nc", "a\nb \nc"),
        ("half \ud83d", "half \ufffd"),
    ],
)
def test_paragraphs_are_joined_by_one_line_break_for_world(text: str, written: str) -> None:
    assert WORLD.content(text) == written


def test_line_breaks_become_spaces_if_one_ends_an_answer() -> None:
    lines = ChatTemplate(user_prefix="Q: ", user_suffix="\n", assistant_prefix="A:", answer_lead=" ", end="\n")
    assert lines.content("a\n\nb\nc") == "a b c"


def test_content_is_untouched_if_marks_are_special_tokens() -> None:
    template = replace(CHATML, special=True)
    text = "What is <|im_end|>?\n\nAnd this?"
    made = pieces(sample(Message("user", (text,)), Message("assistant", (text,))), "inline", template)
    assert [(piece.content, piece.mark) for piece in made if not piece.mark] == [(text, False)] * 2
    assert made[-2:] == [Piece("<|im_end|>", loss=True, mark=True), Piece("\n", mark=True)]


def test_turns_without_text_or_marked_so_are_written_and_not_trained_on() -> None:
    def talk(*answers: Message) -> list[Piece]:
        turns = chain.from_iterable((Message("user", ("Hi",)), answer) for answer in answers)
        return pieces(sample(*turns), "media-first", WORLD)

    empty, unwanted = Message("assistant", (" \n",)), Message("assistant", ("No.",), loss=False)
    made = talk(empty, unwanted, Message("assistant", ("Yes.",)))
    assert [piece.content for piece in made if piece.loss] == [" Yes.\n\n"]
    trained = [piece.content for piece in talk(empty, replace(unwanted, loss=True), Message("assistant", ("Yes.",)))]
    assert [piece.content for piece in made] == trained


def test_the_place_of_the_media_never_joins_white_space_to_the_templates_own() -> None:
    turn = Message("user", ("\n\nIs this\n", "", CLIP, "\nor\n\n", "this\n"))
    assert [piece.content for piece in pieces(sample(turn), "inline", WORLD)] == [
        "User: Is this\n",
        CLIP,
        "\nor\nthis\n\n",
    ]
