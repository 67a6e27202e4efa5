"""Help of every command: one style of names for values, `-o` wherever a command writes to a place of choice."""

import argparse
import re
from collections.abc import Iterator

import pytest

from composer.cli import COMMANDS, _module, main


def actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                yield from actions(below)
        yield action


@pytest.mark.parametrize("command", COMMANDS)
def test_values_have_upper_case_names_and_output_its_short_form(command: str) -> None:
    module = _module(command)
    parser = getattr(module, "Parser", argparse.ArgumentParser)(prog=command)
    module.configure(parser)
    for action in actions(parser):
        if action.nargs != 0 and not (action.choices and action.option_strings):
            assert re.fullmatch(r"[A-Z]+(,[A-Z]+,\.\.\.)?", str(action.metavar)), (command, action)
        assert ("--output" in action.option_strings) == ("-o" in action.option_strings)


def test_top_help_says_what_it_is_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "Build multimodal LLMs from plugins; train, evaluate and query them.\n" in capsys.readouterr().err
