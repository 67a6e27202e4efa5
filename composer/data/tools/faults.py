"""Faults of single records: no text, no answer, missing or unreadable media. Does not import torch."""

import os
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache

from composer.data.answers import drop_unanswered_turns, is_trained_on
from composer.data.media.folder import list_images, read_folder
from composer.data.media.image import check_image, read_image
from composer.data.media.opened import open_media
from composer.data.media.video import read_video
from composer.errors import DataError, MediaError
from composer.prompt import WORLD, pieces, split_question
from composer.sample import Media, Sample
from composer.transform import FrameTransform

THUMBNAIL = FrameTransform(size=32, patch_size=1, resize="squash")
"""Transform for trial decoding: the decoder reads the entire image, but only a small one is kept."""

GLIMPSE = 1e-3
"""Seconds of a video to decode: enough for its first frame."""


def find_faults(sample: Sample, *, needs_answers: bool, decode: bool) -> Iterator[str]:
    """Find everything that is wrong with a sample.

    Args:
        sample: A sample as its reader returned it.
        needs_answers: Whether it must have an answer to train on.
        decode: Whether to decode images and the first frame of videos.

    Yields:
        One message per fault.
    """
    has_text = any(part.strip() for m in sample.messages for part in m.content if isinstance(part, str))
    if not has_text and not sample.media:
        yield "neither text nor media in this record"
    elif needs_answers and not any(map(is_trained_on, sample.messages)):
        yield "no answer to train on"
    else:
        yield from _turn_faults(sample, needs_answers)
    for media in sample.media:
        fault = file_fault(media, decode) if media.data is None else _media_fault(media, decode)
        if fault is not None:
            yield fault


def _turn_faults(sample: Sample, needs_answers: bool) -> Iterator[str]:
    """Find what prevents the conversation from becoming a prompt. Its turns fit every chat template, or none."""
    try:
        prompt = drop_unanswered_turns(sample) if needs_answers else split_question(sample)[0]
        pieces(prompt, "media-first", WORLD, answer=not needs_answers)
    except DataError as error:
        yield str(error)


@lru_cache(maxsize=2**14)
def file_fault(media: Media, decode: bool) -> str | None:
    """Find what is wrong with a media file. Cached, because consecutive records often share a file.

    Args:
        media: A media item that is not stored in its record.
        decode: Whether to decode it.

    Returns:
        The fault, or None if there is none.
    """
    return _media_fault(media, decode)


def _media_fault(media: Media, decode: bool) -> str | None:
    try:
        check_media_exists(media)
        if decode:
            _decode(media)
    except MediaError as error:
        return str(error)
    except OSError as error:
        return f"{media.path}: cannot be read: {error.strerror}"
    return None


def check_media_exists(media: Media) -> None:
    """Check that a media item exists and is not empty, without decoding it.

    Args:
        media: The media item.

    Raises:
        MediaError: If it is missing, empty or outside its archive.
    """
    if media.fps is not None:
        media = list_images(media)[-1]  # a truncated archive lacks the last frame
    with open_media(media):
        pass
    if media.data is None and media.span is None and os.path.isdir(media.path):
        raise MediaError(f"{media.path}: got a folder, expected a file; for folders of frames, set the reader's `fps`")
    size = len(media.data) if media.data is not None else media.span[1] if media.span else os.path.getsize(media.path)
    if not size:
        raise MediaError(f"{media.path}: the file is empty")


def _decode(media: Media) -> None:
    if media.kind == "image":
        read_image(media, THUMBNAIL)
        check_image(media)
        return
    first = replace(media, end=(media.start or 0.0) + GLIMPSE, rule="middle")
    (read_video if media.fps is None else read_folder)(first, THUMBNAIL, 1)
