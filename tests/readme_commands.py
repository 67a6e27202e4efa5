"""The README's `composer` commands, in order, on a small data set and for two steps.

`python -m tests.readme_commands` runs them with nothing installed but what the README's install line installs.
"""

import os
import platform
import re
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from itertools import chain
from pathlib import Path

from composer.cli import main

ROOT = Path(__file__).parent.parent
SHORT = {
    "data": ["--train=24", "--stills=24", "--heldout=2"],
    "fit": [
        "--trainer.max_steps=2",
        "--trainer.devices=1",
        "--trainer.strategy=auto",
        "--data.batch_size=8",
        "--trainer.log_every_n_steps=1",
    ],
}
QUIET = ["--data.num_workers=0", "--trainer.enable_progress_bar=false"]
LIGHTNING = ("fit", "test", "predict")
MADE = ("data/shapes/manifest.json", "runs/quickstart/curves.png", "recipe.schema.json")
VERSIONS = ("torch", "torchvision", "transformers", "open_clip_torch", "timm", "lightning", "av", "pillow", "numpy")


def commands() -> list[list[str]]:
    """The words of each command in the README's bash blocks."""
    blocks = re.findall(r"```bash\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    lines = [part for block in blocks for line in block.splitlines() for part in line.split("&&")]
    return [words for words in (shlex.split(line, comments=True) for line in lines) if words]


def run_all() -> Iterator[tuple[list[str], int]]:
    """Run each `composer` command in the current folder; the command and its exit status."""
    shutil.copytree(ROOT / "recipes", "recipes")
    for name, *words in commands():
        if name == "composer":
            short = SHORT.get(words[0], []) + (QUIET if words[0] in LIGHTNING else [])
            yield words, main([*words, *short])


def run_python() -> None:
    """Run the README's Python blocks after its commands, in the same folder."""
    for block in re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL):
        exec(compile(block, "README.md", "exec"), {})


def _main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for words, status in chain(run_all(), _checks()):
            if status:
                sys.stderr.write(f"composer {shlex.join(words)}: exit status {status}\n")
                return 1
        run_python()
        if missing := [made for made in MADE if not Path(made).is_file()]:
            sys.stderr.write(f"not written: {', '.join(missing)}\n")
            return 1
        os.chdir(ROOT)
    versions = ", ".join(f"{name} {version(name)}" for name in VERSIONS)
    sys.stdout.write(f"Python {platform.python_version()}: every command of the README works ({versions})\n")
    return 0


def _checks() -> Iterator[tuple[list[str], int]]:
    words = ["data", "check", "recipes/quickstart.yaml", "--decode", "--num-workers=1"]
    yield words, main(words)


if __name__ == "__main__":
    sys.exit(_main())
