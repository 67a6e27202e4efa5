"""The normalized sample that every reader returns and every other part consumes. Does not import torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class Media:
    """One image or video, optionally limited to a segment of the video.

    Attributes:
        kind: Type of the media item.
        path: File, archive or folder; errors name it.
        start: Start of the segment in seconds; None for the start of the video.
        end: End of the segment in seconds; None for the end of the video.
        data: Encoded file, if the record contains it.
        span: Offset and size in bytes of the file within the uncompressed archive `path`.
        fps: Frames per second of a video that is stored as a folder of images, in the order of their names.
        frame_spans: Offset and size in bytes of each frame, if the folder is within the uncompressed archive `path`.
        rule: How frames are sampled: at the middle of equal parts, or as in MVBench's code.
    """

    kind: Literal["image", "video"]
    path: str
    start: float | None = None
    end: float | None = None
    data: bytes | None = field(default=None, repr=False)
    span: tuple[int, int] | None = None
    fps: float | None = None
    frame_spans: tuple[tuple[int, int], ...] | None = field(default=None, repr=False)
    rule: Literal["middle", "mvbench"] = "middle"


@dataclass(frozen=True)
class Message:
    """One turn of a conversation.

    Attributes:
        role: Speaker of the turn.
        content: Text and media in reading order.
        loss: Whether an assistant turn is trained on; other turns never are.
    """

    role: Literal["system", "user", "assistant"]
    content: tuple[str | Media, ...]
    loss: bool = True


@dataclass(frozen=True)
class Sample:
    """One conversation about any number of media items.

    Attributes:
        id: Identifier, unique within its source.
        source: File of the record.
        messages: Turns of the conversation.
        meta: Values for evaluation, such as a question's type.
    """

    id: str
    source: str
    messages: tuple[Message, ...]
    meta: Mapping[str, Any] = field(default_factory=dict)

    @property
    def media(self) -> tuple[Media, ...]:
        """All media items, in the order of the conversation."""
        return tuple(part for m in self.messages for part in m.content if isinstance(part, Media))
