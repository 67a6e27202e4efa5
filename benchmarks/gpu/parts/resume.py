"""Difference between the final weights of a run that is killed with SIGKILL and resumed, and an uninterrupted run.

A second uninterrupted run shows how much the device's kernels vary between runs.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch

from benchmarks.gpu.composer_runs import carry_out, data, flags
from benchmarks.gpu.context import Context
from composer.model.checkpoint import newest, read_checkpoint

COUNTS = ("--train=48", "--stills=48", "--heldout=1")
RUNS = ("uninterrupted", "uninterrupted again", "killed and resumed")


def run(context: Context) -> None:
    steps, every = (4, 1) if context.tiny else (60, 5)
    if not context.wants("killed and resumed: largest difference of a weight", 60):
        return
    data(context, context.folder, *COUNTS)
    folders = [context.folder / name.replace(" ", "-") for name in RUNS]
    commands = []
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
        options = [f"--trainer.max_steps={steps}", f"--training.save_every_steps={every}", "--data.batch_size=8"]
        commands.append(["fit", *flags(context, context.folder, folder), *options, "--ckpt_path=last"])
    killed_at = _kill(commands[2], folders[2] / "checkpoints", steps // 2 // every * every, context.left() / 2)
    context.add("killed after the checkpoint of step", killed_at, note=f"of {steps} steps")
    for command in commands:
        carry_out(*command)
    first, second, resumed = (_weights(folder) for folder in folders)
    for name, other in (("a second run", second), ("killed and resumed", resumed)):
        differing = sum(not torch.equal(first[key], other[key]) for key in first)
        largest = max(float((first[key].double() - other[key].double()).abs().max()) for key in first)
        note = "equal, bit for bit" if not differing else f"{differing} of {len(first)} tensors differ"
        context.add(f"{name}: largest difference of a weight", largest, note=note)


def _kill(command: list[str], checkpoints: Path, step: int, seconds: float) -> int:
    """Start a run in a separate process and kill it as soon as it has saved `step`. Returns its last saved step."""
    process = subprocess.Popen([sys.executable, "-W", "ignore", "-m", "composer", *command], start_new_session=True)
    ends = time.monotonic() + seconds
    try:
        while not (checkpoints / f"step-{step:08d}.ckpt").exists():
            if process.poll() is not None or time.monotonic() > ends:
                raise RuntimeError(f"the run ended, or took {seconds:.0f} s, before step {step}; see the log")
            time.sleep(0.01)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert process.returncode == -signal.SIGKILL, "the run ended before it was killed"
    last = newest(checkpoints)
    assert last is not None
    return int(last.stem.removeprefix("step-"))


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    last = newest(folder)
    assert last is not None
    return read_checkpoint(last)["state_dict"]
