"""The installed components: look-up by name, and building. No torch here.

A component has one canonical name, by which everything compares it: its bare name, or `distribution/name` if several
distributions offer the bare one. Files keep `distribution/name`, which another installation does not make ambiguous.
"""

import difflib
import importlib
import inspect
import traceback
from collections.abc import Iterable, Sequence
from functools import cache, partial
from importlib.metadata import PackageNotFoundError, entry_points, version
from pathlib import PurePath
from typing import Any

from composer.discovery import Plugin, Provider, discover, stdout_to_stderr
from composer.errors import ComposerError, PluginError
from composer.plugin import ENTRY_POINT_GROUP, KINDS, Kind, SlotConfig

_BASES: dict[Kind, tuple[str, ...]] = {
    "encoder": ("composer.parts:Encoder",),
    "reducer": ("composer.parts:Reducer", "composer.parts:BlockReducer"),
    "projector": ("composer.parts:Projector",),
    "backbone": ("composer.parts:Backbone",),
    "reader": ("composer.reader:Reader",),
    "benchmark": ("composer.benchmark:Benchmark",),
}
"""What a part of each kind is, by name: `composer.parts` needs torch."""


class Registry:
    """What plugins offer.

    providers: every valid component, in the order of `KINDS`, then by name. plugins: every entry point, broken ones
    with their problem.
    """

    def __init__(self, plugins: Sequence[Plugin], providers: Iterable[Provider]) -> None:
        self.plugins = tuple(plugins)
        self.providers = tuple(sorted(providers, key=lambda p: (KINDS.index(p.component.kind), p.qualified_name)))

    @property
    def broken(self) -> list[Plugin]:
        return [plugin for plugin in self.plugins if plugin.problem]

    def of(self, kind: Kind) -> list[Provider]:
        """The providers of a kind, by name."""
        return [provider for provider in self.providers if provider.component.kind == kind]

    def names(self, kind: Kind) -> list[str]:
        """Names that a recipe can use for this kind."""
        return sorted({provider.component.name for provider in self.of(kind)})

    def selectable(self, kind: Kind) -> list[str]:
        """The canonical name of each component of this kind."""
        return [self.aliases(provider)[0] for provider in self.of(kind)]

    def aliases(self, provider: Provider) -> tuple[str, ...]:
        """The names that select a component, the canonical one first: its bare name if no other component has it, and
        its qualified name."""
        shared = len(self.matches(provider.component.kind, provider.component.name)) > 1
        return (provider.qualified_name,) if shared else (provider.component.name, provider.qualified_name)

    def canonical_name(self, kind: Kind, name: str) -> str:
        """The one name of a component in this process; a name that selects none, or several, stays as it is."""
        matches = self.matches(kind, name)
        return self.aliases(matches[0])[0] if len(matches) == 1 else name

    def qualified_name(self, kind: Kind, name: str) -> str:
        """The name of a component in files, the same whatever else is installed later; others as `canonical_name`."""
        matches = self.matches(kind, name)
        return matches[0].qualified_name if len(matches) == 1 else name

    def matches(self, kind: Kind, name: str) -> list[Provider]:
        """The providers that `name` or `distribution/name` may mean."""
        return [provider for provider in self.of(kind) if provider.answers_to(name)]

    def find(self, kind: Kind, name: str) -> Provider:
        """The provider of a component, by `name` or `distribution/name`.

        Raises PluginError if none is installed (with the nearest names and the broken plugins), or several are.
        """
        matches = self.matches(kind, name)
        if len(matches) == 1:
            return matches[0]
        if matches:
            choices = " or ".join(p.qualified_name for p in matches)
            raise PluginError(
                f"{kind} {name!r} is provided by {' and by '.join(str(p.plugin) for p in matches)}: "
                f"name one of them, {choices}, or uninstall one."
            )
        raise PluginError(self._unknown(kind, name))

    def build(
        self, kind: Kind, config: SlotConfig, *, resolved: dict[str, Any] | None = None, **from_neighbours: Any
    ) -> Any:
        """Import a component's target and call it with its options, with what follows from its neighbors, and with
        what a checkpoint has `resolved` of it, if anything.

        Raises PluginError if a requirement is missing, or the target cannot be imported, does not take these
        arguments, raises anything but a ComposerError, or gives no part of this kind.
        """
        provider = self.find(kind, config.name)
        target = load_target(provider)
        options = {option: getattr(config, option) for option in type(config).model_fields if option != "name"}
        where = f"{provider}: its target {provider.component.target}"
        if missing := getattr(target, "__abstractmethods__", None):
            raise PluginError(f"{where} does not implement {', '.join(sorted(missing))}: add what is missing.")
        stored = {} if resolved is None else {"resolved": resolved}
        try:
            inspect.signature(target).bind(**options, **from_neighbours, **stored)
        except TypeError as error:
            raise PluginError(
                f"{where} cannot be called with {', '.join((*options, *from_neighbours, *stored))}: {error}. It must "
                "take its component's options and what composer adds (docs/plugins.md) as keyword arguments."
            ) from error
        part = call_target(partial(target, **stored), where, **options, **from_neighbours)
        bases = [getattr(importlib.import_module(module), name) for module, name in map(_split, _BASES[kind])]
        if not isinstance(part, tuple(bases)):
            raise PluginError(
                f"{where} gave an object of class {type(part).__name__}, expected a subclass of "
                f"{' or '.join(_BASES[kind]).replace(':', '.')}."
            )
        return part

    def _unknown(self, kind: Kind, name: str) -> str:
        names = self.names(kind)
        near = difflib.get_close_matches(name, names, 1)
        text = f"unknown {kind} {name!r}"
        text += f": did you mean {near[0]!r}?" if near else "."
        distribution = name.rpartition("/")[0]
        if distribution and not is_installed(distribution):
            text += f" The distribution {distribution} is not installed: pip install {distribution}."
        text += f" Installed: {', '.join(names) or 'none'}."
        if self.broken:
            text += f" Broken plugins: {'; '.join(f'{p.name} of {p} ({p.problem})' for p in self.broken)}."
        return text


