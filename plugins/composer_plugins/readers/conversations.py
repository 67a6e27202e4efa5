"""Base of conversation readers: turns, their loss, and media at their placeholders."""

import re
from abc import abstractmethod
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import dropwhile
from pathlib import Path
from typing import Literal, NamedTuple

from composer.errors import DataError
from composer.sample import Media, Message, Sample
from composer_plugins.readers.media import MediaRoot, refuse_unread, segment_of, values_of
from composer_plugins.readers.records import RecordReader

Role = Literal["system", "user", "assistant"]
ROLES: dict[str, Role] = {
    "human": "user",
    "gpt": "assistant",
    "system": "system",
    "user": "user",
    "assistant": "assistant",
    "bot": "assistant",
}
TOOL_ROLES = ("tool", "tool_call", "tool_response", "function", "function_call", "observation")
TOOL_KEYS = ("tool_calls", "function_call")
LOSS = ("loss", "weight")
SYSTEM = ("system_prompt", "system")
KEYS = frozenset({"id", "sample_id", "image", "images", "video", "videos", "start", "end", *SYSTEM})
"""Keys of a record that all conversation readers use."""

PLACEHOLDER = re.compile(r"\n?(<image>|<video>)\n?")  # the layout adds line breaks around media


class Turn(NamedTuple):
    """One turn; placeholders in its text mark the positions of media."""

    role: Role
    text: str
    loss: bool = True


class ConversationReader(RecordReader):
    """Conversations about images and videos, or with text only.

    Args:
        path: Data file, folder or pattern.
        media_root: Folder of the media; None for the folder of the data file.
        fps: Frames per second, if videos are folders of images.

    Attributes:
        read: Keys of a record that are read; all others go to `Sample.meta`.
        user: The format's name for the user.
    """

    read: frozenset[str]
    user: str

    def __init__(self, path: str | Path, media_root: str | Path | None = None, fps: float | None = None) -> None:
        super().__init__(path)
        self.media_root, self.fps = media_root, fps

    def sample(self, record: Mapping[str, object], index: int) -> Sample:
        """Convert a record to a sample: drop leading assistant turns and insert media at their placeholders."""
        file, row = self.file_of(index)
        sample_id = self.id_of(record, index, "id", "sample_id")
        root = MediaRoot(Path(self.media_root or file.parent), f"{file}, record {row + 1}", self.fps)
        try:
            turns, inline = self.turns(record, root)
            media = _media(record, root)
            if media and inline:
                raise DataError("got media in the turns and under keys of the record, expected one of them")
            refuse_unread(record, self.read, media or inline, '"image" or "video"')
            messages = insert_media(list(_drop_leading_answers(_add_system(turns, record), self.user)), media or inline)
        except DataError as error:
            raise DataError(f"id {sample_id!r}: {error}") from None
        meta = {key: value for key, value in record.items() if key not in self.read}
        return Sample(sample_id, str(file), messages, meta)

    @abstractmethod
    def turns(self, record: Mapping[str, object], root: MediaRoot) -> tuple[list[Turn], list[Media]]:
        """Parse the turns of a record.

        Args:
            record: The record.
            root: Location of its media.

        Returns:
            The turns, and the media within them in the order of their placeholders.

        Raises:
            DataError: If a turn cannot be read.
        """


def turns_at(record: Mapping[str, object], key: str) -> list[object]:
    """Return the list of turns at a key. Raises DataError if it is not a list."""
    value = record.get(key)
    if not isinstance(value, list):
        raise DataError(f'"{key}": got {type(value).__name__}, expected a list of turns')
    return value


@contextmanager
def prefix_errors(location: str) -> Iterator[None]:
    """Add a location to the message of a DataError in the block."""
    try:
        yield
    except DataError as error:
        raise DataError(f"{location}: {error}") from None


def role_of(turn: Mapping[str, object], key: str) -> Role:
    """Return the role at a key of a turn. Raises DataError for unknown roles and tool calls."""
    role = turn.get(key)
    if role in TOOL_ROLES or any(turn.get(name) for name in TOOL_KEYS):
        raise DataError("got a tool call or a tool result, which are not supported: write it as text")
    if not isinstance(role, str) or role not in ROLES:
        raise DataError(f'"{key}": got {role!r}, expected one of {", ".join(ROLES)}')
    return ROLES[role]


