"""Reader of image captions in JSON Lines, a JSON list, or parquet, with one record or row per image.

{"image_id": "0001", "url": ..., "caption": "A hill in fog."}
"""

from collections.abc import Mapping
from pathlib import Path
from string import Formatter

from composer.errors import DataError
from composer.sample import Media, Message, Sample
from composer_plugins.readers.media import path_of
from composer_plugins.readers.records import RecordReader, text_of

IDS = ("image_id", "id", "_id", "key")


class CaptionsReader(RecordReader):
    """Samples with a fixed question and a caption as the answer.

    Args:
        path: Data file, folder or pattern.
        question: Question about each image.
        caption: Key of the caption, a text or a list of one text.
        file: Path of the image below `media_root`, with keys in braces.
        media_root: Folder of the images; None for the folder of the data file.
    """

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
            raise DataError(f"{path}: option `file`: got {file!r}, expected keys in braces: {error}") from None
        self.question, self.caption, self.file, self.media_root = question, caption, file, media_root
        super().__init__(path)

    def sample(self, record: Mapping[str, object], index: int) -> Sample:
        """Convert a record to a sample."""
        file, _ = self.file_of(index)
        image = Media("image", str(Path(self.media_root or file.parent) / path_of(self._image(record), self.file)))
        messages = (Message("user", (image, self.question)), Message("assistant", (self._caption(record),)))
        meta = {key: value for key, value in record.items() if key not in (*IDS, self.caption)}
        return Sample(self.id_of(record, index, *IDS), str(file), messages, meta)

    def _caption(self, record: Mapping[str, object]) -> str:
        value = record.get(self.caption)
        text = value[0] if isinstance(value, list) and len(value) == 1 else value
        return text_of({self.caption: text}, self.caption)

    def _image(self, record: Mapping[str, object]) -> str:
        for name in self.names:
            value = record.get(name)
            if not isinstance(value, str | int) or value == "":
                raise DataError(f'"{name}": got {value!r}, expected text for the path {self.file!r}')
        try:
            return self.file.format_map(record)
        except ValueError as error:  # a number format for text, or vice versa
            keys = ", ".join(f"{name}={record[name]!r}" for name in dict.fromkeys(self.names))
            raise DataError(f"option `file`: {self.file!r} does not match {keys}: {error}") from None
