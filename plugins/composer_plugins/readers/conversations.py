"""What readers of conversations share: turns, their loss, and media instead of their placeholders."""

import re
from abc import abstractmethod
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import dropwhile
from pathlib import Path
from typing import Any, Literal, NamedTuple

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
"""Keys of a record that all these readers read."""

PLACEHOLDER = re.compile(r"\n?(<image>|<video>)\n?")  # line breaks around media are the layout's business


class Turn(NamedTuple):
    """One turn; placeholders in its text say where media belong."""

    role: Role
    text: str
    loss: bool = True


class ConversationReader(RecordReader):
    """Conversations about images and videos, or of text alone."""

    read: frozenset[str]
    """Keys of a record that are read; all others go to `Sample.meta`."""

    user: str
    """What the layout calls who asks."""

    def __init__(self, path: str | Path, media_root: str | Path | None = None, fps: float | None = None) -> None:
        super().__init__(path)
        self.media_root, self.fps = media_root, fps

    def sample(self, record: Mapping[str, Any], index: int) -> Sample:
        """Leading assistant turns are dropped; media replace their placeholders."""
        file, row = self.where(index)
        sample_id = self.id_of(record, index, "id", "sample_id")
        root = MediaRoot(Path(self.media_root or file.parent), f"{file}, record {row + 1}", self.fps)
        try:
            turns, within = self.turns(record, root)
            media = _media(record, root)
            if media and within:
                raise DataError("got media in the turns and under keys of the record, expected one of both")
            refuse_unread(record, self.read, media or within, '"image" or "video"')
            messages = place_media(list(_asked(_with_system(turns, record), self.user)), media or within)
        except DataError as error:
            raise DataError(f"id {sample_id!r}: {error}") from None
        meta = {key: value for key, value in record.items() if key not in self.read}
        return Sample(sample_id, str(file), messages, meta)

    @abstractmethod
    def turns(self, record: Mapping[str, Any], root: MediaRoot) -> tuple[list[Turn], list[Media]]:
        """A record's turns, and the media within them in the order of their placeholders. Raises DataError."""


def list_of(record: Mapping[str, Any], key: str) -> list[Any]:
    """The turns at a key. Raises DataError."""
    value = record.get(key)
    if not isinstance(value, list):
        raise DataError(f'"{key}": expected a list of turns, got {type(value).__name__}')
    return value


@contextmanager
def located(place: str) -> Iterator[None]:
    """Put a place in front of what a DataError raised in the block says."""
    try:
        yield
    except DataError as error:
        raise DataError(f"{place}: {error}") from None


def role_of(turn: Mapping[str, Any], key: str) -> Role:
    """Who speaks. Raises DataError for roles that composer does not know, and for calls of tools."""
    role = turn.get(key)
    if role in TOOL_ROLES or any(turn.get(name) for name in TOOL_KEYS):
        raise DataError("got a call or a result of a tool, which cannot be trained on: write it as text")
    if not isinstance(role, str) or role not in ROLES:
        raise DataError(f'"{key}" is {role!r}, expected one of {", ".join(ROLES)}')
    return ROLES[role]


def loss_of(turn: Mapping[str, Any], role: Role) -> bool:
    """Whether a turn is trained on: as `loss` or `weight` says, 0 or 1. Raises DataError."""
    flags = {key: turn[key] for key in LOSS if turn.get(key) is not None}
    for key, value in flags.items():
        if value not in (0, 1):
            raise DataError(f'"{key}" is {value!r}, expected 0, 1, false or true')
        if value and role != "assistant":
            raise DataError(f'"{key}" is {value!r} in a turn of the {role}: only answers are trained on')
    if len(set(flags.values())) > 1:
        raise DataError('"loss" and "weight" differ, expected one of them')
    return all(flags.values())


def _with_system(turns: list[Turn], record: Mapping[str, Any]) -> list[Turn]:
    """The turns, opened by the record's own system text if none of them is a system turn."""
    key = next((key for key in SYSTEM if record.get(key)), None)
    if key is None or any(turn.role == "system" for turn in turns):
        return turns
    if not isinstance(record[key], str):
        raise DataError(f'"{key}": expected text, got {record[key]!r}')
    return [Turn("system", record[key]), *turns]


def place_media(turns: Sequence[Turn], media: Sequence[Media]) -> tuple[Message, ...]:
    """Turns with media in them. A record of videos only may call them `<image>`, as LLaVA-Video does."""
    named = [name for turn in turns for name in PLACEHOLDER.findall(turn.text)]
    waiting = {f"<{kind}>": deque(m for m in media if m.kind == kind) for kind in ("image", "video")}
    if "<video>" not in named and not waiting["<image>"]:
        waiting["<image>"] = waiting["<video>"]
    unnamed = list(media) if not named else []
    messages = []
    for role, text, loss in turns:
        content: list[str | Media] = []
        if role == "user" and unnamed:
            content, unnamed = [*unnamed], []
        for part in PLACEHOLDER.split(text):
            if part not in waiting:
                content += [part] if part else []
            elif waiting[part]:
                content.append(waiting[part].popleft())
            else:
                raise DataError(_mismatch(named, media, "more placeholders than media"))
        messages.append(Message(role, tuple(content), loss))
    if named and any(waiting.values()):
        raise DataError(_mismatch(named, media, "more media than placeholders"))
    return tuple(messages)


def _asked(turns: Sequence[Turn], user: str) -> Iterator[Turn]:
    """The turns without leading answers, which no question precedes; an empty answer has no loss."""
    if not any(turn.role == "user" for turn in turns):
        raise DataError(f"no {user} turn")
    for turn in dropwhile(lambda turn: turn.role == "assistant", turns):
        empty = turn.role == "assistant" and not turn.text.strip()
        yield turn._replace(loss=False) if empty else turn


def _media(record: Mapping[str, Any], root: MediaRoot) -> list[Media]:
    """The media under a record's own keys."""
    segment = segment_of(record, "start", "end")
    images, videos = values_of(record, "image"), values_of(record, "video")
    return [
        *(root.media("image", image, "image", number) for number, image in enumerate(images, 1)),
        *(root.media("video", video, "video", number, *segment) for number, video in enumerate(videos, 1)),
    ]


def _mismatch(named: Sequence[str], media: Sequence[Media], problem: str) -> str:
    text = ", ".join(f"{named.count(name)} {name}" for name in dict.fromkeys(named))
    counts = ", ".join(f"{sum(m.kind == kind for m in media)} {kind}" for kind in ("image", "video"))
    return f"{problem}: the text has {text}; the record has {counts}"
