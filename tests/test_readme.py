"""Every command that the README shows is run, in its order, on a small data set and for two steps."""

import re
import subprocess
from pathlib import Path

import pytest

from composer.cli import main
from tests.readme_commands import MADE, ROOT, commands, run_all, run_python


def test_every_composer_command_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    count = 0
    for words, status in run_all():
        assert status == 0, " ".join(words)
        if words[0] == "ask":
            assert capsys.readouterr().out.strip()
        count += 1
    assert count > 15
    capsys.readouterr()
    run_python()
    assert capsys.readouterr().out.strip()
    for made in MADE:
        assert (tmp_path / made).is_file(), made
    assert list(tmp_path.rglob("*merge*.png"))


def test_every_other_command_names_what_exists() -> None:
    for words in (words for words in commands() if words[0] != "composer"):
        if words[0] == "make":
            made = subprocess.run(["make", "-n", words[1]], cwd=ROOT, capture_output=True, text=True)
            assert made.returncode == 0
            # A second time it resumes: a new run would be refused.
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
