"""The benchmarks run: small, on the CPU, and say what they are for."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def output(module: str, *arguments: str) -> str:
    command = [sys.executable, "-W", "ignore", "-m", module, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_backbones_on_a_cpu() -> None:
    small = ["--sizes", "64x1", "--lengths", "64", "--contexts", "32", "--vocab", "512", "--repeats", "1"]
    text = output("benchmarks.backbone", "--only", "speed", *small)
    for row in ("forward 64", "forward + backward 64", "against its loop", "decode after 32", "decode, compiled step"):
        assert row in text
    assert text.count("rwkv7/author7") == 4


@pytest.mark.slow
def test_memory_grows_with_the_length_in_training() -> None:
    grown = [
        float(output("benchmarks.backbone", "--memory-of", f'["train", "rwkv6", {length}, 64, 1, 512]'))
        for length in (256, 2048)
    ]
    assert grown[1] > 2 * grown[0]


def test_packed_sources() -> None:
    text = output("benchmarks.packed", "--files", "20", "--size", "1000", "--samples", "10")
    for row in ("packing:", "loose, cold:", "loose, warm:", "packed, cold:", "packed, warm:", "parquet, cold:"):
        assert row in text
