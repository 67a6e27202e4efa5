"""Reader of ShareGPT4Video: JSON Lines with a caption per key frame, and one of the complete video with `idx` -1.

{"video_id": "9fd3", "video_path": "mixkit/9fd3.mp4", "timestamp": ["00:00:00.000"], "keyframe": [0],
 "captions": [{"idx": "1", "content": "A hill."}, {"idx": "-1", "content": "The video shows a hill."}]}
"""

from collections.abc import Mapping
from pathlib import Path

from composer.errors import DataError
from composer.sample import Media, Message, Sample
from composer_plugins.readers.media import path_of
from composer_plugins.readers.records import RecordReader, text_of

KEYS = {"video_id", "video_path", "captions"}
SUMMARY = "-1"


class ShareGPT4VideoReader(RecordReader):
    """Samples with a fixed question and the caption of the complete video as the answer; other keys go to `meta`.

    Args:
        path: Data file, folder or pattern.
        question: Question about each video.
        media_root: Folder of the videos; None for the folder of the data file.
    """

    def __init__(self, path: str | Path, question: str, media_root: str | Path | None = None) -> None:
        super().__init__(path)
        self.question, self.media_root = question, media_root

    def sample(self, record: Mapping[str, object], index: int) -> Sample:
        """Convert a record to a sample."""
        file, _ = self.file_of(index)
        path = path_of(text_of(record, "video_path"), "video_path")
        video = Media("video", str(Path(self.media_root or file.parent) / path))
        messages = (Message("user", (video, self.question)), Message("assistant", (_summary(record),)))
        meta = {key: value for key, value in record.items() if key not in KEYS}
        return Sample(self.id_of(record, index, "video_id"), str(file), messages, meta)


def _summary(record: Mapping[str, object]) -> str:
    captions = record.get("captions")
    if not isinstance(captions, list) or not all(isinstance(caption, Mapping) for caption in captions):
        raise DataError(f'"captions": got {captions!r}, expected a list of {{"idx": ..., "content": TEXT}}')
    summaries = [caption for caption in captions if str(caption.get("idx")) == SUMMARY]
    if len(summaries) != 1:
        numbers = ", ".join(str(caption.get("idx")) for caption in captions) or "none"
        raise DataError(f'"captions": got idx {numbers}, expected one "{SUMMARY}", the caption of the complete video')
    return text_of(summaries[0], "content")
