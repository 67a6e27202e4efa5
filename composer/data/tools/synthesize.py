"""Write the made data set: H.264 videos, PNG stills and LLaVA-style JSON Lines, the same bytes for the same seed."""

import io
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray
from PIL import Image

from composer.atomic import writing
from composer.data.media.pyav import ONE_THREAD
from composer.data.tools.shapes import (
    CAPTION,
    FRAMES,
    Split,
    Turn,
    conversation,
    draw_scene,
    generator,
    render,
)
from composer.errors import DataError

FRAME_RATE = 8
# Threads, and instructions that only some processors have, would change bytes from run to run.
ENCODER = {
    "preset": "veryfast",
    "crf": "16",
    "flags": "+bitexact",
    "x264-params": "threads=1:lookahead-threads=1:cpu-independent=1",
}
MANIFEST = "manifest.json"
FORMAT = 1
"""Raised whenever the same seed gives other clips or questions."""


def synthesize(
    folder: Path,
    counts: Mapping[Split, int],
    seed: int,
    *,
    force: bool = False,
    progress: Callable[[], None] = lambda: None,
) -> bool:
    """Write so many clips or stills of each split below `folder`; `progress` is called after each.

    The set grows in a folder beside its place and is moved there when whole, so a set that is there is complete.
    Returns False if it was there already. Raises DataError where `folder` holds something else and `force` is not
    given, DiskFullError where there is no room for it: nothing is left then.
    """
    manifest = {"format": FORMAT, "seed": seed} | {str(split): count for split, count in counts.items()}
    if _manifest(folder) == manifest and not force:
        return False
    if folder.exists() and any(folder.iterdir()) and not force:
        found = _manifest(folder)
        what = f"another set, {json.dumps(found)}" if found else "other files"
        raise DataError(f"{folder}: holds {what}; asked for {json.dumps(manifest)}. Give another folder, or --force.")
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        with writing(folder):
            _write(partial, counts, seed, progress)
            (partial / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)
    return True


def _write(folder: Path, counts: Mapping[Split, int], seed: int, progress: Callable[[], None]) -> None:
    (folder / "videos").mkdir(parents=True)
    (folder / "images").mkdir()
    with ProcessPoolExecutor(max_workers=os.cpu_count()) as pool:
        for split, count in counts.items():
            write = write_still if split == "stills" else write_clip
            with (folder / f"{split}.jsonl").open("w", encoding="utf-8") as file:
                for records in pool.map(write, repeat(folder), repeat(seed), repeat(split), range(count), chunksize=16):
                    file.writelines(json.dumps(record) + "\n" for record in records)
                    progress()


def write_clip(folder: Path, seed: int, split: Split, index: int) -> list[dict[str, Any]]:
    """Write one clip's video; returns its records: one conversation to learn from, or a held-out question each."""
    rng = generator(seed, split, index)
    scene = draw_scene(rng, split)
    name = f"{split}-{index:05d}"
    video = f"videos/{name}.mp4"
    (folder / video).write_bytes(encode(render(scene, rng)))
    turns = conversation(scene, rng)
    if split == "train":
        return [{"id": name, "video": video, "conversations": list(_said("<video>", turns))}]
    return [
        {
            "id": f"{name}-{turn.type}",
            "video": video,
            "question_type": turn.type,
            "conversations": list(_said("<video>", [turn])),
        }
        for turn in turns
    ]


def write_still(folder: Path, seed: int, split: Split, index: int) -> list[dict[str, Any]]:
    """Write the first or the last frame of a clip; returns its record, a caption."""
    rng = generator(seed, split, index)
    scene = draw_scene(rng, split)
    frame = (0, FRAMES - 1)[rng.integers(2)]
    name = f"{split}-{index:05d}"
    image = f"images/{name}.png"
    Image.fromarray(render(scene, rng, [frame])[0]).save(folder / image)
    caption = Turn("caption", CAPTION, scene.caption(frame))
    return [{"id": name, "image": image, "conversations": list(_said("<image>", [caption]))}]


def encode(frames: NDArray[np.uint8]) -> bytes:
    """[F, H, W, 3] RGB as an H.264 mp4, the same bytes for the same frames (one thread, no dates, no versions)."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream("libx264", rate=FRAME_RATE, options=ENCODER)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        scaler = VideoReformatter()
        for picture in frames:
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            container.mux(stream.encode(scaler.reformat(frame, format="yuv420p", **ONE_THREAD)))
        container.mux(stream.encode(None))
    return file.getvalue()


def _said(placeholder: str, turns: Sequence[Turn]) -> Iterator[dict[str, str]]:
    for place, turn in enumerate(turns):
        yield {"from": "human", "value": turn.question if place else f"{placeholder}\n{turn.question}"}
        yield {"from": "gpt", "value": turn.answer}


def _manifest(folder: Path) -> Any:
    try:
        return json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError):
        return None
