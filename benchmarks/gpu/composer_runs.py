"""Commands of composer on synthetic data, for the parts that train the quickstart."""

import sys
from pathlib import Path

from benchmarks.gpu.context import Context
from benchmarks.gpu.recipes import RECIPES
from composer.cli import main

QUICKSTART = RECIPES / "quickstart.yaml"


def carry_out(*words: str) -> None:
    """Run a command of composer in this process. Raises RuntimeError if it fails."""
    print("composer", *words, flush=True)
    status = main(words)
    sys.stdout.flush()
    if status != 0:
        raise RuntimeError(f"composer {words[0]} ended with exit status {status}; its message is in the log")


def data(context: Context, root: Path, *counts: str) -> None:
    """Create the quickstart's data in `root`. counts: flags for sizes other than the recipe's."""
    carry_out("data", "synthesize", str(root / "data/shapes"), *counts)


def flags(context: Context, root: Path, run: Path, precision: str = "32-true") -> list[str]:
    """Return the flags of the quickstart on this device, with the data in `root` and the run folder `run`."""
    return [
        f"--config={QUICKSTART}",
        f"--data.root={root}",
        f"--data.num_workers={0 if context.tiny else 8}",
        f"--trainer.default_root_dir={run}",
        f"--trainer.accelerator={'gpu' if context.on_gpu else 'cpu'}",
        "--trainer.devices=1",
        f"--trainer.precision={precision}",
        "--trainer.enable_progress_bar=false",
    ]
