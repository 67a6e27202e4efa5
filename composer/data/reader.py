"""LLaVA-style records to samples: JSON Lines or one JSON list.

    {"id": "7", "video": "clips/7.mp4", "conversations": [
        {"from": "human", "value": "<video>\nWhat moves?"}, {"from": "gpt", "value": "A red ball."}]}

`image` and `video` hold a path or a list of paths, relative to `media_root` or to the data file's folder. `<image>`
and `<video>` in a turn say where they belong; media that no turn names come first in the first user turn. `start` and
`end` (seconds) cut a segment out of every video of the record. All other keys go to `Sample.meta`.
"""

import json
import mmap
import os
import re
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from composer.errors import DataError
from composer.sample import Media, Message, Sample

ROLES: dict[str, Literal["system", "user", "assistant"]] = {
    "human": "user",
    "gpt": "assistant",
    "system": "system",
}
KEYS = {"id", "image", "video", "start", "end", "conversations"}
PLACEHOLDER = re.compile(r"\n?(<image>|<video>)\n?")  # line breaks around media are the layout's business
CHUNK = 2**26


class Records(Sequence[Sample]):
    """The samples of one file. Raises DataError, with file and line, for what cannot be read."""

    def __init__(self, path: str | Path, media_root: str | Path | None = None) -> None:
        self.path = Path(path)
        self.media_root = Path(media_root) if media_root is not None else self.path.parent
        try:
            with self.path.open("rb") as file:
                head = file.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip()
        except OSError as error:
            raise DataError(f"{self.path}: cannot read the data file: {error.strerror}") from error
        self._list = self._load_list() if head.startswith(b"[") else None
        self._starts = _line_starts(self.path) if self._list is None else np.empty(0, np.int64)
        if not len(self):
            raise DataError(f"{self.path}: no records in it, expected a JSON list or one JSON object a line")

    def __len__(self) -> int:
        return len(self._starts) if self._list is None else len(self._list)

    def __getitem__(self, index: int) -> Sample:  # type: ignore[override]  # no slices
        index = range(len(self))[index]
        record = self._read_line(index) if self._list is None else self._list[index]
        try:
            return sample_of(record, self.path, index, self.media_root)
        except DataError as error:
            raise DataError(f"{self.place(index)}: {error}") from None

    def place(self, index: int) -> str:
        """Where a record stands: "file:line", or its number (from 1) in a JSON list."""
        if self._list is not None:
            return f"{self.path}: record {index + 1}"
        with self.path.open("rb") as file:
            line = file.read(self._starts[index]).count(b"\n") + 1
        return f"{self.path}:{line}"

    def _load_list(self) -> list[Any]:
        try:
            return json.loads(self.path.read_bytes())
        except json.JSONDecodeError as error:
            raise DataError(f"{self.path}:{error.lineno}: not JSON: {error.msg} (column {error.colno})") from None
        except UnicodeDecodeError as error:
            raise DataError(f"{self.path}: not UTF-8: {error}") from None

    def _read_line(self, index: int) -> Any:
        with self.path.open("rb") as file:
            file.seek(self._starts[index])
            line = file.readline()
        try:
            return json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(f"{self.place(index)}: not JSON: {error.msg} (column {error.colno})") from None
        except UnicodeDecodeError as error:
            raise DataError(f"{self.place(index)}: not UTF-8: {error}") from None


def check_ids(sources: Sequence[Records]) -> None:
    """Raises DataError for two records of one id, whose answers could not be told apart. Reads every record."""
    seen: dict[str, tuple[Records, int]] = {}
    for source in sources:
        for index, sample in enumerate(source):
            if sample.id in seen:
                first, at = seen[sample.id]
                raise DataError(
                    f"{source.place(index)}: id {sample.id!r} is already that of {first.place(at)}; "
                    "give each record an id of its own"
                )
            seen[sample.id] = source, index


def _line_starts(path: Path) -> NDArray[np.int64]:
    """Where each line that is not blank starts. The file is mapped, not read into memory."""
    size = os.path.getsize(path)
    if not size:
        return np.empty(0, np.int64)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        pieces = [np.zeros(1, np.int64)]
        for offset in range(0, size, CHUNK):
            chunk = np.frombuffer(data[offset : offset + CHUNK], np.uint8)
            pieces.append(np.flatnonzero(chunk == ord("\n")) + offset + 1)
        starts = np.concatenate(pieces)
        lengths = np.diff(starts, append=size)
        full = lengths > 0
        for line in np.flatnonzero(full & (lengths < 64)):  # no record is so short; blank lines may be
            full[line] = bool(data[starts[line] : starts[line] + lengths[line]].strip())
    return starts[full]


def sample_of(record: Any, path: Path, index: int, media_root: Path) -> Sample:
    """One record as a sample: leading assistant turns dropped, media in the place of their placeholders.

    Raises DataError, which names the record's id but not its place.
    """
    if not isinstance(record, Mapping):
        raise DataError(f"expected a JSON object, got {type(record).__name__}")
    sample_id = str(record.get("id", f"{path.stem}-{index}"))
    try:
        turns = _turns(record)
        media = _media(record, media_root)
        messages = _place_media(turns, media)
    except DataError as error:
        raise DataError(f"id {sample_id!r}: {error}") from None
    meta = {key: value for key, value in record.items() if key not in KEYS}
    return Sample(sample_id, str(path), messages, meta)


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
    return turns


def _media(record: Mapping[str, Any], media_root: Path) -> list[Media]:
    start, end = (_second(record, key) for key in ("start", "end"))
    if start is not None and end is not None and start >= end:
        raise DataError(f'"start" is {start:g}, "end" is {end:g}: expected start < end, in seconds')
    media = []
    for kind in ("image", "video"):
        paths = record.get(kind)
        paths = [] if paths is None else [paths] if isinstance(paths, str) else paths
        if not isinstance(paths, list) or not all(isinstance(path, str) and path for path in paths):
            raise DataError(f'"{kind}": expected a path or a list of paths, got {paths!r}')
        for path in paths:
            segment = (start, end) if kind == "video" else (None, None)
            media.append(Media(kind, str(media_root / path), *segment))
    return media


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
