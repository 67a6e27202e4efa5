"""Chat templates and prompt layouts: a conversation as pieces of a prompt. Does not import torch."""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Literal, NamedTuple

from composer.errors import DataError
from composer.sample import Media, Message, Sample

LINE_BREAK = re.compile(r"\r\n?")
BLANK_LINES = re.compile(r"\n(\s*\n)+")
SURROGATES = re.compile("[\ud800-\udfff]")
"""Halves of surrogate pairs, which JSON can contain and tokenizers cannot encode."""

Role = Literal["system", "user", "assistant"]

Layout = Literal["media-first", "sandwich", "inline"]
"""Position of a user turn's media: before its text, between two copies of it (VisualRWKV), or at their placeholders."""


class Frame(NamedTuple):
    """The strings around one turn: before + lead + text + end + after. An assistant generates lead, text and end."""

    before: str = ""
    lead: str = ""
    end: str = ""
    after: str = ""


class Template(ABC):
    """Text format of a conversation.

    Attributes:
        end: Text that ends an answer.
        answer_lead: Text that starts an answer and is part of it (RWKV World: the space after "Assistant:").
        special: Whether marks are special tokens, which content cannot produce.
        takes_system: Whether system turns exist; otherwise a system text is prepended to the first user turn.
    """

    end: str
    answer_lead: str
    special: bool
    takes_system: bool = True

    @property
    @abstractmethod
    def marks(self) -> tuple[str, ...]:
        """Marks of ordinary characters, which content could contain."""

    @abstractmethod
    def frames(self, roles: Sequence[Role], *, answer: bool) -> Sequence[Frame]:
        """Return the frame of each turn.

        Args:
            roles: Roles of the turns.
            answer: Whether the text ends with the start of an assistant turn, for generation.

        Raises:
            DataError: If turns of these roles cannot be rendered.
        """

    def content(self, text: str) -> str:
        """Return the text of a turn, escaped so that it cannot end or start a turn.

        If blank lines (line breaks) end an answer, they become line breaks (spaces), as in RWKV's (VisualRWKV's) data.
        Marks of ordinary characters get a space after the first character.
        """
        text = SURROGATES.sub("\ufffd", text)
        if not self.end.strip():
            text = BLANK_LINES.sub("\n", LINE_BREAK.sub("\n", text))
            return text if "\n\n" in self.end else text.replace("\n", " ")
        while any(mark in text for mark in self.marks):
            for mark in self.marks:
                text = text.replace(mark, f"{mark[0]} {mark[1:]}" if len(mark) > 1 else " ")
        return text


@dataclass(frozen=True)
class ChatTemplate(Template):
    """A template with fixed strings per role: prefix + text + suffix. `start` precedes the first turn.

    With `answer_lead`, tokenizing by turn gives the same ids as tokenizing the complete text.
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
    special: bool = False

    @property
    def marks(self) -> tuple[str, ...]:
        # If white space ends an answer, every turn starts after it, so the name of a role in content has no effect.
        strings = (self.end, self.user_prefix, self.user_suffix, self.assistant_prefix, self.system_prefix)
        return () if self.special or not self.end.strip() else distinct_lines(strings)

    def frames(self, roles: Sequence[Role], *, answer: bool) -> list[Frame]:
        turns = {
            "system": Frame(self.system_prefix, after=self.system_suffix),
            "user": Frame(self.user_prefix, after=self.user_suffix),
            "assistant": Frame(self.assistant_prefix, self.answer_lead, self.end, self.assistant_suffix),
        }
        frames = [turns[role] for role in roles]
        if frames:
            frames[0] = frames[0]._replace(before=self.start + frames[0].before)
        if answer:
            frames[-1] = frames[-1]._replace(after=frames[-1].after + self.assistant_prefix)
        return frames


def distinct_lines(strings: Iterable[str]) -> tuple[str, ...]:
    """Return the distinct non-blank lines of strings, stripped, longest first."""
    lines = {line.strip() for string in strings for line in string.splitlines()}
    return tuple(sorted(lines - {""}, key=lambda line: (-len(line), line)))


WORLD = ChatTemplate(
    user_prefix="User: ",
    user_suffix="\n\n",
    assistant_prefix="Assistant:",
    answer_lead=" ",
    end="\n\n",
    system_prefix="System: ",
    system_suffix="\n\n",
)
"""RWKV World's template; a blank line ends an answer."""

CHATML = ChatTemplate(
    user_prefix="<|im_start|>user\n",
    user_suffix="<|im_end|>\n",
    assistant_prefix="<|im_start|>assistant\n",
    end="<|im_end|>",
    assistant_suffix="\n",
    system_prefix="<|im_start|>system\n",
    system_suffix="<|im_end|>\n",
)
"""ChatML, used by Qwen and many other models."""


class Piece(NamedTuple):
    """A text or media item.

    Attributes:
        loss: Whether the model is trained on it.
        mark: Whether it is text of the template, in which names of special tokens are encoded as these tokens.
    """

    content: str | Media
    loss: bool = False
    mark: bool = False


