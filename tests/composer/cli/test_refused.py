"""Output that the system refuses to write: every command says so before its work, without a traceback."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from composer.cli import main

RECIPE = str(Path(__file__).parents[3] / "recipes/quickstart.yaml")

COMMANDS = {
    "fit": ["fit", "--config", RECIPE, "--trainer.default_root_dir={}"],
    "test": ["test", "--config", RECIPE, "--trainer.default_root_dir={}"],
    "predict": ["predict", "--config", RECIPE, "--trainer.default_root_dir={}"],
    "run": ["run", RECIPE, "--output", "{}"],
    "sweep": ["sweep", RECIPE, "--overlay", "evaluation.yaml", "--output", "{}"],
    "evaluate": ["evaluate", "no-such.ckpt", "mlvu", "--root=no-such", "--output", "{}"],
    "plot": ["plot", "no-such", "-o", "{}"],
    "visualize-merge": ["visualize-merge", "no-such.ckpt", "no-such.png", "-o", "{}"],
    "convert": ["convert", "rwkv7", "no-such.pth", "{}", "--to", "fla"],
    "config schema": ["config", "schema", "-o", "{}"],
    "data synthesize": ["data", "synthesize", "{}"],
    "data pack": ["data", "pack", "data.yaml", "-o", "{}"],
    "data stats": ["data", "stats", RECIPE, "-o", "{}"],
    "data check": ["data", "check", RECIPE, "--report", "{}"],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_it_is_said_before_the_work(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    Path("evaluation.yaml").write_text("evaluation: [{benchmark: mlvu, root: mlvu}]\n")
    Path("data.yaml").write_text("data: {sources: {a: {reader: {name: llava, path: a.jsonl}}}, train: a}\n")
    before = sorted(os.listdir())
    assert main([word.format("file/new/output") for word in COMMANDS[command]]) == 1
    captured = capsys.readouterr()
    assert captured.err.splitlines()[-1].startswith("composer: file")
    assert "Not a directory; expected a folder, got a file" in captured.err
    assert sorted(os.listdir()) == before


@pytest.mark.skipif(os.name != "posix" or os.getuid() != 0, reason="only root can become another user")
def test_a_folder_of_another_user(tmp_path: Path) -> None:
    path = tmp_path / "schema.json"
    assert main(["config", "schema", "-o", str(path)]) == 0  # imports everything while it can be read
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        sys.stderr = io.StringIO()
        try:
            os.setuid(65534)
            status = main(["config", "schema", "-o", str(path)])
            os.write(write, sys.stderr.getvalue().encode())
            os._exit(status)
        finally:
            os._exit(99)
    os.close(write)
    with os.fdopen(read) as pipe:
        said = pipe.read()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
    assert said.startswith("composer: ")
    assert str(tmp_path) in said
    assert "Permission denied; give another path, or change its permissions or owner" in said


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_of_stdout_that_has_ended_is_no_error(unbuffered: str) -> None:
    environment = os.environ | {"PYTHONUNBUFFERED": unbuffered}
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as gone:
        command = [sys.executable, "-m", "composer", "plugins", "list"]
        ran = subprocess.run(command, stdout=gone, stderr=subprocess.PIPE, text=True, env=environment)
    assert (ran.returncode, ran.stderr) == (141, "")
