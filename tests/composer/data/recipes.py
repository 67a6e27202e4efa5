"""A recipe of two stages over a small data set of every sort: images, videos, folders of pictures, text, bytes."""

import base64
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from PIL import Image

from tests.composer.data.files import numbered, write_video


def talk(name: str, question: str = "What is it?", answer: str = "A number.", **more: Any) -> dict[str, Any]:
    """A LLaVA-style record."""
    turns = [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
    return {"id": name, "conversations": turns, **more}


def write_lines(path: Path, records: Sequence[Mapping[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def write_recipe(path: Path, data: Mapping[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump({"data": dict(data)}, sort_keys=False))
    return path


def write_data(root: Path) -> dict[str, Any]:
    """Small files of every sort below `root`. Returns a `data:` section that names all of them."""
    (root / "images").mkdir(parents=True)
    for number in range(4):
        Image.fromarray(numbered(number)).save(root / f"images/{number}.png")
        (root / f"frames/{number}").mkdir(parents=True)
        for picture in range(6):
            Image.fromarray(numbered(number * 6 + picture)).save(root / f"frames/{number}/{picture:03d}.jpg")
    write_video(root / "a.mp4", 20)
    write_video(root / "b.mkv", 30, key_every=5)
    images = [talk(f"i{n}", image=f"{n % 4}.png", kind={"n": n}) for n in range(9)]
    text = talk("text", "Say 7.", "7")
    text["conversations"] += [{"from": "human", "value": "Say 8."}, {"from": "gpt", "value": "9", "loss": False}]
    write_lines(root / "images.jsonl", [*images, text])
    videos = [talk(f"v{n}", video=("a.mp4", "b.mkv")[n % 2], start=n / 10, end=1.5) for n in range(5)]
    write_lines(root / "videos.jsonl", videos)
    write_lines(root / "frames.jsonl", [talk(f"f{n}", "<video>\nSo?", video=str(n)) for n in range(4)])
    file = io.BytesIO()
    Image.fromarray(numbered(77)).save(file, "JPEG")
    picture = base64.b64encode(file.getvalue()).decode()
    inside = {"instruction": "Name it.", "image_base64_str": [picture], "outputs": "77."}
    write_lines(root / "m3it/inside.jsonl", [inside, inside])
    return {
        "root": str(root),
        "sources": {
            "images": {"reader": {"name": "llava", "path": "images.jsonl", "media_root": "images"}, "samples": 10},
            "videos": {"reader": {"name": "llava", "path": "videos.jsonl"}},
            "frames": {"reader": {"name": "llava", "path": "frames.jsonl", "media_root": "frames", "fps": 2}},
            "inside": {"reader": {"name": "m3it", "path": "m3it/inside.jsonl"}},
        },
        "train": ["images", {"source": "videos", "repeat": 2}, "frames", "inside"],
    }
