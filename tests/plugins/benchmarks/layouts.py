"""Tiny folders in the benchmarks' official layouts, with real videos."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from composer_plugins.benchmarks.mlvu import DEV, TEST
from composer_plugins.benchmarks.mvbench import TASKS
from composer_plugins.benchmarks.vdc import KINDS as VDC_KINDS
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


def write_activitynet_qa(root: Path) -> Path:
    """A question of each type; answers stand in another order than questions."""
    questions, answers = [], []
    for kind in range(9):
        video = f"-v{kind}"
        write_video(_made(root / "all_test" / f"v_{video}{'.mkv' if kind == 1 else '.mp4'}"), 12)
        questions.append({"video_name": video, "question": f"what is Thing {kind}", "question_id": f"v_{video}_1"})
        answers.append({"answer": f"answer {kind}", "type": kind, "question_id": f"v_{video}_1"})
    write_json(root / "dataset/test_q.json", questions)
    write_json(root / "dataset/test_a.json", answers[::-1])
    return root


def write_moviechat(root: Path, folder: str = "gt") -> Path:
    """Two videos with a global question and two at breakpoints, at frames 0 and 6 of 10 a second."""
    for name in ("1", "AWA-2"):
        write_video(_made(root / "videos" / f"{name}.mp4"), 12)
        moments = [{"question": f"now {time}?", "answer": f"then {time}", "time": time} for time in (0, 6)]
        content = {
            "info": {"video_path": f"{name}.mp4", "fps": 10, "num_frame": 12},
            "global": [{"question": "where?", "answer": "here"}],
            "breakpoint": moments,
        }
        _made(root / folder / f"{name}.json").write_text(json.dumps(content))
    return root


def write_vdc(root: Path, videos: int = 2) -> Path:
    """Every kind with two questions about each video; the last video's lines stand twice, with an empty question."""
    for kind in VDC_KINDS:
        lines = []
        for place in range(videos):
            write_video(_made(root / "videos" / f"video-{place}.mp4"), 12)
            pairs = [{"question": f"{kind} {n} of {place}?", "answer": f"{n}", "category": "c"} for n in ("one", "two")]
            lines.append({f"video-{place}": pairs})
        last = next(iter(lines[-1].values()))
        lines.append({f"video-{videos - 1}": [*last, {"question": "", "answer": "", "category": ""}]})
        _made(root / "VDCScore_qa" / f"{kind}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return root


def write_vatex(root: Path) -> Path:
    """Three clips with two captions each."""
    records = []
    for place, subject in enumerate(("man", "dog", "child")):
        write_video(_made(root / "videos" / f"id{place}_000000_000010.mp4"), 12)
        captions = [f"A {subject} runs over the grass.", f"The {subject} is running."]
        records.append({"videoID": f"id{place}_000000_000010", "enCap": captions})
    write_json(root / "vatex_public_test_english_v1.1.json", records)
    return root


def _made(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
