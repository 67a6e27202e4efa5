"""LLaVA-style records to samples: JSON Lines, a JSON list, or parquet.

    {"id": "7", "video": "clips/7.mp4", "conversations": [
        {"from": "human", "value": "<video>\nWhat moves?"}, {"from": "gpt", "value": "A red ball."}]}

`image` and `video` hold a path or a list of paths, relative to `media_root` or to the data file's folder; for an image,
{"bytes": ..., "path": NAME} may hold the file itself, as parquet does. `<image>` and `<video>` in a turn say where they
belong; media that no turn names come first in the first user turn. `start` and `end` (seconds) cut a segment out of
every video of the record. `system_prompt` opens a conversation that has no system turn of its own. All other keys go to
`Sample.meta`.

So are written LLaVA's own sets, ShareGPT4V, ALLaVA, Cambrian, M4-Instruct (`sample_id`, a list of images),
LLaVA-OneVision (parquet with the images inside) and LLaVA-Video-178K, whose `<image>` names a video. An image that is
"" or null is none: a record of text alone.
"""

import re
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from composer.errors import DataError
from composer.sample import Media, Message, Sample
from composer_plugins.readers.records import RecordReader

ROLES: dict[str, Literal["system", "user", "assistant"]] = {
    "human": "user",
    "gpt": "assistant",
    "system": "system",
}
KEYS = {"id", "sample_id", "image", "video", "start", "end", "conversations", "system_prompt"}
PLACEHOLDER = re.compile(r"\n?(<image>|<video>)\n?")  # line breaks around media are the layout's business


class LlavaReader(RecordReader):
    """Conversations about images and videos, or of text alone."""

    def __init__(self, path: str | Path, media_root: str | Path | None = None, fps: float | None = None) -> None:
        super().__init__(path)
        self.media_root, self.fps = media_root, fps

    def sample(self, record: Mapping[str, Any], index: int) -> Sample:
        """Leading assistant turns are dropped, media stand in the place of their placeholders."""
        file, row = self.where(index)
        sample_id = self.id_of(record, index, "id", "sample_id")
        media_root, inside = Path(self.media_root or file.parent), f"{file}, record {row + 1}"
        try:
            messages = _place_media(_turns(record), _media(record, media_root, inside, self.fps))
        except DataError as error:
            raise DataError(f"id {sample_id!r}: {error}") from None
        meta = {key: value for key, value in record.items() if key not in KEYS}
        return Sample(sample_id, str(file), messages, meta)


def _turns(record: Mapping[str, Any]) -> list[tuple[Literal["system", "user", "assistant"], str]]:
    conversations = record.get("conversations")
    if not isinstance(conversations, list):
        raise DataError(f'"conversations": expected a list of turns, got {type(conversations).__name__}')
    turns = []
    for number, turn in enumerate(conversations):
        if not isinstance(turn, Mapping) or not isinstance(turn.get("value"), str):
            raise DataError(f'"conversations", turn {number + 1}: expected {{"from": ..., "value": TEXT}}, got {turn}')
        if turn.get("from") not in ROLES:
            known = ", ".join(ROLES)
            raise DataError(
                f'"conversations", turn {number + 1}: "from" is {turn.get("from")!r}, expected one of {known}'
            )
        turns.append((ROLES[turn["from"]], turn["value"]))
    while turns and turns[0][0] == "assistant":  # nobody asked
        del turns[0]
    if not any(role == "user" for role, _ in turns):
        raise DataError('"conversations": no human turn')
    system = record.get("system_prompt") or ""
    if not isinstance(system, str):
        raise DataError(f'"system_prompt": expected text, got {system!r}')
    if system and not any(role == "system" for role, _ in turns):
        turns.insert(0, ("system", system))
    return turns


def _media(record: Mapping[str, Any], media_root: Path, inside: str, fps: float | None) -> list[Media]:
    start, end = (_second(record, key) for key in ("start", "end"))
    if start is not None and end is not None and start >= end:
        raise DataError(f'"start" is {start:g}, "end" is {end:g}: expected start < end, in seconds')
    images, videos = _listed(record, "image"), _listed(record, "video")
    return [
        *(_image(image, media_root, f"{inside}, picture {number}") for number, image in enumerate(images, 1)),
        *(Media("video", _path(video, media_root, "video"), start, end, fps=fps) for video in videos),
    ]


def _listed(record: Mapping[str, Any], key: str) -> list[Any]:
    value = record.get(key)
    return [] if value in (None, "") else value if isinstance(value, list) else [value]


def _image(image: Any, media_root: Path, inside: str) -> Media:
    """A file, or one within the record, which `inside` names."""
    if not isinstance(image, Mapping):
        return Media("image", _path(image, media_root, "image"))
    data = image.get("bytes")
    if data is None:
        return Media("image", _path(image.get("path"), media_root, "image"))
    if not isinstance(data, bytes):
        raise DataError(f'"image": expected bytes in "bytes", got {type(data).__name__}')
    return Media("image", inside, data=data)


def _path(value: Any, media_root: Path, key: str) -> str:
    if not isinstance(value, str) or not value:
        raise DataError(f'"{key}": expected a path or a list of paths, got {value!r}')
    return str(media_root / value)


def _second(record: Mapping[str, Any], key: str) -> float | None:
    value = record.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        raise DataError(f'"{key}": expected seconds from the start of the video, got {value!r}')
    return float(value)


def _place_media(turns: Sequence[tuple[Any, str]], media: Sequence[Media]) -> tuple[Message, ...]:
    """Turns with media in them. A record of videos only may call them `<image>`, as LLaVA-Video does."""
    named = [name for _, text in turns for name in PLACEHOLDER.findall(text)]
    waiting = {f"<{kind}>": deque(m for m in media if m.kind == kind) for kind in ("image", "video")}
    if "<video>" not in named and not waiting["<image>"]:
        waiting["<image>"] = waiting["<video>"]
    unnamed = list(media) if not named else []
    messages = []
    for role, text in turns:
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
        messages.append(Message(role, tuple(content)))
    if named and any(waiting.values()):
        raise DataError(_mismatch(named, media, "more media than placeholders"))
    return tuple(messages)


def _mismatch(named: Sequence[str], media: Sequence[Media], problem: str) -> str:
    asked = ", ".join(f"{named.count(name)} {name}" for name in dict.fromkeys(named))
    given = ", ".join(f"{sum(m.kind == kind for m in media)} {kind}" for kind in ("image", "video"))
    return f"{problem}: the text has {asked}; the record has {given}"
