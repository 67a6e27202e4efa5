"""The readers `captions`, `llava`, `m3it`, ...: data sets in their published format, or packed."""

from collections.abc import Iterable
from typing import Literal

from pydantic import Field

from composer.plugin import Component, ComponentConfig, hookimpl


class FileConfig(ComponentConfig):
    """Options of a reader whose records contain their media."""

    path: str = Field(
        description="Data file, relative to `data.root`; for several files a pattern, for example `*/*.json`, or a "
        "folder with parquet files."
    )


class MediaFileConfig(FileConfig):
    """Options of a reader whose records refer to media files."""

    media_root: str | None = Field(
        None, description="Folder of the media paths, relative to `data.root`; null for the folder of the data file."
    )


class CaptionsConfig(MediaFileConfig):
    """Options of the reader `captions`."""

    question: str = Field("Describe this image in detail.", min_length=1, description="Question about each image.")
    caption: str = Field("caption", description="Key of the answer.")
    file: str = Field(
        "{image}",
        description="Path of the image below `media_root`, with keys of the record in braces: `{image_id}.png`, or "
        "`{key:.5}/{key}.jpg` for img2dataset.",
    )


class LlavaConfig(MediaFileConfig):
    """Options of the readers `llava` and `messages`."""

    fps: float | None = Field(
        None, gt=0, description="Frames per second, if each video is a folder of images; null if it is a file."
    )


class ShareGPT4VideoConfig(MediaFileConfig):
    """Options of the reader `sharegpt4video`."""

    question: str = Field("Describe this video in detail.", min_length=1, description="Question about each video.")


class MiraDataConfig(ShareGPT4VideoConfig):
    """Options of the reader `miradata`."""

    path: str = Field(description="CSV file, relative to `data.root`.")
    caption: str = Field("dense_caption", description="Column of the answer.")
    file: str = Field(
        "{folder}/{index}.mp4",
        description="Path of the video below `media_root`, with columns in braces: `{file_path}` in v1. In v0, the "
        "index `000000008783_AJp-000114` gives {folder} 000000008 and {video} 000000008783_AJp, as in its download "
        "script.",
    )
    start: str | None = Field(None, description="Column of the segment's start; null if each row has a separate file.")
    end: str | None = Field(None, description="Column of the segment's end.")
    fps: str | None = Field(
        None, description="Column of frames per second, if `start` and `end` are frames; null for seconds or h:mm:ss."
    )
    encoding: Literal["utf-8", "cp1252", "latin-1"] = Field("utf-8", description="Text encoding of the file.")


class PackedConfig(ComponentConfig):
    """Options of the reader `packed`."""

    path: str = Field(description="Folder of a packed source, written by `composer data pack`.")


@hookimpl
def composer_components() -> Iterable[Component]:
    yield Component(
        "reader",
        "captions",
        "Image captions in JSON, JSONL or parquet, with separately downloaded images: DenseFusion, FaceCaption.",
        CaptionsConfig,
        "composer_plugins.readers.captions:CaptionsReader",
    )
    yield Component(
        "reader",
        "llava",
        "LLaVA-style conversations in JSON, JSONL or parquet: also ShareGPT4V, ALLaVA, Cambrian, LLaVA-OneVision, "
        "M4-Instruct, LLaVA-Video-178K.",
        LlavaConfig,
        "composer_plugins.readers.llava:LlavaReader",
    )
    yield Component(
        "reader",
        "m3it",
        "M3IT as returned by its loader script: instruction, inputs, embedded images, outputs.",
        FileConfig,
        "composer_plugins.readers.m3it:M3ITReader",
    )
    yield Component(
        "reader",
        "messages",
        "Chat messages in JSON, JSONL or parquet: LLaMA-Factory, ms-swift, XTuner, TRL and transformers.",
        LlavaConfig,
        "composer_plugins.readers.messages:MessagesReader",
    )
    yield Component(
        "reader",
        "miradata",
        "MiraData's CSV: one row per clip with several kinds of captions.",
        MiraDataConfig,
        "composer_plugins.readers.miradata:MiraDataReader",
    )
    yield Component(
        "reader",
        "sharegpt4video",
        "ShareGPT4Video's JSONL: the summary caption of each video.",
        ShareGPT4VideoConfig,
        "composer_plugins.readers.sharegpt4video:ShareGPT4VideoReader",
    )
    yield Component(
        "reader",
        "packed",
        "Packed sources, written by `composer data pack`: samples and media in plain tar files.",
        PackedConfig,
        "composer_plugins.readers.packed:PackedReader",
    )
