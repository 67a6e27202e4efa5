"""From a conversation to the pieces of a prompt: chat templates and prompt layouts. No torch here."""

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
"""Halves of characters, which JSON can hold and no tokenizer can encode."""

Role = Literal["system", "user", "assistant"]

Layout = Literal["media-first", "sandwich", "inline"]
"""Where a user turn's media go: before its text; between two copies of its text (VisualRWKV); where they are named."""


class Frame(NamedTuple):
    """The strings around one turn: before + lead + text + end + after. An assistant says lead, text and end."""

    before: str = ""
    lead: str = ""
    end: str = ""
    after: str = ""


class Template(ABC):
    """What a conversation looks like as one text.

    end: what ends an answer. answer_lead: what opens the last answer and belongs to it (RWKV World: the space after
    "Assistant:"). special: whether the tokenizer has tokens of their own for marks, which no content can spell.
    marks: marks of ordinary letters, which content could spell. takes_system: whether there are system turns; if not,
    a system text opens the first user turn.
    """

    end: str
    answer_lead: str
    special: bool
    takes_system: bool = True

    @property
    @abstractmethod
    def marks(self) -> tuple[str, ...]: ...

    @abstractmethod
    def frames(self, roles: Sequence[Role], *, answer: bool) -> Sequence[Frame]:
        """The frame of each turn. answer: the last one ends with the opening of an answer that is still to be given.

        Raises DataError if turns of these roles cannot be rendered.
        """

    def content(self, text: str) -> str:
        """The text as it may be written in a turn: nothing in it ends or opens a turn.

        Blank lines become line breaks (line breaks become spaces) if such white space ends an answer: RWKV and
        VisualRWKV prepare their data so. A mark of ordinary letters gets a space after its first one.
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
    """A template with the same strings around every turn: prefix + text + suffix; `start` opens the whole text.

    With `answer_lead`, turn-wise tokenization equals joint tokenization.
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
        # If white space ends an answer, no turn opens without it: the name of a role in a content is only a word.
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
    """The distinct lines of these strings, longest first, without white space around them and without blank ones."""
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
    """A run of text, or one media.

    loss: whether the model is trained to say it. mark: whether it is a template's own text, in which the names of
    special tokens are read as these tokens; everywhere else they are text.
    """

    content: str | Media
    loss: bool = False
    mark: bool = False


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
    sample: Sample, layout: Layout, template: Template, *, answer: bool = False, opening: str = ""
) -> list[Piece]:
    """A conversation as pieces in reading order, neighboring texts of the same kind joined.

    An assistant turn without text, or whose `loss` is False, is written and not trained on. answer: the conversation
    ends with a user turn that the model is to answer, so the prompt ends with the opening of an assistant turn.
    opening: text that the answer begins with, put into the model's mouth.
    """
    assert answer or not opening, "an opening belongs to an answer that is still to be given"
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
            # An answer's ids never depend on whether it has loss: it is not joined with what is around it.
            result += [*_join_texts(context), *_join_texts(_text_turn(message, frame, template, sample))]
            context = []
        context.append(Piece(frame.after, mark=template.special))
    if opening:
        # The lead belongs to the answer: without an opening the model says it itself.
        context += [Piece(template.answer_lead, mark=template.special), Piece(template.content(opening))]
    return [*result, *_join_texts(context)]


def _without_system(sample: Sample, layout: Layout) -> tuple[Message, ...]:
    """The turns with the system's text at the front of the first user turn."""
    system = "\n\n".join(_text(message) for message in sample.messages if message.role == "system")
    messages = [message for message in sample.messages if message.role != "system"]
    first = next((place for place, message in enumerate(messages) if message.role == "user"), None)
    if system and first is None:
        raise DataError(
            f"{sample.source}: sample {sample.id!r} has a system text and no user turn: the model's chat template has "
            "no system turns, so the text would open the first user turn"
        )
    if system and first is not None:
        content = messages[first].content
        if layout != "inline":  # its text is written in one place, where these are its inner line breaks
            content = *(part for part in content if isinstance(part, Media)), _text(messages[first])
        messages[first] = replace(messages[first], content=(system + "\n\n", *content))
    return tuple(messages)


def _user_turn(message: Message, layout: Layout, template: Template) -> Iterator[Piece]:
    parts = _merge_texts(_arranged(message.content, layout))
    for place, part in enumerate(parts):
        if isinstance(part, str):
            # White space at the edges would join the template's own.
            part = part.lstrip() if place == 0 else part
            part = template.content(part.rstrip() if place == len(parts) - 1 else part)
        yield Piece(part)


def _text_turn(message: Message, frame: Frame, template: Template, sample: Sample) -> list[Piece]:
    """What the system or the assistant says."""
    if any(isinstance(part, Media) for part in message.content):
        raise DataError(f"{sample.source}: sample {sample.id!r} has media in a turn of the {message.role}.")
    text = template.content(_text(message))
    loss = message.role == "assistant" and message.loss and bool(text)
    mark = template.special
    return [Piece(frame.lead, loss, mark), Piece(text, loss), Piece(frame.end, loss, mark)]


def _text(message: Message) -> str:
    return "".join(part for part in message.content if isinstance(part, str)).strip()


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


def _merge_texts(parts: Sequence[str | Media]) -> list[str | Media]:
    """The parts without empty texts, neighboring texts joined."""
    result: list[str | Media] = []
    for part in parts:
        last = result[-1] if result else None
        if isinstance(part, str) and isinstance(last, str):
            result[-1] = last + part
        elif part:
            result.append(part)
    return result


def _join_texts(result: Sequence[Piece]) -> Iterator[Piece]:
    """Neighboring texts joined if they are of the same kind; empty ones are dropped."""
    for (loss, mark, is_text), group in groupby(
        (piece for piece in result if piece.content != ""),
        key=lambda piece: (piece.loss, piece.mark, isinstance(piece.content, str)),
    ):
        if is_text:
            yield Piece("".join(str(piece.content) for piece in group), loss, mark)
        else:
            yield from group
