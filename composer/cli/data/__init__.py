"""`composer data`: download, check, measure, pack and synthesize data. Each action is a module of this package."""

import argparse
from importlib import import_module
from types import ModuleType

SUMMARY = "Download, check, measure, pack or synthesize data."

ACTIONS = ("fetch", "check", "stats", "pack", "synthesize")
"""Each is a module with `SUMMARY`, `DESCRIPTION`, `configure(parser)` and `run(args) -> exit status`."""


def configure(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    for name in ACTIONS:
        action = _module(name)
        action.configure(actions.add_parser(name, help=action.SUMMARY, description=action.DESCRIPTION))


def run(args: argparse.Namespace) -> int:
    return int(_module(args.action).run(args))


def _module(action: str) -> ModuleType:
    return import_module(f"composer.cli.data.{action}")
