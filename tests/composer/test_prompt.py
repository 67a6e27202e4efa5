"""Pieces of a prompt, written out by hand for each layout and template."""

import pytest

from composer.errors import DataError
from composer.prompt import CHATML, WORLD, Piece, pieces, split_question
from composer.sample import Media, Message, Sample

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
