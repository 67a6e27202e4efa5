"""Lookup and construction of the installed components. Does not import torch.

A component is compared by its canonical name: its bare name, or `distribution/name` if several distributions provide
the bare name. Files contain `distribution/name`, which stays unique if more distributions are installed.
"""

import difflib
import importlib
import inspect
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache, partial
from importlib.metadata import PackageNotFoundError, entry_points, version
from pathlib import PurePath
from typing import Any, TypeVar

from composer.discovery import Plugin, Provider, discover, stdout_to_stderr
from composer.errors import ComposerError, PluginError
from composer.plugin import ENTRY_POINT_GROUP, KINDS, Kind, SlotConfig

T = TypeVar("T")

_BASES: dict[Kind, tuple[str, ...]] = {
    "encoder": ("composer.parts:Encoder",),
    "reducer": ("composer.parts:Reducer", "composer.parts:BlockReducer"),
    "projector": ("composer.parts:Projector",),
    "backbone": ("composer.parts:Backbone",),
    "reader": ("composer.reader:Reader",),
    "benchmark": ("composer.benchmark:Benchmark",),
}
"""Base classes of each kind, as names: `composer.parts` imports torch."""


class Registry:
    """The components that plugins provide.

    Attributes:
        plugins: All plugins, including broken ones.
        providers: All valid components, in the order of `KINDS`, then by name.
    """

    def __init__(self, plugins: Sequence[Plugin], providers: Iterable[Provider]) -> None:
        self.plugins = tuple(plugins)
        self.providers = tuple(sorted(providers, key=lambda p: (KINDS.index(p.component.kind), p.qualified_name)))

    @property
    def broken(self) -> list[Plugin]:
        """Plugins with a problem."""
        return [plugin for plugin in self.plugins if plugin.problem]

    def of(self, kind: Kind) -> list[Provider]:
        """Return the providers of a kind, sorted by name."""
        return [provider for provider in self.providers if provider.component.kind == kind]

    def names(self, kind: Kind) -> list[str]:
        """Return the bare names of the components of a kind."""
        return sorted({provider.component.name for provider in self.of(kind)})

    def selectable(self, kind: Kind) -> list[str]:
        """Return the canonical name of each component of a kind."""
        return [self.aliases(provider)[0] for provider in self.of(kind)]

    def aliases(self, provider: Provider) -> tuple[str, ...]:
        """Return the names that select a component, the canonical one first.

        The bare name is one of them if no other component has it.
        """
        shared = len(self.matches(provider.component.kind, provider.component.name)) > 1
        return (provider.qualified_name,) if shared else (provider.component.name, provider.qualified_name)

    def canonical_name(self, kind: Kind, name: str) -> str:
        """Return a component's canonical name; a name of none or several components is returned unchanged."""
        matches = self.matches(kind, name)
        return self.aliases(matches[0])[0] if len(matches) == 1 else name

    def qualified_name(self, kind: Kind, name: str) -> str:
        """Return `distribution/name`, for files; a name of none or several components is returned unchanged."""
        matches = self.matches(kind, name)
        return matches[0].qualified_name if len(matches) == 1 else name

    def matches(self, kind: Kind, name: str) -> list[Provider]:
        """Return the providers that match `name` or `distribution/name`."""
        return [provider for provider in self.of(kind) if provider.answers_to(name)]

    def find(self, kind: Kind, name: str) -> Provider:
        """Return the provider of a component.

        Args:
            kind: Kind of the component.
            name: `name` or `distribution/name`.

        Raises:
            PluginError: If no component has this name (suggests similar names and lists broken plugins), or several do.
        """
        matches = self.matches(kind, name)
        if len(matches) == 1:
            return matches[0]
        if matches:
            choices = " or ".join(p.qualified_name for p in matches)
            raise PluginError(
                f"{kind} {name!r} is provided by {' and by '.join(str(p.plugin) for p in matches)}: "
                f"use {choices}, or uninstall one of them"
            )
        raise PluginError(self._unknown(kind, name))

    def build(
        self, kind: Kind, config: SlotConfig, *, resolved: Mapping[str, object] | None = None, **from_neighbors: object
    ) -> Any:
        """Import a component's target and call it.

        Args:
            kind: Kind of the component.
            config: Options of the component.
            resolved: What a checkpoint stores of the part beyond its options (`composer.parts.Part.resolved`).
            from_neighbors: Keyword arguments that depend on other components, for example sizes.

        Returns:
            An instance of the base class of this kind.

        Raises:
            PluginError: If a requirement is missing, or the target cannot be imported, does not accept the arguments,
                raises an error other than ComposerError, or returns an object of a different class.
        """
        provider = self.find(kind, config.name)
        target = load_target(provider)
        options = {option: getattr(config, option) for option in type(config).model_fields if option != "name"}
        where = f"{provider}: its target {provider.component.target}"
        if missing := getattr(target, "__abstractmethods__", None):
            raise PluginError(f"{where} does not implement {', '.join(sorted(missing))}: add the missing methods")
        stored = {} if resolved is None else {"resolved": resolved}
        try:
            inspect.signature(target).bind(**options, **from_neighbors, **stored)
        except TypeError as error:
            raise PluginError(
                f"{where} cannot be called with {', '.join((*options, *from_neighbors, *stored))}: {error}. It must "
                "accept its component's options and the arguments of its kind (docs/plugins.md) as keyword arguments"
            ) from error
        part = call_target(partial(target, **stored), where, **options, **from_neighbors)
        bases = [getattr(importlib.import_module(module), name) for module, name in map(_split, _BASES[kind])]
        if not isinstance(part, tuple(bases)):
            raise PluginError(
                f"{where} returned an object of class {type(part).__name__}, expected a subclass of "
                f"{' or '.join(_BASES[kind]).replace(':', '.')}"
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
        text += f" Installed: {', '.join(names) or 'none'}"
        if self.broken:
            text += f". Broken plugins: {'; '.join(f'{p.name} of {p} ({p.problem})' for p in self.broken)}"
        return text


def is_installed(distribution: str) -> bool:
    """Return whether a distribution is installed."""
    try:
        version(distribution)
    except (PackageNotFoundError, ValueError):
        return False
    return True


@cache
def load_registry() -> Registry:
    """Discover all installed plugins, once per process. Broken ones are recorded with their problem."""
    return Registry(*discover(entry_points(group=ENTRY_POINT_GROUP)))


def load_target(provider: Provider, target: str | None = None) -> Any:
    """Import the target of a component.

    Args:
        provider: Provider of the component.
        target: Another `package.module:name` of its plugin; None for the component's own target.

    Returns:
        The imported object.

    Raises:
        PluginError: If a requirement is missing, torch and torchvision do not match, or the import fails.
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
            f"{provider} cannot be imported: torch {version('torch')} and torchvision {version('torchvision')} are "
            "different builds (for example a CPU-only torch with the default torchvision): install both from one "
            "index with `pip install --force-reinstall torch torchvision`"
        ) from error


def call_target(target: Callable[..., T], where: str, *arguments: object, **options: object) -> T:
    """Call a target.

    Args:
        target: The callable.
        where: Component and target, for error messages.
        arguments: Positional arguments.
        options: Keyword arguments.

    Returns:
        The target's result.

    Raises:
        ComposerError: As raised by the target.
        PluginError: If the target raises any other error, with the arguments and the line of the error.
    """
    try:
        with stdout_to_stderr():
            return target(*arguments, **options)
    except ComposerError:
        raise
    except Exception as error:
        values = [*map(_format, arguments), *(f"{name}={_format(value)}" for name, value in options.items())]
        last = traceback.extract_tb(error.__traceback__)[-1]
        raise PluginError(
            f"{where} failed with {', '.join(values) or 'no options'}: {type(error).__name__}: {error} "
            f"({last.filename}:{last.lineno}). Change these options, or report this to the authors of the plugin"
        ) from error


def _format(value: object) -> str:
    """Text of a value for messages: plain values, or the class of others."""
    plain = isinstance(value, str | int | float | bool | tuple | list | dict | None)
    return repr(value) if plain else str(value) if isinstance(value, PurePath) else type(value).__name__


def _split(target: str) -> tuple[str, str]:
    """Module and name of `package.module:name`."""
    module, _, name = target.partition(":")
    return module, name