def split_question(sample: Sample) -> tuple[Sample, str]:
    """Split a sample into question and answer.

    Args:
        sample: The sample.

    Returns:
        The sample without its last assistant turn, and the text of that turn ("" if the last turn is the user's).

    Raises:
        DataError: If the remaining conversation does not end with a user turn.
    """
    messages, answer = sample.messages, ""
    if messages and messages[-1].role == "assistant":
        answer = "".join(part for part in messages[-1].content if isinstance(part, str)).strip()
        messages = messages[:-1]
    if not messages or messages[-1].role != "user":
        raise DataError(f"{sample.source}: sample {sample.id!r} has no question: its last turn must be the user's")
    return Sample(sample.id, sample.source, messages, sample.meta), answer


def pieces(
    sample: Sample, layout: Layout, template: Template, *, answer: bool = False, opening: str = ""
) -> list[Piece]:
    """Convert a conversation to pieces in reading order; adjacent texts of the same kind are joined.

    Assistant turns that are empty or have `loss=False` are included without loss.

    Args:
        sample: The conversation.
        layout: Position of media in user turns.
        template: Chat template.
        answer: Whether the prompt ends with the start of an assistant turn, for generation.
        opening: Text that the generated answer starts with; requires `answer`.

    Raises:
        DataError: If the template cannot render the conversation, or a turn other than the user's has media.
    """
    assert answer or not opening, "opening requires answer"
    messages = sample.messages if template.takes_system else _without_system(sample, layout)
    try:
        frames = template.frames([message.role for message in messages], answer=answer)
    except DataError as error:
        raise DataError(f"{sample.source}: sample {sample.id!r}: {error}") from None
    context: list[Piece] = []
    result: list[Piece] = []
    for message, frame in zip(messages, frames, strict=True):
        context.append(Piece(frame.before, mark=template.special))
        if message.role == "user":
            context += _user_turn(message, layout, template)
        elif message.role == "system":
            context += _text_turn(message, frame, template, sample)
        else:
            # Answers are not joined with adjacent texts, so that their ids do not depend on their loss.
            result += [*_join_texts(context), *_join_texts(_text_turn(message, frame, template, sample))]
            context = []
        context.append(Piece(frame.after, mark=template.special))
    if opening:
        # The lead is part of the answer: without an opening the model generates it.
        context += [Piece(template.answer_lead, mark=template.special), Piece(template.content(opening))]
    return [*result, *_join_texts(context)]


def _without_system(sample: Sample, layout: Layout) -> tuple[Message, ...]:
    """Turns with the system text prepended to the first user turn."""
    system = "\n\n".join(_text(message) for message in sample.messages if message.role == "system")
    messages = [message for message in sample.messages if message.role != "system"]
    first = next((position for position, message in enumerate(messages) if message.role == "user"), None)
    if system and first is None:
        raise DataError(
            f"{sample.source}: sample {sample.id!r} has a system text but no user turn, expected one: the model's chat "
            "template has no system turns, so the text is prepended to the first user turn"
        )
    if system and first is not None:
        content = messages[first].content
        if layout != "inline":  # the text is one block, which keeps its line breaks
            content = *(part for part in content if isinstance(part, Media)), _text(messages[first])
        messages[first] = replace(messages[first], content=(system + "\n\n", *content))
    return tuple(messages)


def _user_turn(message: Message, layout: Layout, template: Template) -> Iterator[Piece]:
    parts = _merge_texts(_arrange(message.content, layout))
    for position, part in enumerate(parts):
        if isinstance(part, str):
            # White space at the edges would merge with that of the template.
            part = part.lstrip() if position == 0 else part
            part = template.content(part.rstrip() if position == len(parts) - 1 else part)
        yield Piece(part)


def _text_turn(message: Message, frame: Frame, template: Template, sample: Sample) -> list[Piece]:
    """Pieces of a system or assistant turn."""
    if any(isinstance(part, Media) for part in message.content):
        raise DataError(f"{sample.source}: sample {sample.id!r} has media in a turn of the {message.role}")
    text = template.content(_text(message))
    loss = message.role == "assistant" and message.loss and bool(text)
    mark = template.special
    return [Piece(frame.lead, loss, mark), Piece(text, loss), Piece(frame.end, loss, mark)]


def _text(message: Message) -> str:
    return "".join(part for part in message.content if isinstance(part, str)).strip()


def _arrange(content: Sequence[str | Media], layout: Layout) -> list[str | Media]:
    """A user turn's text and media in the order of the layout."""
    media = [part for part in content if isinstance(part, Media)]
    if layout == "inline" or not media:
        return list(content)
    text = "".join(part for part in content if isinstance(part, str)).strip()
    if not text:
        return list(media)
    before = [text + "\n"] if layout == "sandwich" else []
    return [*before, *media, "\n" + text]


def _merge_texts(parts: Sequence[str | Media]) -> list[str | Media]:
    """The parts without empty texts, adjacent texts joined."""
    result: list[str | Media] = []
    for part in parts:
        last = result[-1] if result else None
        if isinstance(part, str) and isinstance(last, str):
            result[-1] = last + part
        elif part:
            result.append(part)
    return result


def _join_texts(result: Sequence[Piece]) -> Iterator[Piece]:
    """The pieces without empty texts, adjacent texts of the same kind joined."""
    for (loss, mark, is_text), group in groupby(
        (piece for piece in result if piece.content != ""),
        key=lambda piece: (piece.loss, piece.mark, isinstance(piece.content, str)),
    ):
        if is_text:
            yield Piece("".join(str(piece.content) for piece in group), loss, mark)
        else:
            yield from group