def is_installed(distribution: str) -> bool:
    """Whether a distribution of this name is installed."""
    try:
        version(distribution)
    except (PackageNotFoundError, ValueError):
        return False
    return True


@cache
def load_registry() -> Registry:
    """Discover every installed plugin once. A broken one is recorded with its problem and hides nothing else."""
    return Registry(*discover(entry_points(group=ENTRY_POINT_GROUP)))


def load_target(provider: Provider, target: str | None = None) -> Any:
    """Import what builds a component, or another `target` of its plugin.

    Raises PluginError where a requirement is missing, or torch and torchvision do not match, or the import fails.
    """
    if missing := provider.missing():
        raise PluginError(f"{provider} needs {', '.join(missing)}: {provider.status}")
    module, attribute = _split(target or provider.component.target)
    try:
        with stdout_to_stderr():
            return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise PluginError(f"{provider} cannot be imported: {error}") from error
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
        raise PluginError(
            f"{provider} cannot be imported: torch {version('torch')} and torchvision {version('torchvision')} are not "
            "of one build (a CPU-only torch beside the index's torchvision): take both from one index with "
            "`pip install --force-reinstall torch torchvision`."
        ) from error


def call_target(target: Any, where: str, *arguments: Any, **options: Any) -> Any:
    """What a target gives. Raises PluginError if it raises anything but a ComposerError.

    where: names component and target in the error, which also has the arguments, the options and the line.
    """
    try:
        with stdout_to_stderr():
            return target(*arguments, **options)
    except ComposerError:
        raise
    except Exception as error:
        values = [*map(_shown, arguments), *(f"{name}={_shown(value)}" for name, value in options.items())]
        last = traceback.extract_tb(error.__traceback__)[-1]
        raise PluginError(
            f"{where} failed with {', '.join(values) or 'no options'}: {type(error).__name__}: {error} "
            f"({last.filename}:{last.lineno}). Change these options, or report it to the authors of the plugin"
        ) from error


def _shown(value: object) -> str:
    """A value in a message: plain ones as they are, of others the class."""
    plain = isinstance(value, str | int | float | bool | tuple | list | dict | None)
    return repr(value) if plain else str(value) if isinstance(value, PurePath) else type(value).__name__


def _split(target: str) -> tuple[str, str]:
    """`package.module:name` as its two halves."""
    module, _, name = target.partition(":")
    return module, name
