"""Reader of MiraData: CSV with captions, and the position of each clip in a video on the web.

index,video_id,start_frame,end_frame,main_object_caption,...,dense_caption,fps,start_timestep,end_timestep
000000008783_AJp_ANXoGoM-000114,AJp_ANXoGoM,163272,166872,...,30,1:30:42,1:32:42

This is v0. v1 has clip_id, source, video_url, video_id, width, height, fps, seconds, timestamp, frame_number,
framestamp, file_path (as written by its download script), and the same captions.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from string import Formatter

from composer.errors import DataError
from composer.reader import Reader
from composer.records import CsvRecords
from composer.sample import Media, Message, Sample
from composer_plugins.readers.media import path_of

CLOCK = re.compile(r"(?:(?:(\d+):)?(\d+):)?(\d+(?:\.\d+)?)")
INDEX = re.compile(r"((\d+)_[^-]*)")
DERIVED = ("folder", "video")
"""Names for the file pattern that are derived from the column `index`, as in the download script."""
IDS = ("index", "clip_id")


class MiraDataReader(Reader):
    """Samples with a fixed question and a caption as the answer; other columns go to `meta`.

    Args:
        path: CSV file.
        question: Question about each video.
        caption: Column of the answer.
        file: Path of the video below `media_root`, with columns in braces.
        media_root: Folder of the videos; None for the folder of the CSV file.
        start: Column of the segment's start.
        end: Column of the segment's end.
        fps: Column of frames per second, if `start` and `end` are frames; else they are seconds or h:mm:ss.
        encoding: Text encoding of the file.
    """

    def __init__(
        self,
        path: str | Path,
        question: str,
        caption: str,
        file: str,
        media_root: str | Path | None = None,
        start: str | None = None,
        end: str | None = None,
        fps: str | None = None,
        encoding: str = "utf-8",
    ) -> None:
        self.path, self.rows = Path(path), CsvRecords(path, "utf-8-sig" if encoding == "utf-8" else encoding)
        self.media_root = self.path.parent if media_root is None else Path(media_root)
        self.question, self.caption, self.file = question, caption, file
        self.start, self.end, self.fps = start, end, fps
        self._check_columns()

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Sample:  # type: ignore[override]  # no slices
        index = range(len(self))[index]
        row = self.rows[index]
        try:
            return self._sample(row, index)
        except DataError as error:
            raise DataError(f"{self.location(index)}: {error}") from None

    def location(self, index: int) -> str:
        """Return the file and the first line of a row."""
        return self.rows.location(index)

    def _check_columns(self) -> None:
        try:
            names = {name for _, name, _, _ in Formatter().parse(self.file) if name is not None}
        except ValueError as error:
            raise DataError(
                f"{self.path}: option `file`: got {self.file!r}, expected columns in braces: {error}"
            ) from None
        options = (self.caption, self.start, self.end, self.fps)
        needed = {"index" if name in DERIVED else name for name in names} | {
            name for name in options if name is not None
        }
        if missing := sorted(needed - set(self.rows.columns)):
            columns = ", ".join(column for column in self.rows.columns if column)
            raise DataError(
                f"{self.path}:1: got no column {', '.join(map(repr, missing))}, which the reader's options require; "
                f"columns: {columns}"
            )

    def _sample(self, row: Mapping[str, str], index: int) -> Sample:
        caption = row[self.caption].strip()
        if not caption:
            raise DataError(f"column {self.caption!r}: got no text, expected a caption")
        start, end = self._second(row, self.start), self._second(row, self.end)
        if start is not None and end is not None and start >= end:
            raise DataError(f"got a segment from {start:g} s to {end:g} s, expected start < end")
        video = Media("video", str(self.media_root / path_of(self._file(row), self.file)), start, end)
        messages = (Message("user", (video, self.question)), Message("assistant", (caption,)))
        meta = {key: value for key, value in row.items() if key and key not in (*IDS, self.caption)}
        sample_id = next((row[key] for key in IDS if row.get(key)), f"{self.path.stem}-{index}")
        return Sample(sample_id, str(self.path), messages, meta)

    def _file(self, row: Mapping[str, str]) -> str:
        derived: dict[str, str] = {}
        if any(f"{{{name}}}" in self.file for name in DERIVED):
            match = INDEX.match(row["index"])
            if match is None:
                raise DataError(f"column 'index': got {row['index']!r}, expected NUMBER_VIDEO-CLIP")
            derived = {"folder": f"{int(match[2]) // 1000:09d}", "video": match[1]}
        try:
            return self.file.format_map({**derived, **row})
        except ValueError as error:  # a number format, but all columns are text
            raise DataError(f"option `file`: {self.file!r} does not match columns of text: {error}") from None

    def _second(self, row: Mapping[str, str], column: str | None) -> float | None:
        if column is None:
            return None
        value = _number(row, column)
        if self.fps is None:
            return value
        rate = _number(row, self.fps)
        if not rate:
            raise DataError(f"column {self.fps!r}: got {row[self.fps]!r}, expected frames per second")
        return value / rate


def _number(row: Mapping[str, str], column: str) -> float:
    match = CLOCK.fullmatch(row[column].strip())
    if match is None:
        raise DataError(f"column {column!r}: got {row[column]!r}, expected a number or h:mm:ss")
    hours, minutes, rest = match.groups(default="0")
    return int(hours) * 3600 + int(minutes) * 60 + float(rest)
