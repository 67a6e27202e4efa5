"""One normalised sample: the form that every reader gives and every other part takes. No torch here."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class Media:
    """One image or video, with an optional segment of a video in seconds.

    path: the file, and what errors name. data: the encoded file itself where a record carries it. span: (offset, size)
    in bytes where the file lies inside the uncompressed archive `path`. fps: frames a second where `path` is a folder
    of pictures, in the order of their names. pictures: (offset, size) of each, where that folder lies inside the
    uncompressed archive `path`. rule: the times of the frames that are taken: the middle of equal parts,
    or as MVBench's own code counts frames.
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
    """One turn. `content` mixes text and media in reading order.

    loss: whether an assistant turn is trained on; other turns never are.
    """

    role: Literal["system", "user", "assistant"]
    content: tuple[str | Media, ...]
    loss: bool = True


@dataclass(frozen=True)
class Sample:
    """One conversation about zero or more media.

    id: unique in its source. source: the file it came from. meta: what evaluation needs, such as a question's type.
    """

    id: str
    source: str
    messages: tuple[Message, ...]
    meta: Mapping[str, Any] = field(default_factory=dict)

    @property
    def media(self) -> tuple[Media, ...]:
        """All media, in the order in which the conversation names them."""
        return tuple(part for m in self.messages for part in m.content if isinstance(part, Media))
