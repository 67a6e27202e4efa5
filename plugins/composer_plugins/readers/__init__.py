"""The readers `captions`, `llava`, `m3it`, ...: data sets in the files in which they are published, or packed."""

from collections.abc import Iterable
from typing import Literal

from pydantic import Field

from composer.plugin import Component, ComponentConfig, hookimpl


class FileConfig(ComponentConfig):
    """Options of a reader whose records carry everything."""

    path: str = Field(
        description="The data file, relative to `data.root`; or several: a pattern such as `*/*.json`, or a folder "
        "with parquet files in it."
    )


class MediaFileConfig(FileConfig):
    """Options of a reader whose records name files of media."""

    media_root: str | None = Field(
        None, description="Folder that paths of media start from, relative to `data.root`; the data file's if null."
    )


class CaptionsConfig(MediaFileConfig):
    """Options of the reader `captions`."""

    question: str = Field("Describe this image in detail.", min_length=1, description="What every image is asked.")
    caption: str = Field("caption", description="Key that answers the question.")
    file: str = Field(
        "{image}",
        description="Each record's image below `media_root`: its keys in braces, such as `{image_id}.png`, or "
        "`{key:.5}/{key}.jpg` as img2dataset lays files out.",
    )


class LlavaConfig(MediaFileConfig):
    """Options of the readers `llava` and `messages`."""

    fps: float | None = Field(
        None, gt=0, description="Frames a second, where each video is a folder of pictures; null where it is a file."
    )


class ShareGPT4VideoConfig(MediaFileConfig):
    """Options of the reader `sharegpt4video`."""

    question: str = Field("Describe this video in detail.", min_length=1, description="What every video is asked.")


class MiraDataConfig(ShareGPT4VideoConfig):
    """Options of the reader `miradata`."""

    path: str = Field(description="The CSV file, relative to `data.root`.")
    caption: str = Field("dense_caption", description="Column that answers the question.")
    file: str = Field(
        "{folder}/{index}.mp4",
        description="Each row's video below `media_root`: columns in braces, such as `{file_path}` in v1, and in v0 of "
        "`000000008783_AJp-000114` {folder} 000000008, {video} 000000008783_AJp, as its download script names them.",
    )
    start: str | None = Field(
        None, description="Column where a row's segment of the video starts; null where each row has a file of its own."
    )
    end: str | None = Field(None, description="Column where the segment ends.")
    fps: str | None = Field(
        None, description="Column of frames a second, where `start` and `end` count frames; else seconds or h:mm:ss."
    )
    encoding: Literal["utf-8", "cp1252", "latin-1"] = Field("utf-8", description="How the file's text is encoded.")


class PackedConfig(ComponentConfig):
    """Options of the reader `packed`."""

    path: str = Field(description="A packed source's folder, which `composer data pack` wrote.")


@hookimpl
def composer_components() -> Iterable[Component]:
    yield Component(
        "reader",
        "captions",
        "A caption an image, JSON, JSONL or parquet, the images fetched apart: DenseFusion, FaceCaption.",
        CaptionsConfig,
        "composer_plugins.readers.captions:CaptionsReader",
    )
    yield Component(
        "reader",
        "llava",
        "LLaVA-style conversations, JSON, JSONL or parquet: also ShareGPT4V, ALLaVA, Cambrian, LLaVA-OneVision, "
        "M4-Instruct, LLaVA-Video-178K.",
        LlavaConfig,
        "composer_plugins.readers.llava:LlavaReader",
    )
    yield Component(
        "reader",
        "m3it",
        "M3IT as its loader script gives it: an instruction, inputs, pictures within the record, outputs.",
        FileConfig,
        "composer_plugins.readers.m3it:M3ITReader",
    )
    yield Component(
        "reader",
        "messages",
        "Chat messages, JSON, JSONL or parquet, as LLaMA-Factory, ms-swift, XTuner, TRL and transformers write them.",
        LlavaConfig,
        "composer_plugins.readers.messages:MessagesReader",
    )
    yield Component(
        "reader",
        "miradata",
        "MiraData's CSV: a row per clip with captions of several kinds.",
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
        "What `composer data pack` wrote: any source's samples, with their media in plain tar files.",
        PackedConfig,
        "composer_plugins.readers.packed:PackedReader",
    )