def loss_of(turn: Mapping[str, object], role: Role) -> bool:
    """Return whether a turn is trained on, by its `loss` or `weight`. Raises DataError unless it is 0 or 1."""
    flags = {key: turn[key] for key in LOSS if turn.get(key) is not None}
    for key, value in flags.items():
        if value not in (0, 1):
            raise DataError(f'"{key}": got {value!r}, expected 0, 1, false or true')
        if value and role != "assistant":
            raise DataError(f'"{key}": got {value!r} in a turn of the {role}: only assistant turns can have loss')
    if len(set(flags.values())) > 1:
        raise DataError('got "loss" and "weight" with different values, expected one of them')
    return all(flags.values())


def _add_system(turns: list[Turn], record: Mapping[str, object]) -> list[Turn]:
    """The turns, with the record's system text as the first one if there is no system turn."""
    key = next((key for key in SYSTEM if record.get(key)), None)
    if key is None or any(turn.role == "system" for turn in turns):
        return turns
    text = record[key]
    if not isinstance(text, str):
        raise DataError(f'"{key}": got {text!r}, expected text')
    return [Turn("system", text), *turns]


def insert_media(turns: Sequence[Turn], media: Sequence[Media]) -> tuple[Message, ...]:
    """Insert media at their placeholders, or without placeholders before the first user turn's text.

    Args:
        turns: Turns with placeholders.
        media: Media items in the order of their placeholders. If all are videos, `<image>` also means a video, as in
            LLaVA-Video.

    Raises:
        DataError: If the numbers of placeholders and media items differ.
    """
    placeholders = [name for turn in turns for name in PLACEHOLDER.findall(turn.text)]
    remaining = {f"<{kind}>": deque(m for m in media if m.kind == kind) for kind in ("image", "video")}
    if "<video>" not in placeholders and not remaining["<image>"]:
        remaining["<image>"] = remaining["<video>"]
    leading = list(media) if not placeholders else []
    messages = []
    for role, text, loss in turns:
        content: list[str | Media] = []
        if role == "user" and leading:
            content, leading = [*leading], []
        for part in PLACEHOLDER.split(text):
            if part not in remaining:
                content += [part] if part else []
            elif remaining[part]:
                content.append(remaining[part].popleft())
            else:
                raise DataError(_mismatch(placeholders, media, "more placeholders than media"))
        messages.append(Message(role, tuple(content), loss))
    if placeholders and any(remaining.values()):
        raise DataError(_mismatch(placeholders, media, "more media than placeholders"))
    return tuple(messages)


def _drop_leading_answers(turns: Sequence[Turn], user: str) -> Iterator[Turn]:
    """The turns without answers before the first question; empty answers get no loss."""
    if not any(turn.role == "user" for turn in turns):
        raise DataError(f"got no {user} turn, expected at least one")
    for turn in dropwhile(lambda turn: turn.role == "assistant", turns):
        empty = turn.role == "assistant" and not turn.text.strip()
        yield turn._replace(loss=False) if empty else turn


def _media(record: Mapping[str, object], root: MediaRoot) -> list[Media]:
    """Media under keys of the record."""
    segment = segment_of(record, "start", "end")
    images, videos = values_of(record, "image"), values_of(record, "video")
    return [
        *(root.media("image", image, "image", number) for number, image in enumerate(images, 1)),
        *(root.media("video", video, "video", number, *segment) for number, video in enumerate(videos, 1)),
    ]


def _mismatch(placeholders: Sequence[str], media: Sequence[Media], problem: str) -> str:
    text = ", ".join(f"{placeholders.count(name)} {name}" for name in dict.fromkeys(placeholders))
    counts = ", ".join(f"{sum(m.kind == kind for m in media)} {kind}" for kind in ("image", "video"))
    return f"{problem}: the text has {text}; the record has {counts}"
