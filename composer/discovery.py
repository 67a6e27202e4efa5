"""Discovery and validation of installed plugins; a broken plugin does not affect others. Does not import torch.

Unlike pluggy's own loop, this one does not silently skip a second distribution with the same entry-point name, does not
let a broken plugin hide later ones, and reports misspelled hooks.
"""

import os
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from importlib.metadata import EntryPoint, PackageNotFoundError, version

import pluggy
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from composer.errors import PluginError
from composer.plugin import HEAVY, KINDS, PROJECT, RESERVED, Component, ComponentConfig, HookSpec, SlotConfig

_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_TARGET = re.compile(r"[\w.]+:\w+")

_LIGHT = "import it only in target modules"


@dataclass(frozen=True)
class Plugin:
    """One entry point of the group `composer.plugins`.

    Attributes:
        name: Name of the entry point.
        distribution: Distribution that provides it.
        version: Version of the distribution.
        problem: Why the plugin is broken; None if it works.
        warning: What the plugin should not do; None if nothing.
    """

    name: str
    distribution: str
    version: str
    problem: str | None = None
    warning: str | None = None

    def __str__(self) -> str:
        return f"{self.distribution} {self.version}"


@dataclass(frozen=True)
class Provider:
    """A component and the plugin that provides it."""

    component: Component
    plugin: Plugin

    def __str__(self) -> str:
        return f"{self.component.kind} {self.component.name!r} ({self.plugin})"

    @property
    def qualified_name(self) -> str:
        """`distribution/name`, unique to this provider."""
        return f"{self.plugin.distribution}/{self.component.name}"

    def answers_to(self, name: str) -> bool:
        """Return whether `name` is its bare or qualified name. Distribution names are normalized as in pip."""
        distribution, slash, own = name.rpartition("/")
        same = not slash or canonicalize_name(distribution) == canonicalize_name(self.plugin.distribution)
        return same and own == self.component.name

    def missing(self) -> list[str]:
        """Return its requirements that are not installed."""
        return [text for text in self.component.requires if not _is_met(Requirement(text))]

    @property
    def status(self) -> str:
        """`ok`, `slow` if the plugin has a warning, or the command that installs what is missing."""
        missing = self.missing()
        if missing:
            return f"pip install {' '.join(map(repr, missing))}"
        return "slow" if self.plugin.warning else "ok"


def discover(points: Iterable[EntryPoint]) -> tuple[list[Plugin], list[Provider]]:
    """Load and check plugins.

    Args:
        points: Entry points of the group `composer.plugins`.

    Returns:
        All plugins, and the components of those that are not broken.
    """
    plugins: list[Plugin] = []
    providers: list[Provider] = []
    for point in sorted(points, key=lambda point: (point.dist.name if point.dist else "", point.name)):
        distribution, number = (point.dist.name, point.dist.version) if point.dist else ("unknown", "0")
        loaded = sys.modules.keys() & set(HEAVY)
        try:
            with stdout_to_stderr():
                components = _components(point.load())
        except (Exception, SystemExit) as error:
            problem = str(error) if isinstance(error, PluginError) else f"{type(error).__name__}: {error}"
            plugins.append(Plugin(point.name, distribution, number, problem))
            continue
        heavy = [name for name in HEAVY if name in sys.modules and name not in loaded]
        warning = f"importing it imports {', '.join(heavy)}, which slows every command: {_LIGHT}" if heavy else None
        plugin = Plugin(point.name, distribution, number, warning=warning)
        plugins.append(plugin)
        providers.extend(Provider(component, plugin) for component in components)
    return plugins, providers


@contextmanager
def stdout_to_stderr() -> Iterator[None]:
    """Redirect a plugin's output to stderr, including the file descriptor: stdout is for a command's result."""
    try:
        saved = os.dup(1)
    except OSError:  # closed
        saved = -1
    try:
        if saved >= 0:
            sys.stdout.flush()
            os.dup2(2, 1)
        with redirect_stdout(sys.stderr):
            yield
    finally:
        if saved >= 0:
            sys.stdout.flush()
            os.dup2(saved, 1)
            os.close(saved)


def _components(module: object) -> list[Component]:
    """Components of one plugin. Raises PluginError or the plugin's own error if it is broken."""
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(HookSpec)
    manager.register(module)
    manager.check_pending()
    results = manager.hook.composer_components()
    if not results:
        raise PluginError("it has no function composer_components, marked @hookimpl, that returns components")
    components = list(results[0])
    for component in components:
        _check(component)
    keys = [(component.kind, component.name) for component in components]
    if duplicates := {key for key in keys if keys.count(key) > 1}:
        raise PluginError(f"it provides {', '.join(f'{kind} {name!r}' for kind, name in sorted(duplicates))} twice")
    return components


def _check(component: object) -> None:
    if not isinstance(component, Component):
        raise PluginError(f"composer_components returned {component!r}, expected composer.plugin.Component")
    subject = f"component {component.name!r}"
    if component.kind not in KINDS:
        raise PluginError(f"{subject} has kind {component.kind!r}, expected one of {', '.join(KINDS)}")
    if not isinstance(component.name, str) or not _NAME.fullmatch(component.name):
        raise PluginError(f"{subject}: its name must consist of lower-case letters, digits and hyphens")
    if not (isinstance(component.config, type) and issubclass(component.config, ComponentConfig)):
        raise PluginError(f"{subject}: its config is not a subclass of composer.plugin.ComponentConfig")
    if "name" in component.config.model_fields:
        raise PluginError(f"{subject}: an option cannot be named 'name', which is the component's own: rename it")
    _check_options(component)
    if not _TARGET.fullmatch(component.target):
        raise PluginError(f"{subject}: got the target {component.target!r}, expected 'package.module:callable'")
    for text in component.requires:
        Requirement(text)


def _check_options(component: Component) -> None:
    """Raises PluginError if the name of an option is reserved."""
    reserved = RESERVED[component.kind] | {name for name in vars(SlotConfig) if not name.startswith("_")}
    if clash := sorted(reserved & component.config.model_fields.keys()):
        raise PluginError(
            f"component {component.name!r}: options of kind {component.kind} cannot be named "
            f"{' or '.join(map(repr, clash))}, which composer sets itself: rename it"
        )


def _is_met(requirement: Requirement) -> bool:
    if requirement.marker and not requirement.marker.evaluate():
        return True
    try:
        return requirement.specifier.contains(version(requirement.name), prereleases=True)
    except PackageNotFoundError:
        return False
