"""`composer plugins`: what is installed, and what it takes."""

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any

from composer.discovery import Plugin, Provider
from composer.errors import PluginError
from composer.plugin import KINDS
from composer.recipe.explain import nearest, type_name
from composer.registry import Registry, load_registry

SUMMARY = "List the installed components and their options."


def configure(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    listing = actions.add_parser("list", help="every installed component and every broken plugin")
    listing.add_argument("--kind", choices=KINDS, help="components of one kind")
    showing = actions.add_parser("show", help="a component's options: types, defaults, descriptions")
    showing.add_argument("name", metavar="NAME", help="a component: NAME or DISTRIBUTION/NAME")
    for action in (listing, showing):
        action.add_argument("--json", action="store_true", help="write JSON")


def run(args: argparse.Namespace) -> int:
    registry = load_registry()
    if args.action == "list":
        providers = [p for p in registry.providers if args.kind in (None, p.component.kind)]
        _print_list(providers, registry.plugins, as_json=args.json)
    else:
        _print_shown(_named(registry, args.name), as_json=args.json)
    return 0


def _print_list(providers: list[Provider], plugins: Sequence[Plugin], *, as_json: bool) -> None:
    broken, slow = [p for p in plugins if p.problem], [p for p in plugins if p.warning]
    if as_json:
        states = {"broken": [vars(plugin) for plugin in broken], "slow": [vars(plugin) for plugin in slow]}
        _print_json({"components": [_described(p) for p in providers], **states})
        return
    rows = [("KIND", "NAME", "DISTRIBUTION", "STATUS", "SUMMARY")]
    for p in providers:
        rows.append((p.component.kind, p.component.name, str(p.plugin), p.status, p.component.summary.rstrip(".")))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        _print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    for plugin in broken:
        _print(f"broken: {plugin.name} of {plugin}: {plugin.problem}")
    for plugin in slow:
        _print(f"slow: {plugin.name} of {plugin}: {plugin.warning}")


def _print_shown(providers: list[Provider], *, as_json: bool) -> None:
    if as_json:
        _print_json([_described(p) | {"options": _options(p)} for p in providers])
        return
    for provider in providers:
        component = provider.component
        _print(f"{component.kind} {component.name}: {component.summary}")
        _print(f"  {provider.plugin}, status: {provider.status}")
        for option in _options(provider):
            default = "required" if option["required"] else f"default {json.dumps(option['default'])}"
            _print(f"  {option['name']}: {option['type']}, {default}\n      {option['description']}")


def _named(registry: Registry, name: str) -> list[Provider]:
    """Every component of this name: different kinds, or different distributions, may share it."""
    found = [p for kind in KINDS for p in registry.matches(kind, name)]
    if not found:
        names = sorted({p.component.name for p in registry.providers})
        raise PluginError(
            f"unknown component {name!r}{nearest(name, names) or '.'} Installed: {', '.join(names) or 'none'}."
        )
    return found


def _described(provider: Provider) -> dict[str, object]:
    component = provider.component
    return {
        "kind": component.kind,
        "name": component.name,
        "summary": component.summary,
        "distribution": provider.plugin.distribution,
        "version": provider.plugin.version,
        "status": provider.status,
        "requires": list(component.requires),
        "in_blocks": component.in_blocks,
    }


def _options(provider: Provider) -> list[dict[str, object]]:
    config = provider.component.config
    properties = config.model_json_schema()["properties"] if config.model_fields else {}
    return [
        {
            "name": name,
            "type": type_name(field.annotation),
            "required": field.is_required(),
            "default": properties[name].get("default"),
            "description": field.description or "",
        }
        for name, field in config.model_fields.items()
    ]


def _print_json(value: Any) -> None:
    _print(json.dumps(value, indent=2))


def _print(text: str) -> None:
    sys.stdout.write(text + "\n")
