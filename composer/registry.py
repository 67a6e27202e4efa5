"""The installed components: guarded discovery, look-up by name, and building. No torch here.

Discovery is our own loop and not pluggy's, which skips a second distribution with the same entry-point name in
silence, lets one broken plugin hide all later ones, and never calls a misspelt hook.
"""

import difflib
import importlib
import inspect
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, PackageNotFoundError, entry_points, version
from typing import Any

import pluggy
from packaging.requirements import Requirement

from composer.config import SlotConfig
from composer.errors import PluginError
from composer.plugin import ENTRY_POINT_GROUP, KINDS, PROJECT, Component, ComponentConfig, HookSpec, Kind

_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_TARGET = re.compile(r"[\w.]+:\w+")
_BASES: dict[Kind, tuple[str, ...]] = {
    "encoder": ("composer.parts:Encoder",),
    "reducer": ("composer.parts:Reducer", "composer.parts:BlockReducer"),
    "projector": ("composer.parts:Projector",),
    "backbone": ("composer.parts:Backbone",),
    "reader": ("composer.reader:Reader",),
    "benchmark": ("composer.benchmark:Benchmark",),
}
"""What a part of each kind is, by name: `composer.parts` needs torch."""


@dataclass(frozen=True)
class Plugin:
    """One entry point of the group `composer.plugins`. `problem` says why it is broken; None while it is not."""

    name: str
    distribution: str
    version: str
    problem: str | None = None

    def __str__(self) -> str:
        return f"{self.distribution} {self.version}"


@dataclass(frozen=True)
class Provider:
    """A component and the plugin that offers it."""

    component: Component
    plugin: Plugin

    def __str__(self) -> str:
        return f"{self.component.kind} {self.component.name!r} ({self.plugin})"

    @property
    def qualified_name(self) -> str:
        """`distribution/name`, which no two providers share."""
        return f"{self.plugin.distribution}/{self.component.name}"

    def missing(self) -> list[str]:
        """Its requirements that this Python does not meet."""
        return [text for text in self.component.requires if not _met(Requirement(text))]

    @property
    def status(self) -> str:
        """`ok`, or the one line that mends it."""
        missing = self.missing()
        return f"pip install {' '.join(map(repr, missing))}" if missing else "ok"


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
        """What selects each component of this kind: its name, or its qualified name where several share the name."""
        names = [provider.component.name for provider in self.of(kind)]
        return [p.qualified_name if names.count(p.component.name) > 1 else p.component.name for p in self.of(kind)]

    def find(self, kind: Kind, name: str) -> Provider:
        """The provider of a component, by `name` or `distribution/name`.

        Raises PluginError where none is installed (with the nearest names and the broken plugins), or several are.
        """
        found = [p for p in self.of(kind) if name in (p.component.name, p.qualified_name)]
        if len(found) == 1:
            return found[0]
        if found:
            choices = " or ".join(p.qualified_name for p in found)
            raise PluginError(
                f"{kind} {name!r} is provided by {' and by '.join(str(p.plugin) for p in found)}: "
                f"name one of them, {choices}, or uninstall one."
            )
        raise PluginError(self._unknown(kind, name))

    def build(self, kind: Kind, config: SlotConfig, **from_neighbours: Any) -> Any:
        """Import a component's target and call it with its options and with what follows from its neighbours.

        Raises PluginError where a requirement is missing, or the target cannot be imported, does not take these
        arguments, or gives no part of this kind.
        """
        provider = self.find(kind, config.name)
        target = load_target(provider)
        options = {option: getattr(config, option) for option in type(config).model_fields if option != "name"}
        where = f"{provider}: its target {provider.component.target}"
        if missing := getattr(target, "__abstractmethods__", None):
            raise PluginError(f"{where} does not implement {', '.join(sorted(missing))}: add what is missing.")
        try:
            inspect.signature(target).bind(**options, **from_neighbours)
        except TypeError as error:  # of this call; one from inside the target is a defect and keeps its traceback
            raise PluginError(
                f"{where} cannot be called with {', '.join((*options, *from_neighbours))}: {error}. It must take its "
                "component's options and what composer adds for its kind (docs/plugins.md) as keyword arguments."
            ) from error
        part = target(**options, **from_neighbours)
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
        text += f" Installed: {', '.join(names) or 'none'}."
        if self.broken:
            text += f" Broken plugins: {'; '.join(f'{p.name} of {p} ({p.problem})' for p in self.broken)}."
        return text


