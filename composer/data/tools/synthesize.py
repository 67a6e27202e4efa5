"""Synthetic data set: H.264 videos, PNG stills and LLaVA-style JSON Lines. The same seed gives the same bytes."""

import io
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat
from pathlib import Path

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
# Threads and CPU-specific instructions would change the bytes from run to run.
ENCODER = {
    "preset": "veryfast",
    "crf": "16",
    "flags": "+bitexact",
    "x264-params": "threads=1:lookahead-threads=1:cpu-independent=1",
}
MANIFEST = "manifest.json"
FORMAT = 2
"""Version of the data set. Increased whenever the same seed gives different clips or questions."""


def synthesize(
    folder: Path,
    counts: Mapping[Split, int],
    seed: int,
    *,
    force: bool = False,
    progress: Callable[[], None] = lambda: None,
) -> bool:
    """Write the data set to a folder.

    It is written to a temporary folder next to `folder` and renamed at the end, so an existing data set is complete.

    Args:
        folder: Folder of the data set.
        counts: Number of clips or stills per split.
        seed: Seed of all random choices.
        force: Whether to replace the content of `folder`.
        progress: Called after each clip or still.

    Returns:
        True if the data set was written, False if it existed already.

    Raises:
        DataError: If `folder` contains something else and `force` is false.
        DiskFullError: If the disk is full. Nothing is left in that case.
    """
    manifest = {"format": FORMAT, "seed": seed} | {str(split): count for split, count in counts.items()}
    if _manifest(folder) == manifest and not force:
        return False
    if folder.exists() and any(folder.iterdir()) and not force:
        present = _manifest(folder)
        content = f"a different data set, {json.dumps(present)}" if present else "other files"
        raise DataError(
            f"{folder}: contains {content}; expected {json.dumps(manifest)}: choose another folder, or use --force"
        )
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


def write_clip(folder: Path, seed: int, split: Split, index: int) -> list[dict[str, object]]:
    """Write the video of one clip.

    Args:
        folder: Folder of the data set.
        seed: Seed of the data set.
        split: Split of the clip.
        index: Index of the clip in the split.

    Returns:
        Its records: one conversation for training, or one per held-out question.
    """
    rng = generator(seed, split, index)
    scene = draw_scene(rng, split)
    name = f"{split}-{index:05d}"
    video = f"videos/{name}.mp4"
    (folder / video).write_bytes(encode(render(scene, rng)))
    turns = conversation(scene, rng)
    if split == "train":
        return [{"id": name, "video": video, "conversations": list(_to_turns("<video>", turns))}]
    return [
        {
            "id": f"{name}-{turn.type}",
            "video": video,
            "question_type": turn.type,
            "conversations": list(_to_turns("<video>", [turn])),
        }
        for turn in turns
    ]


def write_still(folder: Path, seed: int, split: Split, index: int) -> list[dict[str, object]]:
    """Write the first or the last frame of a clip as an image.

    Args:
        folder: Folder of the data set.
        seed: Seed of the data set.
        split: Split of the still.
        index: Index of the still in the split.

    Returns:
        Its record, a caption.
    """
    rng = generator(seed, split, index)
    scene = draw_scene(rng, split)
    frame = (0, FRAMES - 1)[rng.integers(2)]
    name = f"{split}-{index:05d}"
    image = f"images/{name}.png"
    Image.fromarray(render(scene, rng, [frame])[0]).save(folder / image)
    caption = Turn("caption", CAPTION, scene.caption(frame))
    return [{"id": name, "image": image, "conversations": list(_to_turns("<image>", [caption]))}]


def encode(frames: NDArray[np.uint8]) -> bytes:
    """Encode frames as an H.264 mp4. The same frames give the same bytes: one thread, no dates, no version numbers.

    Args:
        frames: RGB frames [F, H, W, 3] uint8.

    Returns:
        Content of the mp4 file.
    """
    file = io.BytesIO()
    with av.open(file, "w", format="mp4", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream("libx264", rate=FRAME_RATE, options=ENCODER)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        scaler = VideoReformatter()
        for pixels in frames:
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            container.mux(stream.encode(scaler.reformat(frame, format="yuv420p", **ONE_THREAD)))
        container.mux(stream.encode(None))
    return file.getvalue()


def _to_turns(placeholder: str, turns: Sequence[Turn]) -> Iterator[dict[str, str]]:
    for index, turn in enumerate(turns):
        yield {"from": "human", "value": turn.question if index else f"{placeholder}\n{turn.question}"}
        yield {"from": "gpt", "value": turn.answer}


def _manifest(folder: Path) -> object:
    try:
        return json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError):
        return None
