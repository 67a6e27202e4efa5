"""Two devices train as one does: the same samples in a step, the same weights after it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from composer.cli import main
from composer.model.checkpoint import newest, read_checkpoint

RECIPE = """
model:
  encoder: {name: openclip, image_size: 16, patch_size: 8, width: 16, depth: 2, heads: 2}
  reducer: {name: tome, keep_ratio: 0.5}
  projector: mlp
  backbone: {name: rwkv6, width: 32, depth: 2, head_size: 16}
  prompt: {tokenizer: bytes}
training: {learning_rate: 0.01, warmup_ratio: 0}
data: {train: [stills.jsonl, text.jsonl], global_batch_size: 8, batch_size: 2, num_workers: 0, frames: 2}
trainer: {accelerator: cpu, max_steps: 4, logger: false, enable_progress_bar: false, gradient_clip_val: 1.0}
"""


def run(folder: Path, name: str, *flags: str) -> dict[str, torch.Tensor]:
    command = [sys.executable, "-m", "composer", "fit", "--config", "recipe.yaml"]
    command += [f"--trainer.default_root_dir={name}", *flags]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    checkpoint = newest(folder / name)
    assert checkpoint is not None
    weights: dict[str, torch.Tensor] = read_checkpoint(checkpoint)["state_dict"]
    return weights


@pytest.mark.parametrize("packing", [(), ("--data.max_tokens=120",)], ids=["padded", "packed"])
def test_two_processes_end_where_one_ends(tmp_path: Path, packing: tuple[str, ...]) -> None:
    assert main(["data", "synthesize", str(tmp_path / "made"), "--train=1", "--stills=12", "--heldout=1"]) == 0
    stills = (tmp_path / "made/stills.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in stills]
    for record in records:
        record["image"] = f"made/{record['image']}"
    (tmp_path / "stills.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    turns = [{"from": "human", "value": "Say it."}, {"from": "gpt", "value": "it " * 9}]
    texts = [{"id": f"t{i}", "conversations": turns} for i in range(12)]
    (tmp_path / "text.jsonl").write_text("".join(json.dumps(record) + "\n" for record in texts))
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    one = run(tmp_path, "one", "--trainer.devices=1", *packing)
    two = run(tmp_path, "two", "--trainer.devices=2", "--trainer.strategy=ddp", *packing)
    assert one.keys() == two.keys()
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=0, atol=2e-4, msg=name)
