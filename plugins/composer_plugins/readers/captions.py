"""Captions of images to samples: JSON Lines, a JSON list, or parquet, a record or row an image.

{"image_id": "0001", "url": ..., "caption": "A hill in fog."}
"""

from collections.abc import Mapping
from pathlib import Path
from string import Formatter
from typing import Any

from composer.errors import DataError
from composer.sample import Media, Message, Sample
from composer_plugins.readers.media import path_of
from composer_plugins.readers.records import RecordReader, text_of

IDS = ("image_id", "id", "_id", "key")


class CaptionsReader(RecordReader):
    """The question is the same for all; the answer is the text at `caption`, or the only one in a list there."""

    def __init__(
        self,
        path: str | Path,
        question: str,
        caption: str,
        file: str,
        media_root: str | Path | None = None,
    ) -> None:
        try:
            self.names = [name for _, name, _, _ in Formatter().parse(file) if name is not None]
        except ValueError as error:
            raise DataError(f"{path}: option `file` is {file!r}, expected keys in braces: {error}") from None
        self.question, self.caption, self.file, self.media_root = question, caption, file, media_root
        super().__init__(path)

    def sample(self, record: Mapping[str, Any], index: int) -> Sample:
        file, _ = self.where(index)
        image = Media("image", str(Path(self.media_root or file.parent) / path_of(self._image(record), self.file)))
        messages = (Message("user", (image, self.question)), Message("assistant", (self._caption(record),)))
        meta = {key: value for key, value in record.items() if key not in (*IDS, self.caption)}
        return Sample(self.id_of(record, index, *IDS), str(file), messages, meta)

    def _caption(self, record: Mapping[str, Any]) -> str:
        value = record.get(self.caption)
        only = value[0] if isinstance(value, list) and len(value) == 1 else value
        return text_of({self.caption: only}, self.caption)

    def _image(self, record: Mapping[str, Any]) -> str:
        for name in self.names:
            value = record.get(name)
            if not isinstance(value, str | int) or value == "":
                raise DataError(f'"{name}": expected a part of the name {self.file!r}, got {value!r}')
        try:
            return self.file.format_map(record)
        except ValueError as error:  # a number's format for text, or the other way round
            keys = ", ".join(f"{name}={record[name]!r}" for name in dict.fromkeys(self.names))
            raise DataError(f"option `file` is {self.file!r}, which does not fit {keys}: {error}") from None
