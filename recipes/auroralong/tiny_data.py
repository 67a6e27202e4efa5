"""Create data for the overlay tiny.yaml: every source of data.yaml in its own format, two benchmarks, a tiny RWKV-6.

python recipes/auroralong/tiny_data.py                                      # 1 sample per 10,000 of the paper's
python recipes/auroralong/tiny_data.py recipes/auroralong/tiny-learn.yaml   # enough videos to learn from
"""

import argparse
import base64
import csv
import io
import json
import sys
from functools import reduce
from pathlib import Path
from string import Formatter
from typing import Any

import torch
from rich.progress import track
from tiny_scenes import FRAMES, OPTIONS, QUESTIONS, Clip, clip, generator, jpeg, still

from composer.data.tools.synthesize import FRAME_RATE, encode
from composer.recipe.components import slot_config
from composer.recipe.yamlfile import load_recipes, merged
from composer.registry import load_registry
from composer.tokenizer import tokenizer_from
from composer_plugins.benchmarks.mlvu import DEV
from composer_plugins.benchmarks.mvbench import TASKS

HERE = Path(__file__).parent
DESCRIBE = "Describe it in detail."
OPENINGS = ("Best Option: (", "Best option:(")
"""Start of an answer in MLVU and MVBench."""

LIKE_MLVU = {"plotQA": "color", "needle": "last", "ego": "shape", "anomaly_reco": "last", "topic_reasoning": "color"}
"""Kinds of questions for the tasks of MLVU that are not named after one."""


def write(path: Path, data: bytes) -> None:
    """Write a file; creates its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def write_records(path: Path, records: list[dict[str, Any]]) -> None:
    """Write records as JSON Lines, a JSON list or parquet, depending on the suffix."""
    if path.suffix == ".parquet":
        import pyarrow  # an extra: composer[parquet]
        from pyarrow import parquet

        path.parent.mkdir(parents=True, exist_ok=True)
        parquet.write_table(pyarrow.Table.from_pylist(records), path, row_group_size=100)
    elif path.suffix == ".jsonl":
        write(path, ("\n".join(map(json.dumps, records)) + "\n").encode())
    else:
        write(path, json.dumps(records).encode())


def file_of(root: Path, reader: dict[str, Any]) -> Path:
    """Return a file that matches a reader's `path`; in a folder, the file of a subset."""
    path = root / reader["path"].replace("*", "tiny")
    return path if path.suffix else path / "tiny/train-00000-of-00001.parquet"


def multiple_choice(kind: str) -> str:
    """Format a question like MVBench and MLVU."""
    listed = "\n".join(f"({letter}) {option}" for letter, option in zip("ABCD", OPTIONS[kind], strict=False))
    return f"Question: {QUESTIONS[kind]}\nOptions:\n{listed}\nOnly give the best option."


def instruction(shown: Clip, kind: str, opening: str) -> tuple[str, str]:
    """Create a multiple-choice question and its answer. opening: one of OPENINGS."""
    return multiple_choice(kind), f"{opening}{'ABCD'[OPTIONS[kind].index(shown.answer(kind))]})"


def conversation(*turns: tuple[str, str]) -> list[dict[str, str]]:
    """Format questions and answers as LLaVA's `conversations`."""
    return [{"from": who, "value": text} for turn in turns for who, text in zip(("human", "gpt"), turn, strict=True)]