@cache
def load_registry() -> Registry:
    """Discover every installed plugin once. A broken one is recorded with its problem and hides nothing else."""
    return discover(entry_points(group=ENTRY_POINT_GROUP))


def discover(found: Iterable[EntryPoint]) -> Registry:
    """The registry of these entry points."""
    plugins: list[Plugin] = []
    providers: list[Provider] = []
    for point in sorted(found, key=lambda point: (point.dist.name if point.dist else "", point.name)):
        distribution, number = (point.dist.name, point.dist.version) if point.dist else ("unknown", "0")
        try:
            components = _components(point.load())
        except (Exception, SystemExit) as error:
            problem = str(error) if isinstance(error, PluginError) else f"{type(error).__name__}: {error}"
            plugins.append(Plugin(point.name, distribution, number, problem))
            continue
        plugin = Plugin(point.name, distribution, number)
        plugins.append(plugin)
        providers.extend(Provider(component, plugin) for component in components)
    return Registry(plugins, providers)


def load_target(provider: Provider, target: str | None = None) -> Any:
    """Import what builds a component, or another `target` of its plugin.

    Raises PluginError where a requirement is missing, or torch and torchvision do not match, or the import fails.
    """
    if missing := provider.missing():
        raise PluginError(f"{provider} needs {', '.join(missing)}: {provider.status}")
    module, attribute = _split(target or provider.component.target)
    try:
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


def _split(target: str) -> tuple[str, str]:
    """`package.module:name` as its two halves."""
    module, _, name = target.partition(":")
    return module, name


def _components(module: object) -> list[Component]:
    """The components of one plugin, checked. Raises whatever is wrong with it."""
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(HookSpec)
    manager.register(module)
    manager.check_pending()
    answers = manager.hook.composer_components()
    if not answers:
        raise PluginError("it has no function composer_components, marked @hookimpl, that returns components.")
    components = list(answers[0])
    for component in components:
        _check(component)
    keys = [(component.kind, component.name) for component in components]
    if twice := {key for key in keys if keys.count(key) > 1}:
        raise PluginError(f"it offers {', '.join(f'{kind} {name!r}' for kind, name in sorted(twice))} twice.")
    return components


def _check(component: object) -> None:
    if not isinstance(component, Component):
        raise PluginError(f"composer_components gave {component!r}, which is not a composer.plugin.Component.")
    who = f"component {component.name!r}"
    if component.kind not in KINDS:
        raise PluginError(f"{who} is of kind {component.kind!r}; kinds are {', '.join(KINDS)}.")
    if not isinstance(component.name, str) or not _NAME.fullmatch(component.name):
        raise PluginError(f"{who}: a name is lower-case letters, digits and hyphens.")
    if not (isinstance(component.config, type) and issubclass(component.config, ComponentConfig)):
        raise PluginError(f"{who}: its config is not a subclass of composer.plugin.ComponentConfig.")
    if "name" in component.config.model_fields:
        raise PluginError(f"{who}: no option can be called 'name', which is the component's own.")
    if not _TARGET.fullmatch(component.target):
        raise PluginError(f"{who}: its target {component.target!r} is not 'package.module:callable'.")
    for text in component.requires:
        Requirement(text)


def _met(requirement: Requirement) -> bool:
    if requirement.marker and not requirement.marker.evaluate():
        return True
    try:
        return requirement.specifier.contains(version(requirement.name), prereleases=True)
    except PackageNotFoundError:
        return False
