"""Every command that the README shows is run, in its order, on a small data set and for two steps."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

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


def lines() -> list[list[str]]:
    """The words of each command in the README's bash blocks."""
    blocks = re.findall(r"```bash\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    commands = [part for block in blocks for line in block.splitlines() for part in line.split("&&")]
    return [words for words in (shlex.split(command, comments=True) for command in commands) if words]


def test_every_composer_command_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(ROOT / "recipes", tmp_path / "recipes")
    monkeypatch.chdir(tmp_path)
    commands = [words[1:] for words in lines() if words[0] == "composer"]
    assert len(commands) > 15
    for words in commands:
        short = SHORT.get(words[0], []) + (QUIET if words[0] in LIGHTNING else [])
        assert main([*words, *short]) == 0, " ".join(words)
        if words[0] == "ask":
            assert capsys.readouterr().out.strip()
    for made in ("data/shapes/manifest.json", "runs/quickstart/curves.png", "recipe.schema.json"):
        assert (tmp_path / made).is_file(), made
    assert list(tmp_path.rglob("*merge*.png"))


def test_every_other_command_names_what_exists() -> None:
    for words in (words for words in lines() if words[0] != "composer"):
        if words[0] == "make":
            made = subprocess.run(["make", "-n", words[1]], cwd=ROOT, capture_output=True, text=True)
            assert made.returncode == 0
            # A second time it goes on: a new run would be refused.
            assert made.stdout.count("composer fit") == len(re.findall("composer fit .*--ckpt_path last", made.stdout))
        elif words[:2] == ["pip", "install"]:
            assert (ROOT / words[-1] / "pyproject.toml").is_file()
        else:
            assert words[0] in ("python", ".")


def test_every_yaml_block_is_a_recipe(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        (tmp_path / "block.yaml").write_text(block)
        recipes = [str(ROOT / "recipes/quickstart.yaml"), str(tmp_path / "block.yaml")]
        assert main(["config", "check", *recipes]) == 0, capsys.readouterr().err