def llava(name: str, count: int, root: Path, reader: dict[str, Any]) -> None:
    """Write conversations with images (in files or in parquet), videos or folders of frames, or with text alone."""
    path = file_of(root, reader)
    media = root / reader["media_root"] if "media_root" in reader else path.parent
    records = []
    for index in range(count):
        rng, key = generator(name, index), f"{name}-{index:06d}"
        record: dict[str, Any] = {"id": key}
        if name == "evol-instruct":
            record["conversations"] = conversation((f"What is {index} plus one?", str(index + 1)))
        elif "video" in name or "hound" in name:
            shown = clip(rng)
            if "hound" in name:
                record["video"] = key
                for number, pixels in enumerate(shown.pixels):
                    write(media / key / f"c01_{number + 1:04d}.jpeg", jpeg(pixels))
            else:
                record["video"] = f"{name}/{key}.mp4"
                write(media / record["video"], encode(shown.pixels))
            placeholder = "<image>" if name == "llava-video-178k" else "<video>"
            kinds = [list(QUESTIONS)[i] for i in rng.permutation(len(QUESTIONS))]
            turns = (
                [(DESCRIBE, shown.caption)]
                if "caption" in name
                else [instruction(shown, kind, OPENINGS[index % 2]) for kind in kinds]
            )
            record["conversations"] = conversation((f"{placeholder}\n{turns[0][0]}", turns[0][1]), *turns[1:])
        else:
            shown_stills = [still(rng) for _ in range(2 if name == "m4-instruct" else 1)]
            names = [f"{name}/{key}-{number}.jpg" for number in range(len(shown_stills))]
            if path.suffix != ".parquet":
                for file, image in zip(names, shown_stills, strict=True):
                    write(media / file, jpeg(image.pixels))
            scene = shown_stills[0].scene
            question = f"{'<image>' * len(names)}\n"
            if name == "m4-instruct":
                record = {"sample_id": index, "metadata": {"dataset": name}}
                answer = "; ".join(image.caption for image in shown_stills)
                record["conversations"] = conversation((f"{question}Describe each.", answer))
            elif "caption" in name or name in ("llava-cc3m-595k", "sharegpt4v", "sharegpt4v-pt"):
                record["conversations"] = conversation((question + DESCRIBE, shown_stills[0].caption))
            else:
                record["conversations"] = conversation(
                    (f"{question}What color are the shapes?", scene.color), ("What shape is it?", scene.shape)
                )
            if name == "cambrian":
                record["system_prompt"] = "Answer in one word."
            if path.suffix == ".parquet":
                record["image"] = {"bytes": jpeg(shown_stills[0].pixels), "path": names[0]}
            else:
                record["image"] = names if name == "m4-instruct" else names[0]
        records.append(record)
    write_records(path, records)


def captions(name: str, count: int, root: Path, reader: dict[str, Any]) -> None:
    """Write captions with the key of their image; FaceCaption has lists of one caption."""
    (key,) = [key for _, key, _, _ in Formatter().parse(reader["file"]) if key is not None]
    records: list[dict[str, Any]] = []
    for index in range(count):
        image = still(generator(name, index))
        text = [image.caption] if name == "facecaption" else image.caption
        records.append({key: f"{index:06d}" if "." in reader["file"] else f"{index:06d}.jpg", "caption": text})
        write(root / reader["media_root"] / reader["file"].format_map(records[-1]), jpeg(image.pixels))
    write_records(file_of(root, reader), records)


def m3it(name: str, count: int, root: Path, reader: dict[str, Any]) -> None:
    """Write JSON Lines with embedded images; NLVR has two per record, VIST five."""
    records = []
    for index in range(count):
        rng = generator(name, index)
        images = [still(rng) for _ in range({"m3it-nlvr": 2, "m3it-vist": 5}.get(name, 1))]
        records.append(
            {
                "instruction": "Answer the question about the image.",
                "inputs": "" if "cap" in name or "para" in name else "What does it show?",
                "image_base64_str": [base64.b64encode(jpeg(image.pixels)).decode() for image in images],
                "outputs": "; ".join(image.caption for image in images),
            }
        )
    write_records(file_of(root, reader), records)


def miradata(name: str, count: int, root: Path, reader: dict[str, Any]) -> None:
    """Write a CSV with captions of six kinds, and one file per clip."""
    kinds = ("main_object", "background", "style", "camera", "short", "dense")
    file = io.StringIO()
    rows = csv.writer(file)
    rows.writerow(["clip_id", "source", "video_id", "fps", "file_path", *(f"{kind}_caption" for kind in kinds)])
    for index in range(count):
        shown = clip(generator(name, index))
        video = f"video/clip/{index // 1000:09d}/{index}.0.mp4"
        write(root / reader["media_root"] / video, encode(shown.pixels))
        captions = [shown.caption if kind == "dense" else f"A {shown.color} {shown.shape}." for kind in kinds]
        rows.writerow([f"{index}.0", "tiny", index, FRAME_RATE, video, *captions])
    write(root / reader["path"], file.getvalue().encode())


