"""From a conversation to the pieces of a prompt: chat templates and prompt layouts. No torch here."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from composer.errors import DataError
from composer.sample import Media, Message, Sample

Layout = Literal["media-first", "sandwich", "inline"]
"""Where a user turn's media go: before its text; between two copies of its text (VisualRWKV); where they are named."""


@dataclass(frozen=True)
class ChatTemplate:
    """The strings around each turn: prefix + text + suffix. An answer ends with `end`, which carries loss.

    `answer_lead` opens an answer and belongs to it (RWKV World: the space after "Assistant:"), so that turn-wise
    tokenisation equals joint tokenisation. `start` opens the whole text.
    """

    user_prefix: str
    user_suffix: str
    assistant_prefix: str
    end: str
    answer_lead: str = ""
    assistant_suffix: str = ""
    system_prefix: str = ""
    system_suffix: str = ""
    start: str = ""


WORLD = ChatTemplate(
    user_prefix="User: ",
    user_suffix="\n\n",
    assistant_prefix="Assistant:",
    answer_lead=" ",
    end="\n\n",
    system_prefix="System: ",
    system_suffix="\n\n",
)
"""RWKV World's template; stops at a blank line."""

CHATML = ChatTemplate(
    user_prefix="<|im_start|>user\n",
    user_suffix="<|im_end|>\n",
    assistant_prefix="<|im_start|>assistant\n",
    end="<|im_end|>",
    assistant_suffix="\n",
    system_prefix="<|im_start|>system\n",
    system_suffix="<|im_end|>\n",
)
"""ChatML, as Qwen and many others use it."""


class Piece(NamedTuple):
    """A run of text to be tokenised as one string, or one media; `loss` where the model is trained to say it."""

    content: str | Media
    loss: bool = False


def split_question(sample: Sample) -> tuple[Sample, str]:
    """A sample without its last assistant turn, and that turn's text ("" where the last turn is the user's).

    Raises DataError where no user turn is left to be answered.
    """
    messages, answer = sample.messages, ""
    if messages and messages[-1].role == "assistant":
        answer = "".join(part for part in messages[-1].content if isinstance(part, str)).strip()
        messages = messages[:-1]
    if not messages or messages[-1].role != "user":
        raise DataError(f"{sample.source}: sample {sample.id!r} has no question: its last turn must be the user's.")
    return Sample(sample.id, sample.source, messages, sample.meta), answer


def pieces(
    sample: Sample, layout: Layout, template: ChatTemplate, *, answer: bool = False, opening: str = ""
) -> list[Piece]:
    """A conversation as pieces in reading order, neighbouring texts of equal loss joined.

    answer: the conversation ends with a user turn that the model is to answer, so the prompt ends with the opening of
    an assistant turn. opening: text that the answer begins with, put into the model's mouth.
    """
    assert answer or not opening, "an opening belongs to an answer that is still to be given"
    found = [Piece(template.start)]
    for message in sample.messages:
        found.extend(_turn(message, layout, template, sample))
    if answer:
        # The lead belongs to the answer: without an opening the model says it itself.
        found.append(Piece(template.assistant_prefix + (template.answer_lead + opening if opening else "")))
    return list(_joined(found))


def _turn(message: Message, layout: Layout, template: ChatTemplate, sample: Sample) -> Iterator[Piece]:
    if message.role == "user":
        yield Piece(template.user_prefix)
        yield from (Piece(part) for part in _arranged(message.content, layout))
        yield Piece(template.user_suffix)
        return
    if any(isinstance(part, Media) for part in message.content):
        raise DataError(f"{sample.source}: sample {sample.id!r} has media in a turn of the {message.role}.")
    text = "".join(part for part in message.content if isinstance(part, str)).strip()
    if message.role == "system":
        yield Piece(template.system_prefix + text + template.system_suffix)
    else:
        yield Piece(template.assistant_prefix)
        yield Piece(template.answer_lead + text + template.end, loss=True)
        yield Piece(template.assistant_suffix)


def _arranged(content: Sequence[str | Media], layout: Layout) -> list[str | Media]:
    """A user turn's text and media in the order that the layout asks for."""
    media = [part for part in content if isinstance(part, Media)]
    if layout == "inline" or not media:
        return list(content)
    text = "".join(part for part in content if isinstance(part, str)).strip()
    if not text:
        return list(media)
    before = [text + "\n"] if layout == "sandwich" else []
    return [*before, *media, "\n" + text]


def _joined(found: Sequence[Piece]) -> Iterator[Piece]:
    text, loss = "", False
    for piece in found:
        if isinstance(piece.content, str) and piece.loss == loss:
            text += piece.content
            continue
        if text:
            yield Piece(text, loss)
        text, loss = "", False
        if isinstance(piece.content, str):
            text, loss = piece.content, piece.loss
        else:
            yield piece
    if text:
        yield Piece(text, loss)
