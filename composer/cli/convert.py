"""`composer convert`: pretrained weights in another layout."""

import argparse
import sys
from pathlib import Path

from composer.atomic import check_writable
from composer.discovery import Provider
from composer.errors import ConfigError, PluginError
from composer.recipe.explain import nearest
from composer.registry import call_target, load_registry, load_target

SUMMARY = "Write a component's pretrained weights in another layout."


def configure(parser: argparse.ArgumentParser) -> None:
    offers = "; ".join(f"{p.component.name}: {', '.join(_layouts(p))}" for p in _converters())
    parser.epilog = f"Components and the layouts that they write: {offers or 'none'}."
    parser.add_argument("component", metavar="COMPONENT", help="whose weights they are")
    parser.add_argument("source", metavar="SOURCE", help="the weights, as its option `pretrained` names them")
    parser.add_argument("target", type=Path, metavar="TARGET", help="the file or folder to write; must not exist")
    parser.add_argument("--to", required=True, metavar="LAYOUT", help="one of the component's layouts, listed below")
    parser.add_argument("--revision", metavar="NAME", help="commit, tag or branch of SOURCE on the hub")


def run(args: argparse.Namespace) -> int:
    provider = _named(args.component)
    if args.to not in _layouts(provider):
        raise ConfigError(f"--to: got {args.to!r}; {args.component} writes {', '.join(_layouts(provider))}.")
    if args.target.exists():
        raise ConfigError(f"TARGET: {args.target} exists already: name another place, or remove it.")
    check_writable(args.target)
    converter = provider.component.converter
    assert converter is not None
    target = load_target(provider, converter.target)
    where = f"{provider}: its converter {converter.target}"
    call_target(target, where, args.source, args.target, args.to, args.revision)
    sys.stdout.write(f"{args.target}\n")
    return 0


def _converters() -> list[Provider]:
    return [provider for provider in load_registry().providers if provider.component.converter is not None]


def _named(name: str) -> Provider:
    """The component of this name that converts weights. Raises PluginError unless there is exactly one."""
    converters = _converters()
    matches = [provider for provider in converters if provider.answers_to(name)]
    if len(matches) > 1:
        choices = " or ".join(provider.qualified_name for provider in matches)
        raise PluginError(f"{name!r} is offered by {' and by '.join(map(str, matches))}: name one of them, {choices}")
    if not matches:
        names = [provider.component.name for provider in converters]
        instead = f"{nearest(name, names) or '.'} Components that do: {', '.join(names) or 'none'}."
        raise PluginError(f"{name!r} converts no weights{instead}")
    return matches[0]


def _layouts(provider: Provider) -> tuple[str, ...]:
    converter = provider.component.converter
    return () if converter is None else converter.layouts