def sharegpt4video(name: str, count: int, root: Path, reader: dict[str, Any]) -> None:
    """Write JSON Lines with captions of the key frames and of the video."""
    records = []
    for index in range(count):
        shown, key = clip(generator(name, index)), f"{index:08x}"
        write(root / reader["media_root"] / f"mixkit/{key}.mp4", encode(shown.pixels))
        part = {"idx": "1", "content": f"A {shown.color} {shown.shape}."}
        captions = [part, {"idx": "-1", "content": shown.caption}]
        records.append({"video_id": key, "video_path": f"mixkit/{key}.mp4", "keyframe": [0], "captions": captions})
    write_records(file_of(root, reader), records)


def benchmark_record(name: str, index: int, kind: str) -> tuple[Clip, dict[str, Any]]:
    """Create a video and the record of a question about it."""
    shown = clip(generator(f"benchmark {name}", index))
    content = {"question": QUESTIONS[kind], "candidates": list(OPTIONS[kind]), "answer": shown.answer(kind)}
    return shown, {"video": f"{index}.mp4", "duration": FRAMES / FRAME_RATE, **content, "question_type": name}


def mlvu(root: Path, questions: int) -> None:
    """Write `json/4_count.json` etc., each with a folder of videos."""
    for task, stem in DEV.items():
        examples = [
            benchmark_record(task, i, LIKE_MLVU.get(task, "first" if task == "order" else task))
            for i in range(questions)
        ]
        for shown, record in examples:
            write(root / "video" / stem / record["video"], encode(shown.pixels))
        write(root / "json" / f"{stem}.json", json.dumps([record for _, record in examples]).encode())


def mvbench(root: Path, questions: int) -> None:
    """Write one file per task; some have segments, and the videos of one are folders of frames."""
    for place, (name, task) in enumerate(TASKS.items()):
        records = []
        for index in range(questions):
            shown, record = benchmark_record(name, index, list(QUESTIONS)[place % len(QUESTIONS)])
            path = root / "video" / task.folder / f"{name}-{index}.mp4"
            if task.bounded:
                record |= {"start": 0.0, "end": FRAMES / (task.fps or FRAME_RATE)}
            if task.fps:
                path = path.with_suffix("")
                for number, pixels in enumerate(shown.pixels):
                    write(path / f"{number + 1:05d}.jpg", jpeg(pixels))
            else:
                write(path, encode(shown.pixels))
            records.append(record | {"video": path.name})
        write(root / "json" / f"{name}.json", json.dumps(records).encode())


def rwkv6(path: Path, options: dict[str, Any], tokenizer: list[str]) -> None:
    """Write random weights in the author's format.

    With the author's initialization every block is the identity, so a frozen backbone would give no gradient to the
    projector.
    """
    torch.manual_seed(0)
    config = slot_config("backbone", "rwkv6")(**options)
    backbone = load_registry().build("backbone", config, tokenizer=tokenizer_from(tokenizer))
    noise = torch.Generator().manual_seed(0)
    weights = backbone.model.state_dict()
    for value in weights.values():
        if value.dim() == 2:
            value.add_(torch.randn(value.shape, generator=noise) * value.shape[1] ** -0.5 / 2)
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(weights, path)


def main() -> None:
    summary, _, more = (__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(
        description=summary, epilog=more, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "overlay",
        nargs="?",
        type=Path,
        default=HERE / "tiny.yaml",
        help="recipe with the number of samples of each source, and the folder to write (default: tiny.yaml)",
    )
    parser.add_argument(
        "--questions", type=int, default=2, metavar="N", help="questions per task of a benchmark (default: 2)"
    )
    args = parser.parse_args()
    recipe = reduce(merged, load_recipes([HERE / "data.yaml", args.overlay])).plain()
    folder, sources = Path(recipe["data"]["root"]), recipe["data"]["sources"]
    writers = {
        "captions": captions,
        "llava": llava,
        "m3it": m3it,
        "miradata": miradata,
        "sharegpt4video": sharegpt4video,
    }
    for name, source in track(sources.items(), "sources"):
        writers[source["reader"]["name"]](name, source["samples"], folder, source["reader"])
    mlvu(folder / "MLVU", args.questions)
    mvbench(folder / "MVBench", args.questions)
    backbone = recipe["model"]["backbone"]
    rwkv6(Path(backbone.pop("pretrained")), backbone, recipe["model"]["prompt"]["tokenizer"])
    samples = sum(source["samples"] for source in sources.values())
    sys.stdout.write(f"{folder}: {samples:,} samples of {len(sources)} sources\n")


if __name__ == "__main__":
    main()
