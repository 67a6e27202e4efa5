"""The table of commands, exit statuses, and answers that need no torch."""

from pathlib import Path

import pytest

import composer
from composer.cli import COMMANDS, LIGHTNING_COMMANDS, main
from composer.errors import CheckpointError
from tests.composer.cli.light import run


def test_help_lists_every_command_with_its_summary() -> None:
    ran = run("--help")
    assert (ran.status, ran.torch) == (0, False)
    for command in (*COMMANDS, *LIGHTNING_COMMANDS):
        (line,) = [line for line in ran.out.splitlines() if line.split()[:1] == [command]]
        assert line.endswith(".")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_without_torch(command: str) -> None:
    ran = run(command, "--help")
    assert (ran.status, ran.torch) == (0, False)
    assert f"usage: composer {command}" in ran.out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        main(["--version"])
    assert raised.value.code == 0
    assert capsys.readouterr().out == f"composer {composer.__version__}\n"


def test_no_command_prints_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "visualize-merge" in capsys.readouterr().err


def test_an_unknown_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fti"]) == 2
    assert capsys.readouterr().err == "composer: unknown command 'fti'; did you mean 'fit'?\n"


def test_errors_of_users_have_no_traceback_and_others_keep_theirs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails_with(error: BaseException) -> None:
        def run(args: object) -> int:
            raise error

        monkeypatch.setattr("composer.cli.plugins.run", run)

    fails_with(CheckpointError("It is truncated."))
    assert main(["plugins", "list"]) == 1
    assert capsys.readouterr().err == "composer: It is truncated.\n"
    fails_with(KeyboardInterrupt())
    assert main(["plugins", "list"]) == 130
    fails_with(ZeroDivisionError("a defect"))
    with pytest.raises(ZeroDivisionError):
        main(["plugins", "list"])


def test_python_m_composer(tmp_path: Path) -> None:
    import subprocess
    import sys

    command = [sys.executable, "-m", "composer", "plugins", "show", "tome"]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert ran.returncode == 0
    assert ran.stdout.startswith("reducer tome: ")
