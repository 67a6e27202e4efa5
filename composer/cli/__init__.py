"""The command line. A command is a light module that is imported only when it, or its help, is asked for."""

import argparse
import importlib
import os
import select
import sys
from collections.abc import Sequence
from types import ModuleType

import composer
from composer.atomic import writing
from composer.errors import ComposerError, ConfigError
from composer.recipe.explain import nearest

COMMANDS = (
    "plan",
    "run",
    "data",
    "ask",
    "evaluate",
    "sweep",
    "plot",
    "visualize-merge",
    "convert",
    "plugins",
    "config",
    "recipes",
)
"""Each is a module `composer.cli.<command>` with `SUMMARY`, `configure(parser)` and `run(args) -> exit status`.

A module may bring a `Parser` of its own where argparse cannot know all flags.
"""

LIGHTNING_COMMANDS = {
    "fit": "Train a model.",
    "validate": "Measure a model on the validation data.",
    "test": "Measure a model on the held-out data.",
    "predict": "Write a model's answers to a JSONL file.",
}
"""Handled by `composer.cli.fit.command`, which reads its own arguments."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status.

    An error that the user can fix is printed without a traceback; any other is a defect and keeps its own.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        with writing():
            status = _dispatch(arguments)
            sys.stdout.flush()
            return status
    except ComposerError as error:
        sys.stderr.write(f"composer: {error}\n")
        return error.exit_status
    except BrokenPipeError:
        if not _reader_is_gone():
            raise
        return 141  # as a shell has it for SIGPIPE
    except KeyboardInterrupt:
        return 130


def _reader_is_gone() -> bool:
    """Whether the process that reads stdout, such as `head`, has ended. Nothing more is written to it then."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    gone = any(event & select.POLLERR for _, event in poll.poll(0))
    if gone:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return gone


def _dispatch(arguments: list[str]) -> int:
    command, *rest = arguments or [""]
    if command in LIGHTNING_COMMANDS:
        from composer.cli.fit import command as lightning

        return lightning.run(command, LIGHTNING_COMMANDS[command], rest)
    if command in COMMANDS:
        module = _module(command)
        parser_class = getattr(module, "Parser", argparse.ArgumentParser)
        parser = parser_class(prog=f"composer {command}", description=module.SUMMARY)
        module.configure(parser)
        return int(module.run(parser.parse_args(rest)))
    parser = _top_level()
    if command.startswith("-"):
        parser.parse_args(arguments)
    if command:
        raise ConfigError(f"unknown command {command!r}{nearest(command, (*LIGHTNING_COMMANDS, *COMMANDS))}")
    parser.print_help(sys.stderr)
    return 2


def _top_level() -> argparse.ArgumentParser:
    summaries = LIGHTNING_COMMANDS | {name: _module(name).SUMMARY for name in COMMANDS}
    width = max(map(len, summaries))
    listing = "\n".join(f"  {name:<{width}}  {summary}" for name, summary in summaries.items())
    parser = argparse.ArgumentParser(
        prog="composer",
        usage="composer [--version] COMMAND ...",
        description=f"Build multimodal LLMs from plugins; train, evaluate and query them.\n\ncommands:\n{listing}",
        epilog="`composer COMMAND --help` says more.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"composer {composer.__version__}")
    return parser


def _module(command: str) -> ModuleType:
    return importlib.import_module(f"composer.cli.{command.replace('-', '_')}")
