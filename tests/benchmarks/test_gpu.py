"""The dry run of `python -m benchmarks.gpu`: every part, at toy sizes, on the CPU."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.gpu.parts import PARTS

ROOT = Path(__file__).parents[2]

MEASURED = {
    "ceilings": ("bf16 matmul", "copy bandwidth", "backbone rwkv6"),
    "numerics": ("wkv6 float32 packed, decay extreme: backward", "wkv7 bfloat16 one row, decay mild", "pytest -m gpu"),
    "train": ("1-pretrain, images: step", "2-vision, images: tokens", "3-language, videos of 4 frames: micro-batch"),
    "inference": ("prefill, 6 frames", "decode, eager", "decode, compiled"),
    "peers": ("Qwen2-1.5B shape, 6 frames", "Qwen2-VL-2B shape, 6 frames", "LLaVA-OneVision-7B shape, 6 frames"),
    "quickstart": ("32-true: accuracy", "bf16-mixed: fit"),
    "resume": ("killed after the checkpoint of step", "killed and resumed: largest difference of a weight"),
    "profile": ("3-language, images: share of matmul", "prefill: device time per step"),
    "compile": ("encoder, ToMe, compiled", "encoder, no ToMe, eager", "vision step, compiled"),
    "kernels": ("wkv6, 64 positions", "attention, 64 positions: forward and backward"),
}
NEED_CUDA = ("train", "inference", "profile", "peers")


@pytest.mark.slow
def test_dry_run(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.gpu", "--device", "cpu", "--tiny", "--minutes", "14"]
    done = subprocess.run([*command, "--output", str(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=900)
    logs = "\n".join(path.read_text()[-3000:] for path in sorted((tmp_path / "logs").glob("*")))
    assert done.returncode == 0, done.stdout + done.stderr + logs
    results = json.loads((tmp_path / "results.json").read_text())
    assert [part["name"] for part in results["parts"]] == [part.name for part in PARTS] == list(MEASURED)
    assert {part["state"] for part in results["parts"]} == {"finished"}
    figures = {(figure["part"], figure["name"]): figure for figure in results["figures"]}
    for part, names in MEASURED.items():
        for name in names:
            assert figures[part, name]["value"] is not None, (part, name)
    for figure in results["figures"]:
        assert figure["device"] == "cpu"
        assert figure["gpu"] is None
        if figure["value"] is None:
            assert "CUDA" in figure["note"] or "needs" in figure["note"], figure
            assert figure["part"] in (*NEED_CUDA, "ceilings"), figure
        if figure["part"] in ("ceilings", "numerics"):
            assert figure["value"] not in ("failed", "broken", False), figure
    assert figures["resume", "killed and resumed: largest difference of a weight"]["value"] == 0
    report = (tmp_path / "report.md").read_text()
    assert all(f"## {part.name}: {part.title}" in report for part in PARTS)
