"""Tiny folders in the benchmarks' official layouts, with real videos."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from composer_plugins.benchmarks.mlvu import DEV, TEST
from composer_plugins.benchmarks.mvbench import TASKS
from tests.composer.data.files import numbered, write_video

CANDIDATES = ["left", "right", "up"]


def write_mvbench(root: Path, records: int = 2) -> Path:
    """Every task with this many records, whose right answers are A, B, C, A ... in turn."""
    video = write_video(_made(root / "clip.mp4"), 12)
    for name, task in TASKS.items():
        written = []
        for place in range(records):
            file = "show/clip_1" if task.fps else f"{place}.mp4"
            target = _made(root / "video" / task.folder / file)
            if task.fps:
                target.mkdir(exist_ok=True)
                for number in range(1, 7):
                    Image.fromarray(numbered(number)).save(target / f"{number:05d}.jpg")
            else:
                shutil.copy(video, target)
            bounds = {"start": 0.2, "end": 1.0} if task.bounded else {}
            written.append({**record(file, place), **bounds})
        write_json(root / "json" / f"{name}.json", written)
    return root


def write_mlvu_dev(root: Path, records: int = 2, *, numbered_folders: bool = True) -> Path:
    video = write_video(_made(root / "clip.mp4"), 12)
    for task, stem in DEV.items():
        written = []
        for place in range(records):
            shutil.copy(video, _made(root / "video" / (stem if numbered_folders else task) / f"{place}.mp4"))
            written.append({**record(f"{place}.mp4", place), "duration": 1.2, "question_type": task})
        write_json(root / "json" / f"{stem if numbered_folders else task}.json", written)
    return root


def write_mlvu_test(root: Path) -> Path:
    video = write_video(_made(root / "MLVU_Test" / "video" / "test_0.mp4"), 12)
    written = [
        {**record(video.name, place), "duration": 1.2, "question_type": task, "question_id": f"{task}_0"}
        for place, task in enumerate(TEST)
    ]
    write_json(root / "test-ground-truth" / "test_mcq_gt.json", written)
    return root


def record(video: str, place: int) -> dict[str, Any]:
    return {
        "video": video,
        "question": "Where does it go?",
        "candidates": CANDIDATES,
        "answer": CANDIDATES[place % len(CANDIDATES)],
    }


def write_json(path: Path, content: list[Mapping[str, Any]]) -> None:
    _made(path).write_text(json.dumps(content))


def _made(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
